"""What the structure promises: imports point down, light doors stay light, files stay small, nothing hides a name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workbench.spec import WORDS

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "distributed", "mlflow", "lightning", "transformers", "papermill")


def test_imports_point_down():
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_style():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--output-format", "concise"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("code", [
    "import workbench", "import widgets", "from workbench import submit, attach, Run, Dataset, Endpoint, Registry",
    *(f"from workbench import spec; spec.spec_class({word!r})" for word in WORDS),
    *(f"import workbench.{word}.run" for word in WORDS),
])
def test_what_a_submitter_imports_is_light(code):
    loaded = subprocess.run([sys.executable, "-c", f"{code}\nimport sys; print([m for m in {HEAVY!r} if m in sys.modules])"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_no_file_holds_two_nouns():
    files = [*ROOT.glob("workbench/**/*.py"), *ROOT.glob("widgets/**/*.py"), *ROOT.glob("widgets/static/**/*.js")]
    assert {f.relative_to(ROOT).as_posix(): n for f in files if (n := len(f.read_text("utf-8").splitlines())) > 600} == {}
    assert [f for f in files if f.stem in ("utils", "helpers", "util", "helper", "common", "misc")] == []


def test_every_public_name_is_there():
    import widgets
    import workbench

    for package in (workbench, widgets):
        assert package.__all__ == sorted(package.__all__)
        assert all(getattr(package, name) is not None for name in package.__all__)
