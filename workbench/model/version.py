"""A model version: one directory (of a language model as transformers reads it) with a manifest beside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotFoundError, SourceError, StorageError
from ..registry import Registry
from ..storage import digest_file, digest_json, staging
from ..workspace import Workspace
from .images import SAMPLES, config_of, load_images
from .pretrained import load_pretrained
from .weights import refuse_pickles

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

CONTENT = ("config.json", "model.safetensors", "tokenizer.json")
"""The files whose bytes make a model's digest; models of images and of one's own have no tokenizer."""


@dataclass(frozen=True)
class Model:
    """One immutable model version on disk: ``config.json``, ``model.safetensors``, of a language model ``tokenizer.json``, of one
    of images ``samples.png``; ``card.md``, ``manifest.json``.

    Examples
    --------
    >>> Model.open("digits-diffusion").load().generate(4, seed=1, label=7)  # doctest: +SKIP
    """

    path: Path

    @classmethod
    def open(cls, reference: str, workspace: Workspace | None = None) -> Model:
        """The version that a reference means: ``name``, ``name@v2``, ``name@production``, ``name@digest``."""
        return cls(Registry(Workspace.find(workspace)).resolve("model", reference).path)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Name, digest, run, dataset ``{name, digest}``, parameters, metrics, spec."""
        try:
            return json.loads((self.path / "manifest.json").read_text("utf-8"))
        except FileNotFoundError:
            raise NotFoundError("is no model version: it has no manifest.json", where=self.path) from None

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def digest(self) -> str:
        return self.manifest["digest"]

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.digest[:12]}"

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return (self.path / "card.md").read_text("utf-8")

    @property
    def makes(self) -> str:
        """``text``, ``image`` or ``clip``; ``module`` of a LightningModule, of which only its class knows."""
        config = config_of(self.path)
        if config is None:
            return "module" if self._module else "text"
        return "clip" if config.get("frames") else "image"

    @property
    def _module(self) -> str | None:
        """The class of a LightningModule, ``package.module:Name``."""
        try:
            said = json.loads((self.path / "config.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return said["module"] if said.get("kind") == "lightning-module" else None

    @property
    def samples(self) -> bytes | None:
        """PNG of images or clips that it made, drawn when it was trained; none for other models."""
        try:
            return (self.path / SAMPLES).read_bytes()
        except FileNotFoundError:
            return None

    def refuse_unless_text(self, doing: str) -> None:
        """Check that it is a language model; ``doing`` says who needs that.

        Raises
        ------
        SourceError
        """
        if self.makes == "module":
            raise SourceError(f"is a LightningModule, and {doing}", where=self.reference, received=self._module, allowed="a language model",
                              hint="What it is good for, its own validation measures: self.log in validation_step")
        if self.makes != "text":
            raise SourceError(f"makes {self.makes}s, and {doing}", where=self.reference, received=f"a model of {self.makes}s",
                              allowed="a language model", hint=f'Model.open("{self.name}").load().generate(8) makes {self.makes}s')

    def load(self) -> PreTrainedModel | nn.Module:
        """The model in evaluation mode, fp32, on the CPU; one of images or clips has ``generate(count, seed, label)``."""
        if self.makes in ("image", "clip"):
            return load_images(self.path)
        if self._module:
            raise NotFoundError("is a LightningModule, whose class is not kept with its weights", where=self.reference,
                                received=self._module, allowed="a language model", hint=f"Build {self._module} with the options in "
                                "config.json, and give load_state_dict what load_weights(path / 'model.safetensors') reads")
        return load_pretrained(self.path).eval()

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Its tokenizer.

        Raises
        ------
        SourceError
            Where it makes images.
        """
        self.refuse_unless_text("only language models have a tokenizer")
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(self.path, local_files_only=True)

    def verify(self, digest: str | None = None) -> None:
        """Check every file that makes the model against its digest (and that against the one wanted).

        Raises
        ------
        UnsafeFileError, StorageError
            When the weights are a pickle, or a file is not the one that was registered.
        """
        refuse_pickles(self.path)
        for name, wanted in self.manifest["files"].items():
            if not (self.path / name).exists() or digest_file(self.path / name) != wanted:
                raise StorageError("does not match its digest", where=self.path / name, hint="Train again with --again")
        found = digest_json({f: self.manifest["files"][f] for f in CONTENT if f in self.manifest["files"]})
        if found != (digest or self.digest):
            raise StorageError("is another model than the one wanted", where=self.path, received=found[:12],
                               allowed=(digest or self.digest)[:12])

    def _repr_html_(self) -> str:
        from ..display import model_html

        return model_html(self)

    def __str__(self) -> str:
        return f"model {self.reference} ({self.manifest['parameters']:,} parameters)"


def write_model(workspace: Workspace, name: str, save: Callable[[Path], None], *, manifest: dict[str, Any], card: str,
                run: str | None = None) -> Model:
    """Commit a version atomically and register it.

    Parameters
    ----------
    save : writes ``config.json`` and ``model.safetensors`` at least, a language model's ``tokenizer.json`` too, into its argument.
    manifest : ``parameters``, ``dataset`` ({name, digest}), ``metrics``, ``spec`` ...; digest and files are added here.
    """
    with staging(workspace.path("models", name)) as place:
        save(place.path)
        refuse_pickles(place.path)
        files = {f: digest_file(place / f) for f in _content(place.path)}
        digest = digest_json(files)
        (place / "card.md").write_text(card, "utf-8")
        (place / "manifest.json").write_text(json.dumps({"format": 1, "name": name, "digest": digest, "created": time.time(),
                                                         "run": run, "files": files, **manifest}, indent=1), "utf-8")
        final = place.commit(workspace.path("models", name, digest))
    Registry(workspace).register("model", name, digest, final, run=run, meta={"parameters": manifest.get("parameters"),
                                                                             "dataset": manifest.get("dataset")})
    return Model(final)


def _content(folder: Path) -> tuple[str, ...]:
    """The files that make a digest: a language model, which its configuration tells by ``model_type``, is none without a tokenizer."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return CONTENT if "model_type" in config or (folder / CONTENT[-1]).exists() else CONTENT[:-1]
