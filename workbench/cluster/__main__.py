"""The process that keeps a cluster: ``python -m workbench.cluster``."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback

from ..workspace import Workspace
from .holder import hold

if __name__ == "__main__":
    status = 0
    try:
        asyncio.run(hold(Workspace.find()))
    except Exception:  # noqa: BLE001 - whoever waits for the cluster reads the last line
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Dask's threads must not keep a closed cluster alive
