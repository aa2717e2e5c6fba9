"""nbval runs every cell of the notebooks and tutorials, with small specs; each training among them teaches its model something."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import small


@pytest.mark.timeout(900)
def test_every_cell_runs_and_every_training_teaches():
    done = subprocess.run([sys.executable, small.__file__], capture_output=True, text=True,
                          env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")})
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
