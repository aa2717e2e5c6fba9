"""Chats and preferences as a record's text: one canonical JSON, the words in it, and how a person reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from .errors import SourceError

ROLES = ("system", "user", "assistant", "tool")
FORMS = {"chat": ("messages",), "preference": ("prompt", "chosen", "rejected")}
"""form -> parts of its JSON, each a list of messages"""


def written(form: str, value: dict[str, list[dict[str, str]]]) -> str:
    """The canonical JSON: parts and keys in their order, letters as they are.

    Examples
    --------
    >>> written("chat", {"messages": [{"content": "Hi", "role": "user"}]})
    '{"messages": [{"role": "user", "content": "Hi"}]}'
    """
    return json.dumps({part: [{"role": m["role"], "content": m["content"]} for m in value[part]] for part in FORMS[form]},
                      ensure_ascii=False)


def parsed(form: str, text: str) -> dict[str, list[dict[str, str]]]:
    """A record's text as lists of messages.

    Raises
    ------
    SourceError
        Where it is no JSON of this form.
    """
    try:
        value = json.loads(text)
        return {part: [{"role": m["role"], "content": m["content"]} for m in value[part]] for part in FORMS[form]}
    except (ValueError, KeyError, TypeError):
        raise SourceError(f"is no {form}", where="record", received=text[:120], allowed=_allowed(form)) from None


def contents(form: str, text: str) -> list[str]:
    """What was said, message by message."""
    return [m["content"] for part in parsed(form, text).values() for m in part]


def words(form: str, text: str) -> str:
    r"""All that was said, a message after the other, without roles.

    Examples
    --------
    >>> words("chat", '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}')
    'Hi\nHello'
    """
    return "\n".join(contents(form, text))


def replaced(form: str, text: str, change: Callable[[str], str]) -> str:
    """The same record with each content changed by a function."""
    return written(form, {part: [{**m, "content": change(m["content"])} for m in messages]
                          for part, messages in parsed(form, text).items()})


def spoken(form: str, text: str) -> str:
    r"""A record as a person reads it: role, colon, words; chosen and rejected answers say which they are.

    Examples
    --------
    >>> spoken("chat", '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}')
    'user: Hi\n\nassistant: Hello'
    """
    return "\n\n".join(f"{who}: {content}" for who, content in turns(form, text))


def turns(form: str, text: str) -> Iterator[tuple[str, str]]:
    """(who, words) of each message; who is the role, or the role and which of the two answers it is."""
    for part, messages in parsed(form, text).items():
        for message in messages:
            yield (f"{part} {message['role']}" if part in ("chosen", "rejected") else message["role"]), message["content"]


def _allowed(form: Any) -> str:
    return f"an object with {', '.join(FORMS[form])}, each a list of messages with role and content"
