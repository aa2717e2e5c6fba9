from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from widgets.form import describe
from workbench.spec import WORDS, Part, Spec, spec_class


class Left(Part):
    """Goes left."""

    way: Literal["left"] = "left"
    far: float = Field(2.0, gt=0, le=9)
    """metres"""


class Right(Part):
    way: Literal["right"] = "right"


class Odd(Spec):
    """A spec with a field of each kind."""

    WORD = "odd"
    word: Literal["odd"] = "odd"
    title: str
    """what it is called"""
    count: int | None = Field(None, ge=1)
    loud: bool = False
    size: Literal["small", "big"] = "small"
    ways: tuple[Annotated[Left | Right, Field(discriminator="way")], ...] = (Left(), Right())
    part: Left = Left(far=3)
    labels: dict[str, str] = {}
    either: str | dict | None = None
    seconds: float = Field(1.0, alias="for", json_schema_extra={"editor": "dial", "unit": "ms"})


def test_every_kind_of_field_is_described_from_the_spec_alone():
    form = describe(Odd)
    fields = {f["name"]: f for f in form["fields"]}
    assert form["help"] == "A spec with a field of each kind."
    assert {n: f["kind"] for n, f in fields.items()} == {
        "title": "text", "count": "number", "loud": "switch", "size": "choice", "ways": "list", "part": "part", "labels": "map",
        "either": "any", "for": "number"}
    assert fields["title"]["required"] and fields["title"]["help"] == "what it is called"
    assert fields["count"] | {"optional": True, "integer": True, "min": 1, "default": None} == fields["count"]
    assert fields["size"]["choices"] == ["small", "big"]
    assert fields["ways"]["default"] == [{"way": "left", "far": 2.0}, {"way": "right"}]
    variants = fields["ways"]["of"]["variants"]
    assert [(v["value"], v["help"]) for v in variants] == [("left", "Goes left."), ("right", "")]
    assert variants[0]["fields"][0] | {"above": 0, "max": 9, "help": "metres"} == variants[0]["fields"][0]
    assert fields["part"]["fields"][0]["default"] == 3  # the default of the field around it, not the part's own
    assert fields["for"]["editor"] == "dial" and fields["for"]["unit"] == "ms"


def test_the_panel_chooses_what_stands_open_and_better_editors():
    form = describe(Odd, ("loud", "title"), {"ways.*.far": "dial", "part.far": "slider"})
    assert [f["name"] for f in form["fields"] if f["main"]] == ["loud", "title"]
    fields = {f["name"]: f for f in form["fields"]}
    assert fields["ways"]["of"]["variants"][0]["fields"][0]["editor"] == "dial"
    assert fields["part"]["fields"][0]["editor"] == "slider"


@pytest.mark.parametrize("word", sorted(WORDS))
def test_each_spec_has_a_form_with_every_field_once(word):
    spec = spec_class(word)
    names = [f["name"] for f in describe(spec)["fields"]]
    assert sorted(names) == sorted((f.alias or n) for n, f in spec.model_fields.items() if n not in ("word", "version"))
    assert sum(f["main"] for f in describe(spec)["fields"]) <= 5
