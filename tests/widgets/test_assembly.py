from __future__ import annotations

import collections
import re
import shutil
import subprocess
import sys

import pytest

from widgets import assembly, panel_class
from workbench.spec import WORDS


def modules() -> list[str]:
    return sorted(p.stem for p in assembly.FOLDER.glob("*.js"))


def test_names_at_the_top_level_are_unique_over_all_modules():
    counted = collections.Counter(n for m in modules() for n in assembly.names(m))
    assert [n for n, c in counted.items() if c > 1] == []


@pytest.mark.parametrize("module", modules())
def test_a_module_says_only_what_the_assembly_understands(module):
    text = (assembly.FOLDER / f"{module}.js").read_text("utf-8")
    assert all(line.count("`") % 2 == 0 for line in text.splitlines())  # no template spans lines
    imported = re.findall(r'^import .*? from "\./(\w+)\.js";$', text, re.MULTILINE)
    assert len(imported) == len(re.findall(r"^import\b", text, re.MULTILINE))
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|eval)\b", text) or module == "element"
    assert not re.search(r"https?://", text.replace("http://www.w3.org", ""))


@pytest.mark.parametrize("word", sorted(WORDS))
def test_each_panel_is_one_module_that_parses(word, tmp_path):
    own = panel_class(word).MODULES
    order = assembly.order(*own)
    for number, module in enumerate(order):
        text = (assembly.FOLDER / f"{module}.js").read_text("utf-8")
        assert set(re.findall(r'from "\./(\w+)\.js"', text)) <= set(order[:number]), module
    script = assembly.script(*own)
    assert len(script) + len(assembly.style(*own)) < 150_000
    assert script.count("export default") == 1 and not re.search(r"^import\b", script, re.MULTILINE)
    if shutil.which("node"):
        (tmp_path / "panel.mjs").write_text(script)
        subprocess.run(["node", "--check", tmp_path / "panel.mjs"], check=True)


def test_no_string_of_a_style_sheet_holds_what_the_assembly_draws_together():
    for sheet in assembly.FOLDER.glob("*.css"):
        assert not [t for t in re.findall(r'"[^"\n]*"', sheet.read_text("utf-8")) if re.search(r"[{};,]|\w: ", t)], sheet.name
    assert "/*" not in assembly.style() and ".wbp{" in assembly.style()


def test_importing_the_panels_is_light():
    code = ("import time; t = time.process_time(); import widgets; from widgets import DataPanel, TrainPanel; t = time.process_time() - t; "
            "import sys; print([m for m in ('torch', 'distributed', 'mlflow', 'transformers', 'numpy', 'pyarrow') if m in sys.modules], t)")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("[] ")
    assert float(said.split()[-1]) < 0.8  # 0.4 s of a quiet core; a busy one counts cache misses too
