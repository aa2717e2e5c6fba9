"""The application: every command by its name, and how errors leave it: our words and an exit code, no traceback."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import alerts, artefacts, checkpoints, doctor, machine, opening, project, records, words

EPILOG = """\b
Examples:
  workbench data ~/notes/*.md --name notes
  workbench train --data notes --set model.size=1M
  workbench serve notes-lm
  workbench pipeline notebooks/pipeline.yaml --explain

Exit codes: 0 done, 1 failed, 2 bad spec or not found, 3 refused by policy, 130 interrupted."""

ORDER = ("data", "train", "assess", "serve", "monitor", "pipeline", "new", "open", "dashboard", "save", "runs", "show", "attach",
         "tell", "stop", "resume", "checkpoints", "datasets", "models", "endpoints", "alerts", "ack", "silence", "up", "down", "doctor",
         "schema", "audit")


class Commands(TyperGroup):
    """Commands in the order in which a person meets them."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(name="workbench", cls=Commands, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  no_args_is_help=True, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})


@app.callback()
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    """Curate, train, assess, serve and watch generative models.

    Six words run a spec: data, train, assess, serve, monitor, pipeline. Beside them stand verbs over what exists.
    """


for _module in (words, project, opening, records, checkpoints, artefacts, alerts, machine, doctor):
    _module.add_to(app)


def run_app(arguments: list[str] | None = None) -> None:
    """Run the command line on ``sys.argv`` and leave with the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        from workbench import __version__

        print(f"workbench {__version__}")
        return
    as_json = "--json" in arguments
    try:
        app(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went: nothing is left to say
        raise SystemExit(1) from None
    except Exception as error:  # noqa: BLE001 - the last door: nothing passes it as a traceback
        raise SystemExit(tell_error(error, as_json=as_json)) from None


def tell_error(error: Exception, *, as_json: bool = False) -> int:
    """Print an error in our words (and as JSON on standard output where asked); returns its exit code."""
    from ..errors import WorkbenchError
    from .screen import clean, print_json

    if os.environ.get("WORKBENCH_DEBUG"):
        raise error
    code = getattr(error, "exit_code", 1)
    text = str(error)
    if not isinstance(error, WorkbenchError):
        text = _unforeseen(error)
    if as_json:
        print_json({"error": {"kind": type(error).__name__, "words": text, "exit_code": code, **_parts(error)}})
    print(clean(text), file=sys.stderr)
    return code


def _parts(error: Exception) -> dict[str, Any]:
    found = {n: getattr(error, n, None) for n in ("what", "where", "received", "allowed", "hint")}
    told = {n: v if isinstance(v, str | int | float | list | dict) else str(v) for n, v in found.items() if v is not None}
    if hasattr(error, "problems"):
        told["problems"] = [{"path": p.path, "message": p.message} for p in error.problems]
    return told


def _unforeseen(error: Exception) -> str:
    """One line about an error that nobody foresaw; its traceback goes to a file."""
    import contextlib
    import traceback

    from ..errors import WorkbenchError
    from ..workspace import Workspace

    line = f"{type(error).__name__}: {error}".strip().rstrip(":")
    with contextlib.suppress(OSError, WorkbenchError):
        log = Workspace.find().path("logs", "command-line.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)) + "\n")
        return f"this should not have happened: {line}\nThe traceback is at the end of {log}"
    return f"this should not have happened: {line}"
