"""The assess spec and the folder of probes: one file, one probe."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from workbench.assess import probes
from workbench.assess.spec import DEFAULT, AssessSpec


def test_the_default_has_four_probes_and_survives_yaml():
    spec = AssessSpec.load({"word": "assess", "model": "m"})
    assert tuple(p.probe for p in spec.probes) == DEFAULT
    assert AssessSpec.load(spec.to_yaml()) == spec and AssessSpec.load(spec.to_dict()) == spec
    schema = json.dumps(AssessSpec.model_json_schema())
    assert all(name in schema for name in probes.KINDS)


def test_a_probe_is_added_as_one_file(tmp_path):
    # A second folder to search stands in for a file put beside the others.
    code = '''
import sys, workbench.assess.probes as probes
probes.__path__.append(sys.argv[1])
probes.KINDS.update(probes._kinds())
from workbench.assess.spec import AssessSpec
print([p.probe for p in AssessSpec.load({"word": "assess", "model": "m", "probes": [{"probe": "vowels"}]}).probes])
print([m for m in ("torch", "distributed", "mlflow", "numpy") if m in sys.modules])
'''
    (tmp_path / "vowels.py").write_text('''
from typing import Literal
from workbench.assess.probe import Measure, Probe

class Vowels(Probe):
    """Share of vowels in free texts."""
    probe: Literal["vowels"] = "vowels"
''')
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert out.stdout.splitlines() == ["['vowels']", "[]"], out.stderr


@pytest.mark.parametrize("body", ["", "class A(Probe):\n    probe: Literal['other'] = 'other'\n", "class A(Probe):\n    pass\n"])
def test_a_file_that_holds_no_probe_of_its_name_is_told(tmp_path, monkeypatch, body):
    (tmp_path / "mine.py").write_text("from typing import Literal\nfrom workbench.assess.probe import Probe\n" + body)
    monkeypatch.setattr(probes, "__path__", [*probes.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "workbench.assess.probes.mine", raising=False)
    with pytest.raises(TypeError, match=r'mine\.py must hold one subclass of Probe with the field probe: Literal\["mine"\]'):
        probes._kinds()
