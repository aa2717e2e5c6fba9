"""Rows that hold chats or preferences, in layouts that are about: OpenAI, ShareGPT, Alpaca, prompt and completion, chosen and rejected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ... import chats
from ...errors import SourceError
from . import Record, Unit

LAYOUTS = {
    "chosen and rejected": ("chosen", "rejected"),
    "messages": ("messages",),
    "conversations": ("conversations",),
    "instruction and output": ("instruction", "output"),
    "prompt and completion": ("prompt", "completion"),
}
"""layout -> keys that make it; a row with chosen and rejected answers is a preference whatever stands beside them."""
BESIDE = {"chosen and rejected": ("prompt",), "instruction and output": ("input", "system"), "conversations": ("system",),
          "prompt and completion": ("system",), "messages": ()}
"""layout -> keys that it may have besides"""
SAID_BY = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "observation": "tool",
           "function_response": "tool", **{role: role for role in chats.ROLES}}
"""ShareGPT's ``from`` -> role"""


class Unfit(Exception):
    """A row that is no chat: reason, what was received, what is allowed."""

    def __init__(self, reason: str, received: object, allowed: str):
        super().__init__(reason, received, allowed)
        self.reason, self.received, self.allowed = reason, received, allowed

    def __str__(self) -> str:
        shown = json.dumps(self.received, ensure_ascii=False, default=str) if not isinstance(self.received, str) else self.received
        return f"received {shown if len(shown) <= 120 else shown[:119] + '…'}; expected {self.allowed}"


def layouts_of(row: Mapping[str, Any]) -> list[str]:
    """The layouts that a row's keys make; one is due.

    Examples
    --------
    >>> layouts_of({"instruction": "Say hi", "input": "", "output": "Hi"})
    ['instruction and output']
    """
    found = [name for name, keys in LAYOUTS.items() if all(row.get(key) is not None for key in keys)]
    return found[:1] if found[:1] == ["chosen and rejected"] else found


def form_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """``chat`` or ``preference`` where the rows are such, else ``text``; so too where each has a text besides and none is a whole chat."""
    rows = list(rows)
    found = {name for row in rows for name in layouts_of(row)}
    if found and all(isinstance(row.get("text"), str) for row in rows) and not any(_fits(row) for row in rows):
        return "text"  # as in the marks on an endpoint's answers: the question, and what it should have said in the text
    return "preference" if "chosen and rejected" in found else "chat" if found else "text"


def layout(unit: Unit, rows: list[dict[str, Any]], form: str) -> str:
    """The one layout of a file, from its first rows.

    Raises
    ------
    SourceError
        Where there are two, or none of the form, or no row is what its layout says.
    """
    if not rows:
        return "messages"
    found = list(dict.fromkeys(name for row in rows for name in layouts_of(row)))
    if len(found) > 1:
        raise SourceError("mixes layouts of chats", where=unit.name, received=found, allowed="one of them in a file",
                          hint="Leave the other keys out, or name the column of plain text: text: NAME")
    fits = [name for name in found if (name == "chosen and rejected") == (form == "preference")]
    if not fits:
        allowed = [" + ".join(keys) for name, keys in LAYOUTS.items() if (name == "chosen and rejected") == (form == "preference")]
        raise SourceError(f"holds no {form}s", where=unit.name, received=list(rows[0])[:12], allowed=f"keys {', or '.join(allowed)}")
    first: Unfit | None = None
    for row in rows:
        try:
            taken(row, fits[0])
            return fits[0]
        except Unfit as fault:
            first = first or fault
    raise SourceError(f"no row among the first {len(rows)} is a {form}: {first.reason}", where=unit.name, received=first.received,
                      allowed=first.allowed)


def _fits(row: Mapping[str, Any]) -> bool:
    try:
        return bool(taken(row, *layouts_of(row)[:1]))
    except (Unfit, TypeError):
        return False


def record(unit: Unit, place: str, row: Any, expected: str) -> Record:
    """A row's chat or preference; what is none has a reason."""
    if isinstance(row, str):
        return Record(unit.name, place, row, reason="not an object", detail=f"{place}: a text where an object is due")
    label = row.get("label")
    label = label if isinstance(label, int) and not isinstance(label, bool) and abs(label) < 1 << 63 else None
    try:
        return Record(unit.name, place, taken(row, expected), label=label)
    except Unfit as fault:
        shown = json.dumps(row, ensure_ascii=False, default=str)
        return Record(unit.name, place, shown, reason=fault.reason, detail=f"{place}: {fault}")


def taken(row: Mapping[str, Any], expected: str) -> str:
    """The canonical text of a row in a layout.

    Raises
    ------
    Unfit
        Where it is none.
    """
    found = layouts_of(row)
    if found != [expected]:
        raise Unfit("layouts mixed" if found else "no chat", found or list(row)[:12],
                    f"{' + '.join(LAYOUTS[expected])}, as the file's others")
    if expected == "chosen and rejected":
        return chats.written("preference", _preference(row))
    if expected == "messages":
        messages = _messages(row["messages"], "messages")
    elif expected == "conversations":
        messages = _system(row) + _messages(row["conversations"], "conversations", who="from", what="value", roles=SAID_BY)
    else:
        asked, answer = ("instruction", "output") if expected == "instruction and output" else ("prompt", "completion")
        messages = _said(row, asked, "user") + _said(row, answer, "assistant")
        more = row.get("input") if asked == "instruction" else None
        if isinstance(more, str) and more.strip():
            messages[0]["content"] += f"\n\n{more}"
        messages = _system(row) + messages
    _answered(messages, expected)
    return chats.written("chat", {"messages": messages})


def _preference(row: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    chosen, rejected = (_said(row, name, "assistant") for name in ("chosen", "rejected"))
    if row.get("prompt") is not None:
        prompt = _said(row, "prompt", "user")
    else:  # the turns that both answers begin with
        same = next((n for n, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
        prompt = chosen[:same]
    if not any(m["role"] != "system" for m in prompt):
        raise Unfit("no prompt", list(row)[:12], "prompt: a text or messages, or turns that chosen and rejected begin with")
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if answer[:len(prompt)] == prompt:
            del answer[:len(prompt)]
        _answered(answer, name)
    if chosen == rejected:
        raise Unfit("nothing to choose", chosen[0]["content"], "chosen and rejected answers that differ")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _system(row: Mapping[str, Any]) -> list[dict[str, str]]:
    said = row.get("system")
    return [{"role": "system", "content": said}] if isinstance(said, str) and said.strip() else []


def _said(row: Mapping[str, Any], name: str, role: str) -> list[dict[str, str]]:
    """A text as one message of a role, or the messages that stand in its place."""
    value = row[name]
    if isinstance(value, str) and not _is_list(value):
        if not value.strip():
            raise Unfit("empty message", f"{name}: {value!r}", "some words")
        return [{"role": role, "content": value}]
    return _messages(value, name)


def _is_list(text: str) -> bool:
    return text.lstrip().startswith('[{"')


def _messages(value: Any, name: str, who: str = "role", what: str = "content", roles: Mapping[str, str] | None = None
              ) -> list[dict[str, str]]:
    """Messages under ``role`` and ``content``; a list may be written as JSON, as it is in CSV."""
    roles = roles or dict.fromkeys(chats.ROLES)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Unfit("no messages", f"{name}: {value}", f"a list of objects with {who} and {what}") from None
    if not isinstance(value, list) or not value or not all(isinstance(m, Mapping) for m in value):
        raise Unfit("no messages", {name: value}, f"a list of objects with {who} and {what}")
    other = {"role": "from", "from": "role", "content": "value", "value": "content"}
    found = []
    for number, message in enumerate(value, 1):
        place = f"message {number} of {name}"
        keys = {key: v for key, v in message.items() if v is not None}
        if (who in keys or what in keys) and (other[who] in keys or other[what] in keys):
            raise Unfit("layouts mixed", f"{place} with {', '.join(keys)}", f"{who} and {what} in each message")
        if who not in keys:
            raise Unfit("no role", f"{place} with {', '.join(keys) or 'no key'}", f"{who}: one of {', '.join(roles)}")
        if not isinstance(keys[who], str) or keys[who] not in roles:
            raise Unfit("unknown role", f"{keys[who]} in {place}", f"one of {', '.join(roles)}")
        content = keys.get(what)
        if isinstance(content, list) and content and all(isinstance(p, Mapping) and isinstance(p.get("text"), str) for p in content):
            content = "".join(p["text"] for p in content)
        if not isinstance(content, str):
            raise Unfit("no content", f"{place} with {', '.join(keys)}", f"{what}: a text")
        role = roles[keys[who]] or keys[who]
        if not content.strip():
            if role == "system":
                continue
            raise Unfit("empty message", f"{place}, by {role}", "some words")
        found.append({"role": role, "content": content})
    return found


def _answered(messages: list[dict[str, str]], name: str) -> None:
    if not any(m["role"] == "assistant" for m in messages):
        raise Unfit("no assistant answer", f"{name} by {', '.join(m['role'] for m in messages) or 'nobody'}", "a message by assistant")
