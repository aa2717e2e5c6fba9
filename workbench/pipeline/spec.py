"""The pipeline spec: notebooks, the specs they get, what needs what."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..errors import near
from ..spec import Name, Part, Spec


class Step(Part):
    """One notebook and the spec that is put into its ``parameters`` cell."""

    name: Name
    notebook: str
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
    """directory that the notebooks' and specs' paths start from; set when read from a file"""

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
