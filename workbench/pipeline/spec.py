"""The pipeline spec: notebooks, the specs they get, what needs what."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..errors import near
from ..spec import Name, Part, Spec, read_mapping


class Step(Part):
    """One notebook and the spec that is put into its ``parameters`` cell."""

    name: Name
    notebook: str = Field(json_schema_extra={"refers": "notebook"})
    """path of the notebook, relative to the pipeline's file"""
    spec: str | dict[str, Any] | None = None
    """path of the spec (relative to the pipeline's file) or the spec itself; none: the notebook's own"""
    needs: tuple[str, ...] = ()
    """names of the steps that must be done first"""


class PipelineSpec(Spec):
    """Notebooks in the order of their needs."""

    WORD: ClassVar[str] = "pipeline"
    word: Literal["pipeline"] = "pipeline"
    name: Name
    steps: tuple[Step, ...] = Field(min_length=1)
    parallel: int = Field(2, ge=1, le=64)
    """steps at work at the same time"""
    folder: str = "."
    """directory that the notebooks' and specs' paths start from, relative to the workspace; set when read from a file"""

    @classmethod
    def load(cls, value: object, *, source: str | None = None) -> PipelineSpec:
        """As every spec; read from a file, its folder is that file's."""
        if isinstance(value, cls):
            return value
        mapping, origin = read_mapping(value, source or f"{cls.WORD} spec")
        if Path(origin).suffix in (".yaml", ".yml", ".json") and Path(origin).is_file():
            folder = mapping.get("folder", ".")
            if isinstance(folder, str):
                mapping = {**mapping, "folder": str((Path(origin).resolve().parent / folder).resolve())}
        return super().load(mapping, source=origin)

    @model_validator(mode="after")
    def _ordered(self):
        names = [s.name for s in self.steps]
        if len(set(names)) != len(names):
            raise ValueError(f"a step's name stands twice in {names}; expected each once")
        for step in self.steps:
            for need in step.needs:
                if need not in names:
                    close = near(need, names)
                    raise ValueError(f'step "{step.name}" needs "{need}", which is no step'
                                     + (f'; did you mean "{close}"?' if close else f"; expected one of {', '.join(names)}"))
        left = {s.name: set(s.needs) for s in self.steps}
        while left:
            ready = [n for n, needs in left.items() if not needs & set(left)]
            if not ready:
                raise ValueError(f"the steps {', '.join(sorted(left))} need each other in a circle")
            for name in ready:
                del left[name]
        return self


def load_pipeline(path: str | Path) -> PipelineSpec:
    """The pipeline of a file; its notebooks and specs are looked for beside it."""
    return PipelineSpec.load(Path(path))
