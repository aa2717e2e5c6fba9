"""A workspace on a disk that can't be written is shown, and says that it can't when something would change it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap

import pytest

from workbench import runs

LOOK = """
from widgets import DataPanel
from workbench.errors import StorageError
panel = DataPanel({"name": "digits", "sources": [{"kind": "digits"}], "steps": []}, workspace=ROOT)
deadline = __import__("time").monotonic() + 30
while panel.status["state"] != "done" and __import__("time").monotonic() < deadline:
    __import__("time").sleep(0.02)
print("state", panel.status["state"])
panel.editor.put(["split", "test"], 0.2)
print("edited", panel.spec.split.test)
try:
    panel.run(wait=False)
except StorageError as error:
    print("refused", "can't be written" in str(error), "write access" in str(error))
"""


def test_a_panel_over_a_read_only_workspace_shows_and_says(workspace):
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    made = runs.submit({"word": "data", "name": "digits", "sources": [{"kind": "digits"}], "steps": []}, workspace, place="here")
    assert made.state == "done"
    root, code = str(workspace.root), textwrap.dedent(LOOK)
    mounts = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$1" -c "$2"'
    seen = subprocess.run(["unshare", "-m", "sh", "-c", mounts, root, sys.executable, code.replace("ROOT", repr(root))],
                          capture_output=True, text=True, timeout=120)
    assert seen.stdout.splitlines() == ["state done", "edited 0.2", "refused True True"], seen.stdout + seen.stderr
