"""What can be learned, as a spec says it: a part an objective, with what it takes where the spec is silent."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from ...spec import Bytes, Part, Reference


class _Objective(Part):
    """What every objective says of itself; each overrides what is otherwise with it."""

    NEEDS_DATA: ClassVar[bool] = True
    RATE: ClassVar[float] = 1e-2
    SEQUENCES: ClassVar[int] = 4
    EPOCHS: ClassVar[float] = 1.0
    OPTIMIZER: ClassVar[str] = "adamw"
    DECAY: ClassVar[float] = 0.0
    SUFFIX: ClassVar[str] = "lm"

    def named(self, data: str | None) -> str:
        """The name of a model that has none of its own."""
        return f"{(data or 'own').partition('@')[0]}-{self.SUFFIX}"


class Pretrain(_Objective):
    """A language model from random weights that predicts the next token: of text, or of tunes in ABC or MIDI words."""

    OPTIMIZER: ClassVar[str] = "muon"
    DECAY: ClassVar[float] = 0.1
    kind: Literal["pretrain"] = "pretrain"
    mix: dict[Reference, Annotated[float, Field(gt=0, le=1000)]] = {}
    """further datasets -> how many windows of each are read for one of ``data``; the vocabulary is that of ``data``"""
    stream: str | None = Field(None, min_length=1)
    """URL (a directory, s3://, gs://, abfs://) where the tokens lie: written there once, read in blocks; none: a file in the workspace"""
    stream_cache: Bytes = "2GB"
    """most that each machine keeps of a stream"""

    @model_validator(mode="after")
    def _one_or_the_other(self):
        if self.mix and self.stream:
            raise ValueError("received mix and stream; expected one of them: streams of several datasets are not mixed")
        return self


class Adapter(Part):
    """Low-rank matrices that are trained in place of the base's own weights (LoRA; Hu et al. 2021)."""

    rank: int = Field(8, ge=1, le=512)
    """rank of the matrices"""
    alpha: float = Field(16, gt=0)
    """what they count: alpha / rank"""
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ()
    """names of the linear layers that get them; empty: all of the base's layers but its head"""


class _Tuned(_Objective):
    """What the objectives that teach a base share."""

    kind: str
    base: str = Field(min_length=1)
    """model that is taught: a registered version (name, name@v2) or a directory in Hugging Face's form"""
    adapter: Adapter | None = Adapter()
    """LoRA; none: all weights are trained"""
    context: int = Field(512, ge=16, le=131_072)
    """most tokens of a chat, or of a prompt with its answer; longer ones are cut at the end"""
    template: str | None = Field(None, min_length=1)
    """chat template (Jinja), or "plain" (role: words, and the end mark behind an answer); none: the base's own"""


class Finetune(_Tuned):
    """Supervised fine-tuning of a base on chats: the loss is on the answers only."""

    RATE: ClassVar[float] = 1e-3
    EPOCHS: ClassVar[float] = 3.0
    SUFFIX: ClassVar[str] = "chat"
    kind: Literal["sft"] = "sft"


class Preferences(_Tuned):
    """Direct preference optimisation of a base: what was chosen becomes likelier than what was rejected (Rafailov et al. 2023)."""

    RATE: ClassVar[float] = 5e-4
    EPOCHS: ClassVar[float] = 1.0
    SUFFIX: ClassVar[str] = "dpo"
    kind: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, le=10)
    """how closely the base is kept to"""


class Gan(_Objective):
    """A DCGAN: a generator of images against a discriminator (Radford et al. 2015)."""

    RATE: ClassVar[float] = 1e-3
    SEQUENCES: ClassVar[int] = 32
    EPOCHS: ClassVar[float] = 60.0
    SUFFIX: ClassVar[str] = "gan"
    kind: Literal["gan"] = "gan"
    latent: int = Field(32, ge=1, le=1024)
    """numbers that an image is made from"""
    width: int = Field(32, ge=4, le=1024)
    """channels of the widest pictures within, before they are doubled"""


class Diffusion(_Objective):
    """Denoising diffusion of images or, with an axis of time, of short clips (Ho et al. 2020)."""

    RATE: ClassVar[float] = 2e-3
    SEQUENCES: ClassVar[int] = 32
    EPOCHS: ClassVar[float] = 30.0
    SUFFIX: ClassVar[str] = "diffusion"
    kind: Literal["diffusion"] = "diffusion"
    width: int = Field(32, ge=8, le=1024)
    """channels at full size"""
    noise_steps: int = Field(200, ge=10, le=4000)
    """steps from an image to noise"""
    sample_steps: int = Field(25, ge=1, le=4000)
    """steps from noise to an image when one is made (DDIM; Song et al. 2020)"""
    labels: bool = True
    """learn what each label looks like, where the data has labels"""


class Own(_Objective):
    """A LightningModule of your own, by import path, unchanged; with a LightningDataModule, or reading a dataset version."""

    NEEDS_DATA: ClassVar[bool] = False
    SEQUENCES: ClassVar[int] = 1
    SUFFIX: ClassVar[str] = "model"
    kind: Literal["module"] = "module"
    module: str = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
    """package.module:Class; the module is a file in the workspace or installed"""
    options: dict[str, JsonValue] = {}
    """arguments of the module, by name"""
    data_module: str | None = Field(None, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
    """package.module:Class of a LightningDataModule; none: the module's own dataloaders"""
    data_options: dict[str, JsonValue] = {}
    """arguments of the data module, by name"""
    steps: int | None = Field(None, ge=1)
    """steps to train, where epochs have no length; none: ``epochs`` says how long"""


_SUITED = {"chat": "sft", "preference": "dpo", "image": "diffusion", "clip": "diffusion"}


def begun(dataset: str, form: str) -> dict[str, object]:
    """The spec that a training of a dataset begins with, by the form of its records.

    Examples
    --------
    >>> begun("notes", "text"), begun("digits", "image")
    ({'data': 'notes'}, {'data': 'digits', 'objective': {'kind': 'diffusion'}})
    """
    return {"data": dataset} | ({"objective": {"kind": _SUITED[form]}} if form in _SUITED else {})


Objective = Annotated[Pretrain | Finetune | Preferences | Gan | Diffusion | Own, Field(discriminator="kind")]
