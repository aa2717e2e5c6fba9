"""The data spec: sources, steps, split."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from ..spec import Name, Part, Spec
from ..storage import digest_json


class PythonDocs(Part):
    """Docstrings and comments of the standard library and of installed packages: text that is there offline."""

    kind: Literal["python-docs"] = "python-docs"
    packages: tuple[str, ...] = ()
    """packages to read beside the standard library; empty: those that the workbench itself stands on"""
    max_megabytes: float = Field(8.0, gt=0, le=1000)
    """MB of text after which reading ends; modules are taken in the order of a digest of their names"""


class Digits(Part):
    """scikit-learn's 1,797 handwritten digits, 8 x 8 grey pixels, as PNG with their label."""

    kind: Literal["digits"] = "digits"


class MovingDigits(Part):
    """scikit-learn's handwritten digits moving over a canvas, as animated PNG with their label."""

    kind: Literal["moving-digits"] = "moving-digits"
    count: int = Field(1_000, ge=1, le=100_000)
    """clips; up to 1,797 by digits no handwriting stands in two of them"""
    frames: int = Field(8, ge=2, le=256)
    """frames of a clip"""
    size: int = Field(16, ge=9, le=512)
    """height and width, in pixels; a digit has 8"""
    digits: int = Field(1, ge=1, le=8)
    """digits in a clip; only one gives it a label"""
    seed: int = 0


class Images(Part):
    """Pictures by path, directory or glob; where they lie in several directories, the directory's name is the label."""

    kind: Literal["images"] = "images"
    paths: tuple[str, ...] = Field(min_length=1)
    """paths, directories or globs, relative to the workspace; ``~`` is understood"""
    size: int | None = Field(None, ge=2, le=4096)
    """height and width that the middle square of each is brought to; none: as they are"""
    colour: Literal["as it is", "grey", "rgb"] = "as it is"
    """grey or colour, for all of them"""


class Tunes(Part):
    """Tunes in the manner of folk tunes, made by rule: eight bars and eight bars, each twice; the project's own."""

    kind: Literal["tunes"] = "tunes"
    count: int = Field(1_000, ge=1, le=100_000)
    """tunes; each is another"""
    form: Literal["abc", "midi"] = "abc"
    """abc: the notation; midi: words such as n62 d12 for pitches and durations"""
    seed: int = 0


class Questions(Part):
    """Questions on the standard library with their answers, from signatures and docstrings: chats that are there offline."""

    kind: Literal["questions"] = "questions"
    count: int = Field(2_000, ge=1, le=20_000)
    """questions at most"""
    preference: bool = False
    """each with the answer to another question beside it, as the rejected one"""


class Files(Part):
    """Files by path or glob: txt, Markdown, JSONL (also .gz), CSV, Parquet; tunes as ABC or MIDI."""

    kind: Literal["files"] = "files"
    paths: tuple[str, ...] = Field(min_length=1)
    """paths or globs, relative to the workspace; ``~`` is understood"""
    text: str | None = None
    """column or key that holds the text; none: the one called text, content, body, or the longest text"""
    format: Literal["auto", "text", "markdown", "jsonl", "csv", "parquet", "abc", "midi"] = "auto"
    """format of the files; auto: by their ending"""
    encoding: Literal["utf-8", "utf-16", "cp1252", "latin-1", "cp1251", "gb18030", "shift_jis", "euc_kr"] | None = None
    """encoding of the text; none: UTF-8, or UTF-16 where the file begins with its mark"""
    form: Literal["auto", "text", "chat", "preference", "abc", "midi"] = "auto"
    """what the records are; auto: chat or preference where rows hold messages, conversations, prompt + completion, instruction + output,
    or chosen + rejected, and text says no column; tunes by their files; else text"""

    @model_validator(mode="after")
    def _agrees(self):
        if self.text is not None and self.form in ("chat", "preference"):
            raise ValueError(f"text names a column of plain text and form says {self.form}; expected one of the two")
        return self

    @model_serializer(mode="wrap")
    def _short(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """An encoding and a form are told where they were said: specs of before they could be said mean the same."""
        return {k: v for k, v in dump(self).items() if (k, v) not in (("encoding", None), ("form", "auto"))}


Source = Annotated[PythonDocs | Digits | MovingDigits | Images | Tunes | Questions | Files, Field(discriminator="kind")]


class StepPart(Part):
    """What every step can be: off. A step that is off stays in the spec, and the recipe is that of a spec without it."""

    on: bool = True
    """applied; off: left out of the recipe"""

    @model_serializer(mode="wrap")
    def _short(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Which step it is first; ``on`` only where it is off, so that specs of before it could be said mean the same."""
        dumped = dump(self)
        on = dumped.pop("on", True)
        return dumped if on else {"step": dumped.pop("step"), "on": False, **dumped}


class Normalise(StepPart):
    """Unicode NFC, one kind of line end, no control characters, no space at line ends."""

    step: Literal["normalise"] = "normalise"


class ExactDuplicates(StepPart):
    """Keep one of records with the same content."""

    step: Literal["exact-duplicates"] = "exact-duplicates"


class NearDuplicates(StepPart):
    """Keep one of records whose word 5-grams overlap: MinHash proposes, exact Jaccard decides."""

    step: Literal["near-duplicates"] = "near-duplicates"
    threshold: float = Field(0.8, ge=0.5, le=1.0)
    """Jaccard similarity from which two records count as the same"""
    words: int = Field(5, ge=1, le=20)
    """words in a shingle"""


class Quality(StepPart):
    """Drop what is too short, too repetitive or mostly symbols."""

    step: Literal["quality"] = "quality"
    min_characters: int = Field(80, ge=0)
    """shortest text kept, in characters"""
    max_characters: int = Field(200_000, ge=1)
    """longest text kept, in characters"""
    max_repeated_lines: float = Field(0.3, ge=0, le=1)
    """largest share of lines that stand twice"""
    max_repeated_words: float = Field(0.4, ge=0, le=1)
    """largest share of the text that its commonest 3-word phrase may fill"""
    max_symbols: float = Field(0.35, ge=0, le=1)
    """largest share of characters that are neither letters, digits nor spaces"""


class Pii(StepPart):
    """Find e-mail addresses, phone numbers, IBANs and card numbers (checksums tested) and redact them."""

    step: Literal["pii"] = "pii"
    kinds: tuple[Literal["email", "phone", "iban", "card"], ...] = ("email", "phone", "iban", "card")
    action: Literal["redact", "drop"] = "redact"
    """redact: put <EMAIL>, <PHONE> … in its place; drop: set the record aside"""


class Function(StepPart):
    """A function of your own: it gets a text and gives back a text, or None to drop the record."""

    step: Literal["function"] = "function"
    function: str = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
    """module:function; the module is a file in the workspace or installed"""
    options: dict[str, JsonValue] = {}
    """further arguments, by name"""


Step = Annotated[Normalise | ExactDuplicates | NearDuplicates | Quality | Pii | Function, Field(discriminator="step")]


class Split(Part):
    """Shares of the records held out, whole duplicate clusters at a time."""

    validation: float = Field(0.05, ge=0, lt=1)
    """share watched while training"""
    test: float = Field(0.05, ge=0, lt=1)
    """share kept for the assessment"""
    seed: int = 0
    cluster_threshold: float = Field(0.5, ge=0.3, le=1)
    """Jaccard similarity from which two records go to the same side"""

    @model_validator(mode="after")
    def _room(self):
        if self.validation + self.test >= 0.9:
            raise ValueError(f"validation {self.validation} and test {self.test} leave too little to train on; expected under 0.9 together")
        return self


class DataSpec(Spec):
    """What a dataset is made of."""

    WORD: ClassVar[str] = "data"
    word: Literal["data"] = "data"
    name: Name
    """name of the dataset"""
    sources: tuple[Source, ...] = Field(min_length=1)
    steps: tuple[Step, ...] = (Normalise(), ExactDuplicates(), NearDuplicates(), Quality(), Pii())
    split: Split = Split()
    partitions: int | None = Field(None, ge=1, le=4096)
    """parts worked on side by side; none: by size. The result does not depend on it"""
    keep: tuple[str, ...] = ()
    """ids of records kept whatever a step says"""
    drop: tuple[str, ...] = ()
    """ids of records dropped by hand"""
    unsure: tuple[str, ...] = ()
    """ids of records to look at again; nothing is done to them"""

    @model_serializer(mode="wrap")
    def _short(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {k: v for k, v in dump(self).items() if k != "unsure" or v}

    def recipe(self) -> DataSpec:
        """This spec with only what makes the dataset: without steps that are off and without notes.

        Examples
        --------
        >>> spec = DataSpec(name="d", sources=[Digits()], steps=[Normalise(), Quality(on=False)])
        >>> [s.step for s in spec.recipe().steps], spec.digest() == spec.recipe().digest()
        (['normalise'], True)
        """
        return self.model_copy(update={"steps": tuple(s for s in self.steps if s.on), "unsure": ()})

    def digest(self) -> str:
        """SHA-256 over the canonical JSON of the recipe: what is off or a note makes no other run."""
        return digest_json(self.recipe().to_dict())
