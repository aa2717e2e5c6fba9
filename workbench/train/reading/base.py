"""The base that a training begins with: a registered version, or a directory in Hugging Face's form, looked at before anything starts.

Nothing here imports torch or runs what a base brings: its configuration and the heads of its weights are read as JSON.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import NotFoundError, SourceError
from ...model import refuse_pickles
from ...model.tokenizer import CHAT
from ...registry import Registry
from ...storage import digest_file, digest_json
from ...workspace import Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PLAIN = "plain"
"""Name of the chat template that the project's own models have: role, colon, words, and the end mark behind an answer."""
READ = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "chat_template.jinja")
"""Files beside the weights that say what a base is."""
LARGEST_HEAD = 100_000_000
"""Bytes that a safetensors file's header may take (the format's own limit)."""


@dataclass(frozen=True)
class Base:
    """A model that a training begins with.

    Parameters
    ----------
    reference : as a person wrote it.
    path : its directory.
    digest : of the version, or of the directory's files.
    """

    reference: str
    path: Path
    digest: str

    @cached_property
    def config(self) -> dict[str, Any]:
        """What ``config.json`` says of its language model."""
        found = _json(self.path / "config.json")
        return found | (found.get("text_config") or {})

    @cached_property
    def layers(self) -> frozenset[str]:
        """What its layers with weights are called, each by its last name: ``q_proj``."""
        names = (name for file in weights_of(self.path) for name in _head(file)[0] if name != "__metadata__")
        return frozenset(name.rpartition(".")[0].rpartition(".")[2] for name in names)

    @property
    def context(self) -> int | None:
        """Most tokens that it sees at once, where it says so."""
        found = self.config.get("max_position_embeddings") or self.config.get("n_positions")
        return int(found) if found else None

    def template(self, given: str | None = None) -> str | None:
        """Its chat template, or the one that is given in its place: Jinja, or ``"plain"``."""
        if given is not None:
            return CHAT if given == PLAIN else given
        file = self.path / "chat_template.jinja"
        found = file.read_text("utf-8") if file.exists() else _json(self.path / "tokenizer_config.json", missing={}).get("chat_template")
        if isinstance(found, list):  # several by name: "default" is the one for talking
            found = next((t["template"] for t in found if t.get("name") == "default"), None)
        return found if isinstance(found, str) and found.strip() else None

    def tokenizer(self, given: str | None = None) -> PreTrainedTokenizerFast:
        """Its tokenizer, with the template that is trained with."""
        from transformers import AutoTokenizer

        try:
            found = AutoTokenizer.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # noqa: BLE001 - the library raises what it pleases for a broken file
            raise SourceError("has a tokenizer that does not load", where=self.path, received=_said(error)) from None
        found.chat_template = self.template(given)
        return found

    def told(self) -> dict[str, str]:
        """What each rank must know of it."""
        return {"reference": self.reference, "path": str(self.path), "digest": self.digest}


def found(reference: str, workspace: Workspace) -> Base:
    """The base that a reference means: ``name``, ``name@v2`` of the registry, else a directory, seen from the workspace.

    Raises
    ------
    NotFoundError, SourceError, UnsafeFileError
        Where there is none, or it is none that can be trained.
    """
    try:
        version = Registry(workspace).resolve("model", reference)
    except NotFoundError as error:
        folder = workspace.root / Path(reference).expanduser()
        if not folder.is_dir():
            raise NotFoundError(f"no base {reference!r}: neither a registered model nor a directory", where="objective.base",
                                allowed="a model's name, or a directory with config.json, model.safetensors and tokenizer.json",
                                hint=error.hint) from None
        refuse_unfit(folder)
        return Base(reference, folder, digest_of(folder))
    refuse_unfit(version.path)
    return Base(reference, version.path, version.digest)


def again(reference: str, digest: str, workspace: Workspace) -> Base:
    """The same base as when the run was submitted.

    Raises
    ------
    SourceError
        Where a directory has changed since.
    """
    try:
        return Base(reference, Registry(workspace).by_digest("model", digest).path, digest)
    except NotFoundError:
        now = found(reference, workspace)
        if now.digest != digest:
            raise SourceError("is another base than when this was submitted", where=now.path, received=now.digest[:12],
                              allowed=digest[:12], hint="Submit the training again") from None
        return now


def refuse_unfit(folder: Path) -> None:
    """Raise where a directory is no base that can be trained: only pickles, torn weights, a tokenizer for another model."""
    for name, what in (("config.json", "configuration"), ("tokenizer.json", "tokenizer")):
        if not (folder / name).exists():
            raise SourceError(f"is no base: it holds no {what}", where=folder, received=sorted(p.name for p in folder.iterdir())[:12],
                              allowed="config.json, model.safetensors and tokenizer.json",
                              hint='Make tokenizer.json of an older form with AutoTokenizer.from_pretrained(…).save_pretrained(…)'
                              if name == "tokenizer.json" else None)
    refuse_pickles(folder)
    for file in weights_of(folder):
        refuse_torn(file)
    config = _json(folder / "config.json")
    rows, most = (config | (config.get("text_config") or {})).get("vocab_size"), highest_id(str(folder / "tokenizer.json"),
                                                                                          _stamp(folder / "tokenizer.json"))
    if not isinstance(rows, int):
        raise SourceError("does not say how many tokens its model knows", where=folder / "config.json", received=config.get("model_type"),
                          allowed="vocab_size: the configuration of a language model")
    if most >= rows:
        raise SourceError("has a tokenizer that does not fit its model", where=folder, received=f"token ids up to {most:,}",
                          allowed=f"ids below {rows:,}, the rows of the model's embeddings",
                          hint="Take the tokenizer that the model was trained with")


def weights_of(folder: Path) -> list[Path]:
    """Its safetensors files: those of the index where there is one."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(_json(index).get("weight_map", {}).values()))
        gone = [n for n in names if not (folder / n).exists()]
        if gone:
            raise SourceError("lacks a part of its weights", where=folder, received=f"no {', '.join(gone[:4])}",
                              allowed=f"the {len(names)} files of {index.name}")
        return [folder / n for n in names]
    return sorted(folder.glob("*.safetensors"))


def refuse_torn(file: Path) -> None:
    """Raise where a safetensors file is not whole: its header says how long it must be."""
    size, ends = file.stat().st_size, 0
    try:
        head, length = _head(file)
        ends = 8 + length + max((v["data_offsets"][1] for k, v in head.items() if k != "__metadata__"), default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise SourceError("holds weights that do not load: its header is broken", where=file, received=f"{size:,} bytes",
                          allowed="a whole safetensors file", hint="Copy it again from where it came from") from None
    if size != ends:
        raise SourceError("holds weights that do not load: the file is torn", where=file, received=f"{size:,} bytes",
                          allowed=f"{ends:,} bytes", hint="Copy it again from where it came from")


def _head(file: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's header, and how long it is."""
    with open(file, "rb") as opened:
        length = struct.unpack("<Q", opened.read(8))[0]
        if length > LARGEST_HEAD:
            raise ValueError("header too long")
        return json.loads(opened.read(length)), length


@lru_cache(maxsize=64)
def highest_id(path: str, stamp: tuple[int, ...]) -> int:  # noqa: ARG001 - the stamp is what a changed file is known by
    """The highest id of a ``tokenizer.json``."""
    from tokenizers import Tokenizer

    try:
        return max(Tokenizer.from_file(path).get_vocab(with_added_tokens=True).values())
    except Exception as error:  # noqa: BLE001 - the library raises plain Exception for a broken file
        raise SourceError("is no tokenizer that loads", where=path, received=_said(error)) from None


def digest_of(folder: Path) -> str:
    """What tells a directory from another: the digest of its weights, configuration, tokenizer and template."""
    files = [*(folder / n for n in READ if (folder / n).exists()), *weights_of(folder)]
    return digest_json({f.name: _digest(str(f), _stamp(f)) for f in files})


@lru_cache(maxsize=512)
def _digest(path: str, stamp: tuple[int, ...]) -> str:  # noqa: ARG001
    return digest_file(Path(path))


def _stamp(file: Path) -> tuple[int, ...]:
    found = os.stat(file)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _json(file: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        if missing is not None:
            return missing
        raise SourceError("is not there", where=file) from None
    except ValueError as error:
        raise SourceError("is no JSON", where=file, received=str(error)) from None
    if not isinstance(value, dict):
        raise SourceError("is no JSON object", where=file, received=type(value).__name__)
    return value


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:180]
