"""What models of a run made of the same prompts as they learned: texts, pictures, clips and sounds, by step."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from workbench.errors import NotFoundError, WorkbenchError
from workbench.events import Event
from workbench.runs import Run

STEPS = 12
"""Steps whose samples stand side by side."""
MOST_BYTES = 4 << 20
"""Of a sample's file that is sent to a page."""
MEDIA = ("image/png", "image/apng", "image/gif", "audio/wav")


def by_step(run: Run) -> dict[str, Any]:
    """Prompts down, steps across: the first, the last, and some between; ``files`` beside ``texts`` where there is more than text."""
    found: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for event in run.events(kinds=("sample",)):
        found.setdefault(event.step or 0, {}).setdefault(str(event.data.get("prompt") or ""), []).append(_sample(event))
    steps = sorted(found)
    if len(steps) > STEPS:
        steps = sorted({steps[round(n * (len(steps) - 1) / (STEPS - 1))] for n in range(STEPS)})
    prompts = list(dict.fromkeys(p for s in steps for p in found[s]))
    rows = []
    for prompt in prompts:
        cells = [found[s].get(prompt) for s in steps]
        files = [[{"file": o["file"], "media": o["media"]} for o in c or () if o["file"]] for c in cells]
        rows.append({"prompt": prompt, "texts": [c and c[-1]["text"] for c in cells]} | ({"files": files} if any(files) else {}))
    return {"steps": steps, "rows": rows}


def _sample(event: Event) -> dict[str, Any]:
    return {"text": str(event.data.get("text") or ""), "media": event.data.get("media"), "file": event.data.get("file")}


def data_url(run: Run, file: str) -> str:
    """A sample's file as a data URL.

    Raises
    ------
    NotFoundError
        When no sample of the run is in that file, or it is gone.
    WorkbenchError
        When it is larger than a page should hold.
    """
    known = next((e for e in run.events(kinds=("sample",)) if e.data.get("file") == file), None)
    path = Path(run.directory / file)
    if known is None or known.data.get("media") not in MEDIA or not path.resolve().is_relative_to(run.directory.resolve()):
        raise NotFoundError("no sample of this run", where=file)
    try:
        length = path.stat().st_size
        if length > MOST_BYTES:
            raise WorkbenchError("is too large to be shown here", where=file, received=f"{length:,} bytes", allowed=f"{MOST_BYTES:,} bytes",
                                 hint=f"Open it: {path}")
        content = path.read_bytes()
    except OSError as error:
        raise NotFoundError("this sample's file is gone", where=file, received=str(error)) from error
    return f"data:{known.data['media']};base64,{base64.b64encode(content).decode()}"
