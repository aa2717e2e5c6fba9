"""The six words: each builds its spec from a file, from what is named, and from options, and runs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from .launch import launch
from .options import Again, Detach, DryRun, Json, Set, build, examples, is_spec_file, parse_set, swept

BUILT_IN = ("python-docs", "digits", "moving-digits", "tunes", "questions")
"""Sources that ``workbench data`` takes by name."""
Named = Annotated[str | None, typer.Option("--name", help="Name of what is made.")]
ShowBatch = Annotated[bool, typer.Option("--show-batch", help="Show what the model would see first; start nothing.")]
Objective = Annotated[str | None, typer.Option("--objective", metavar="KIND", help="What is learned: pretrain, sft, dpo, gan, diffusion or "
                                                                                   "module.")]
Data = Annotated[str | None, typer.Option("--data", metavar="DATASET", help="Dataset, e.g. notes or notes@v2.")]


def data(what: Annotated[list[str] | None, typer.Argument(metavar="SPEC|FILES", help="A spec (YAML), files or globs, or a source that is "
                                                                                     "built in: python-docs, digits, "
                                                                                     "moving-digits, tunes, questions.")] = None,
         name: Named = None, preview: Annotated[int | None, typer.Option("--preview", min=1, max=10_000, metavar="RECORDS", help=(
             "Take the first records through the steps and say what would be dropped; nothing is written."))] = None,
         set_: Set = None, again: Again = False, detach: Detach = False, as_json: Json = False, dry_run: DryRun = False) -> None:
    """Curate text, chats, images, clips or tunes into a dataset version."""
    what = what or []
    if len(what) == 1 and is_spec_file(what[0]):
        spec = build("data", what[0], {"name": name}, set_)
    else:
        spec = build("data", None, {"name": name or _dataset_name(what), "sources": _sources(what) or None}, set_)
    if preview is not None:
        _preview(spec, preview, as_json=as_json)
        return
    launch(spec, again=again, detach=detach, as_json=as_json, dry_run=dry_run)


def train(spec: Annotated[str | None, typer.Argument(metavar="SPEC", help="A spec (YAML).")] = None,
          data: Data = None, name: Named = None, objective: Objective = None, set_: Set = None, again: Again = False,
          detach: Detach = False, as_json: Json = False, dry_run: DryRun = False, show_batch: ShowBatch = False,
          sweep: Annotated[list[str] | None, typer.Option("--sweep", metavar="PATH=VALUES", help=(
              "Try values, each in a run of its own: learning_rate=1e-3,1e-2 or learning_rate=1e-4..1e-1. May stand often."
              ))] = None) -> None:
    """Train a model on a dataset: a language model, or what --objective says."""
    if spec is not None and not is_spec_file(spec) and data is None:
        spec, data = None, spec  # `workbench train notes` says the same
    if spec is None and data is None and not any(s.startswith("data=") for s in set_ or ()) and not _brings_data(objective, set_):
        data = _only_dataset()
    built = build("train", spec, {"data": data, "name": name, "sweep": swept(sweep)},
                  [*([f"objective.kind={objective}"] if objective else []), *(set_ or [])])
    if show_batch:
        _show_batch(built, as_json=as_json)
    else:
        launch(built, again=again, detach=detach, as_json=as_json, dry_run=dry_run)


def assess(what: Annotated[str | None, typer.Argument(metavar="SPEC|MODEL", help="A spec (YAML), or a model, e.g. notes-lm@v2.")] = None,
           data: Data = None, name: Named = None, set_: Set = None, again: Again = False, detach: Detach = False, as_json: Json = False,
           dry_run: DryRun = False) -> None:
    """Measure a model and judge it under the policy."""
    given, model = (what, None) if what is not None and is_spec_file(what) else (None, what)
    launch(build("assess", given, {"model": model, "data": data, "name": name}, set_), again=again, detach=detach, as_json=as_json,
           dry_run=dry_run)


def serve(what: Annotated[list[str] | None, typer.Argument(metavar="SPEC|MODEL[=WEIGHT]",
                                                           help="A spec (YAML), or models with their share of the traffic.")] = None,
          name: Named = None, port: Annotated[int | None, typer.Option("--port", help="Port wanted; 0: any that is free.")] = None,
          replicas: Annotated[int | None, typer.Option("--replicas", help="Processes that compute, for each model.")] = None,
          set_: Set = None, again: Again = False, detach: Detach = False, as_json: Json = False, dry_run: DryRun = False) -> None:
    """Put a model behind an endpoint (OpenAI's protocol)."""
    what = what or []
    options = {"name": name, "port": port, "replicas": replicas}
    if len(what) == 1 and is_spec_file(what[0]):
        spec = build("serve", what[0], options, set_)
    else:
        options["name"] = name or (what[0].partition("=")[0].partition("@")[0] if what else None)
        spec = build("serve", None, {**options, "models": _shares(what) or None}, set_)
    launch(spec, again=again, detach=detach, as_json=as_json, dry_run=dry_run)


def monitor(spec: Annotated[str | None, typer.Argument(metavar="SPEC", help="A spec (YAML); none: the built-in rules.")] = None,
            name: Named = None,
            webhook: Annotated[list[str] | None, typer.Option("--webhook", metavar="URL", help="Where alerts go. May stand often.")] = None,
            seconds: Annotated[float | None, typer.Option("--seconds", help="End the watch after this time.")] = None,
            set_: Set = None, again: Again = False, detach: Detach = False, as_json: Json = False, dry_run: DryRun = False) -> None:
    """Watch endpoints, runs and the machine; raise alerts."""
    fields = {"name": name, "webhooks": [{"url": u} for u in webhook] if webhook else None, "seconds": seconds}
    launch(build("monitor", spec, fields, set_), again=again, detach=detach, as_json=as_json, dry_run=dry_run)


def pipeline(spec: Annotated[str, typer.Argument(metavar="SPEC", help="The pipeline's file (YAML).")],
             explain: Annotated[bool, typer.Option("--explain", help="Say for each step whether it would be redone, and why.")] = False,
             set_: Set = None, again: Again = False, detach: Detach = False, as_json: Json = False, dry_run: DryRun = False) -> None:
    """Run notebooks in order; redo only what changed."""
    built = build("pipeline", spec, {}, set_)
    if explain:
        _explain(built, as_json=as_json)
    else:
        launch(built, again=again, detach=detach, as_json=as_json, dry_run=dry_run)


def schema(word: Annotated[str, typer.Argument(metavar="WORD", help="data, train, assess, serve, monitor or pipeline.")]) -> None:
    """Print the JSON Schema of a word's spec."""
    from ..spec import spec_class
    from .screen import print_json

    print_json(spec_class(word).model_json_schema())


def add_to(app: typer.Typer) -> None:
    """Put the commands into the application."""
    for command, lines in EXAMPLES:
        app.command(epilog=examples(*lines))(command)


EXAMPLES = (
    (data, ("workbench data ~/notes/*.md --name notes", "workbench data python-docs --set sources.0.max_megabytes=2",
            "workbench data my-data.yaml --dry-run", "workbench data ~/tickets.csv --preview 200")),
    (train, ("workbench train --data notes", "workbench train --data notes --set model.size=10M --detach",
             "workbench train digits --objective diffusion", "workbench train --data notes --dry-run",
             "workbench train --data notes --sweep learning_rate=1e-3..3e-2 --set sweep.trials=8",
             "workbench train --data notes --show-batch")),
    (assess, ("workbench assess notes-lm", "workbench assess notes-lm@v2 --data notes --json")),
    (serve, ("workbench serve notes-lm", "workbench serve notes-lm@v1=90 notes-lm@v2=10 --name notes")),
    (monitor, ("workbench monitor", "workbench monitor --webhook http://127.0.0.1:9000/alerts")),
    (pipeline, ("workbench pipeline notebooks/pipeline.yaml", "workbench pipeline notebooks/pipeline.yaml --explain")),
    (schema, ("workbench schema train > train.schema.json",)),
)


def _preview(spec: Any, count: int, *, as_json: bool) -> None:
    from ..data.preview import preview
    from ..workspace import Workspace
    from .screen import print_json, say

    found = preview(spec, Workspace.find(), count)
    if as_json:
        print_json({k: found[k] for k in ("read", "kept", "steps")})
        return
    say(f"the first {found['read']:,} records: {found['kept']:,} kept; nothing was written")
    for step in found["steps"]:
        words = [f"−{n:,} {reason}" for reason, n in step["reasons"].items()]
        words += [f"{n:,} {kind} redacted" for kind, n in step["found"].items()]
        say(f"  {step['step']}: {', '.join(words) or 'nothing'}")


def _sources(what: list[str]) -> list[dict[str, Any]]:
    """Sources of a data spec: built-in ones by name, pictures and directories of pictures as images, everything else as files."""
    named = [w for w in what if w in BUILT_IN and not Path(w).exists()]
    found: dict[str, list[str]] = {}
    for w in what:
        if w not in named:
            found.setdefault("images" if _is_pictures(w) else "files", []).append(_as_seen_from_the_workspace(w))
    return [*({"kind": n} for n in named), *({"kind": kind, "paths": paths} for kind, paths in found.items())]


def _is_pictures(path: str) -> bool:
    """True for a picture's or a glob's ending, and for a directory with pictures in it and nothing of a format of text."""
    from ..data.sources.formats import of
    from ..data.sources.images import ENDINGS

    place = Path(path).expanduser()
    if not place.is_dir():
        return path.lower().endswith(ENDINGS)
    endings = {p.suffix.lower() for p in place.rglob("*") if p.is_file() and not p.name.startswith(".")}
    return bool(endings & {*ENDINGS}) and not any(of(Path(f"x{e}")) for e in endings)


def _as_seen_from_the_workspace(path: str) -> str:
    """A path or glob as typed in this directory, in the words of the workspace's root; ``~`` and URLs stay."""
    from ..workspace import Workspace

    if path.startswith("~") or re.match(r"[a-z0-9]+://", path):
        return path
    root, here = Workspace.find().root, Path.cwd() / path
    return here.relative_to(root).as_posix() if here.is_relative_to(root) else here.as_posix()


def _dataset_name(what: list[str]) -> str | None:
    """A name where only one can be meant: a single built-in source's, a single file's."""
    if len(what) != 1 or re.search(r"[*?\[]", what[0]):
        return None
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(what[0]).name.partition(".")[0]).strip("-._")
    return name or None


def _only_dataset() -> str | None:
    """The workspace's dataset where there is one only; where there are several, which one is for a person to say."""
    from ..errors import SpecError
    from ..registry import Registry
    from ..workspace import Workspace
    from .screen import tell

    names = Registry(Workspace.find()).names("dataset")
    if len(names) > 1:
        raise SpecError.one("data", f"is missing; expected one of {', '.join(names)}: workbench train --data NAME", source="train spec")
    if names:
        tell(f"training on {names[0]}, the dataset that is here")
    return names[0] if names else None


def _brings_data(objective: str | None, set_: list[str] | None) -> bool:
    """True for a module of one's own: only where it is told to does it read a dataset."""
    said = parse_set(set_ or [])
    within = said.get("objective")
    return (objective or said.get("objective.kind") or (within.get("kind") if isinstance(within, dict) else None)) == "module"


def _shares(what: list[str]) -> list[dict[str, Any]]:
    from ..spec import parse_value

    parts = [w.partition("=") for w in what]
    return [{"model": model, **({"weight": parse_value(weight)} if sign else {})} for model, sign, weight in parts]


def _show_batch(spec: Any, *, as_json: bool) -> None:
    """The first batch as far as it can be printed: texts, labels of pictures with a sheet of them, or parts of it with their shapes."""
    from ..train.reading.sight import first_batch, look
    from ..workspace import Workspace
    from .screen import print_json

    workspace = Workspace.find()
    # A module's own code has a process of its own.
    seen = (look if spec.objective.kind == "module" else first_batch)(spec, workspace)
    if "pictures" in seen:
        seen = _drawn(spec, seen, workspace)
    if as_json:
        print_json(seen)
    else:
        (_show_pictures if "pictures" in seen else _show_parts if "batches" in seen else _show_texts)(seen)


def _drawn(spec: Any, seen: dict[str, Any], workspace: Any) -> dict[str, Any]:
    """The pictures as a file: a terminal shows none."""
    from ..storage import write_atomic
    from ..train.reading.picturesight import sheet

    file = workspace.path("cache", "batches", f"{spec.model_name}.png")
    write_atomic(file, sheet(seen))
    return {**seen, "pictures": [{k: v for k, v in p.items() if k != "url"} for p in seen["pictures"]], "file": str(file)}


def _show_pictures(seen: dict[str, Any]) -> None:
    from .screen import one_line, say

    what = "clips" if seen["clips"] else "pictures"
    say(f"first batch of {seen['dataset']}: {len(seen['pictures']):,} of {seen['total']:,} {what}, drawn rank by rank in {seen['file']}")
    for rank in range(seen["ranks"]):
        titles = [one_line(p["title"], 40) for p in seen["pictures"] if p["rank"] == rank]
        say(f"{_ranks([rank])}: {', '.join(titles) or 'none of these'}")


def _show_parts(seen: dict[str, Any]) -> None:
    from ..drawing import number
    from .screen import one_line, say

    say(f"first batch of {seen['module']}" + (f" on {seen['dataset']}" if seen["dataset"] else ""))
    for batch in seen["batches"]:
        say(f"\n{_ranks(batch['ranks'])}:")
        for part in batch["parts"]:
            size = f" {' × '.join(map(str, part['shape'])) or 'a number'}" if "shape" in part else f" {one_line(part['shown'], 80)}"
            span = f", {number(part['low'])} to {number(part['high'])}, mean {number(part['mean'])}" if "low" in part else ""
            odd = f", {part['odd']:,} infinite or no number" if part.get("odd") else ""
            say(f"  {one_line(part['part'], 60)}: {part['type']}{size}{span}{odd}")
    if seen["total"] > len(seen["batches"]):
        say(f"\n… and {seen['total'] - len(seen['batches']):,} batches more")


def _show_texts(seen: dict[str, Any]) -> None:
    """Counts, then each sequence, with what is only given in brackets and cuts as scissors."""
    from .screen import one_line, say

    say(f"first batch of {seen['dataset']}: {seen['trained']:,} of {seen['tokens']:,} tokens trained; "
        f"{seen['cut']:,} of {seen['records']:,} records cut")
    say("[…] is given and not trained, ■ ends a record, ✂ cuts one")
    for sequence in seen["sequences"]:
        opened = {r["first"] for r in sequence["records"] if r["begins"] == "cut"}
        closed = {r["last"] for r in sequence["records"] if r["ends"] == "cut"}
        shown = ("■" if n in sequence["ends"] else text for n, text in enumerate(sequence["texts"]))
        words = "".join(("✂" if n in opened else "") + (text if sequence["trained"][n] else f"[{text}]") + ("✂" if n in closed else "")
                        for n, text in enumerate(shown))
        origins = list(dict.fromkeys(one_line(f"{r['source']}, {r['locator']}", 100) for r in sequence["records"]))
        more = f"; and {len(origins) - 3} more" if len(origins) > 3 else ""
        say(f"\n{_ranks(sequence['ranks'])}, {len(sequence['texts']):,} tokens from {sequence['start']:,}, "
            f"of {'; '.join(origins[:3])}{more}:\n{words}")
    if seen["total"] > len(seen["sequences"]):
        say(f"\n… and {seen['total'] - len(seen['sequences']):,} sequences more")


def _ranks(ranks: list[int]) -> str:
    """The ranks that read the same, in words."""
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _explain(spec: Any, *, as_json: bool) -> None:
    from ..pipeline.cache import explain
    from .screen import print_json, say

    plans = explain(spec)
    if as_json:
        print_json({"steps": {p.step: {"state": p.state, "why": p.why} for p in plans}})
        return
    for plan in plans:
        say(plan)
