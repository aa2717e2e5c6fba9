# `make` lists the targets. PYTHON chooses the interpreter for the environment, UI=0 leaves JupyterLab out, JOBS is how many test
# processes work side by side.
.DEFAULT_GOAL := help
.PHONY: help run test soak bench pictures lint clean
SHELL := /bin/sh

PYTHON ?= python3
UI ?= 1
JOBS ?= 2
ROUNDS ?= 10
FAULTS ?= tests/faults tests/cluster/test_jobs.py $(patsubst %,tests/train/test_%.py,checkpoints checkpoints_runs diverged memory parallel train_elastic)
BIN := .venv/bin
STAMP := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK = 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(STAMP) ## install (once), then curate, train, assess, serve and watch; ends with an address and an answer
	$(BIN)/workbench pipeline notebooks/pipeline.yaml
ifneq ($(UI),0)
	$(BIN)/workbench open
endif

test: $(STAMP) ## install (once), then all tests, the notebooks among them, and the examples in docstrings
	$(BIN)/python -m pytest tests -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=30
	$(BIN)/python -m pytest -q --doctest-modules workbench widgets

soak: $(STAMP) ## the tests that kill things, over and over (ROUNDS=10; FAULTS: which files), and how often each was survived
	counts=$$(mktemp); for round in $$(seq $(ROUNDS)); do echo "round $$round of $(ROUNDS)"; \
		WORKBENCH_SOAK=1 WORKBENCH_COUNTS=$$counts WORKBENCH_SEED=$$round $(BIN)/python -m pytest -q $(FAULTS) || true; done; \
		$(BIN)/python tests/faults/counts.py $$counts $(ROUNDS); ended=$$?; rm -f $$counts; exit $$ended

bench: $(STAMP) ## measure what docs/benchmarks.md states
	for script in tests/benchmarks/*.py; do echo "# $$script"; $(BIN)/python $$script || exit 1; done

pictures: $(STAMP) ## make the pictures of docs/panels again
	$(BIN)/python tests/browser/pictures.py

lint: $(STAMP) ## style, import rules, notebooks without outputs
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify notebooks/*.ipynb notebooks/tutorials/*.ipynb

clean: ## end everything that runs and remove what tools left; ALL=1 also removes .workbench and .venv
	if [ -x $(BIN)/workbench ]; then $(BIN)/workbench down; fi
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
ifeq ($(ALL),1)
	rm -rf .workbench .venv
endif

$(STAMP): pyproject.toml environments/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make run PYTHON=python3.12")'
	[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c environments/constraints.txt -e '.[dev]'
	touch $@
