"""Records and samples as a person takes them in: chats read, pictures and clips seen, tunes heard. HTML without script or network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from . import chats, pictures
from .drawing import Markup, escape
from .errors import SourceError

SECONDS = 10.0
"""Of a tune that can be heard; a second takes 43 kB of a saved notebook."""
SIDE = 64
"""Pixels on the screen that a small picture is brought to."""
_WHO = "display:inline-block;min-width:6em;opacity:.65"


def record_html(form: str, record: Mapping[str, Any], names: Iterable[str] = ()) -> Markup:
    """One record of a dataset, by its form.

    Parameters
    ----------
    names : of the labels, by their numbers.
    """
    if record.get("image") is not None:
        label, names = record.get("label"), list(names)
        return picture_html(record["image"], "" if label is None else names[label] if 0 <= label < len(names) else str(label))
    text = record.get("text") or ""
    if form in chats.FORMS:
        return chat_html(form, text)
    return tune_html(form, text) if form in ("abc", "midi") else Markup(f"<pre>{escape(text)}</pre>")


def chat_html(form: str, text: str) -> Markup:
    """The turns of a chat, each with its role; of a preference the prompt and both answers.

    Examples
    --------
    >>> "user" in chat_html("chat", '{"messages": [{"role": "user", "content": "Hi"}]}')
    True
    """
    try:
        turns = list(chats.turns(form, text))
    except SourceError:
        return Markup(f"<pre>{escape(text)}</pre>")
    lines = (f'<div style="white-space:pre-wrap"><b style="{_WHO}">{escape(who)}</b>{escape(said)}</div>' for who, said in turns)
    return Markup(f'<div style="margin:.5em 0">{"".join(lines)}</div>')


def picture_html(image: bytes, title: str = "") -> Markup:
    """A picture as it is stored; an animated one plays by itself."""
    return Markup(f'<figure style="display:inline-block;margin:.2em;text-align:center"><img alt="{escape(title or "picture")}" '
                  f'style="min-width:{SIDE}px;max-width:16em;image-rendering:pixelated" '
                  f'src="data:{media_of(image)};base64,{base64.b64encode(image).decode()}">'
                  + (f'<figcaption style="font-weight:400">{escape(title)}</figcaption>' if title else "") + "</figure>")


def grid_html(pixels: Any, titles: Iterable[str] = ()) -> Markup:
    """Pictures (n, channels, height, width) or clips (n, channels, frames, height, width) in [-1, 1], side by side.

    Examples
    --------
    >>> import numpy as np
    >>> grid_html(np.zeros((3, 1, 8, 8), np.float32)).count("<img")
    3
    """
    titles = list(titles)
    shown = (picture_html(pictures.drawn(one), titles[n] if n < len(titles) else "") for n, one in enumerate(pixels))
    return Markup(f'<div class="wb-grid">{"".join(shown)}</div>')


def tune_html(form: str, text: str, seconds: float = SECONDS) -> Markup:
    r"""A tune to be heard, with its notes as text; what a model wrote plays up to its first fault, which is told.

    Examples
    --------
    >>> "<audio" in tune_html("abc", "X:1\nK:C\nCDEF")
    True
    """
    from .music import read_tune, wav

    told = ""
    try:
        tune = read_tune(form, text)
    except SourceError as error:
        told = f'<p class="wb-note">{escape(error)}</p>'
        try:
            tune = read_tune(form, text, lenient=True)
        except SourceError:
            tune = None
    if tune is None or not tune.notes:
        return Markup(f"<figure>{told or '<p>no notes</p>'}<pre>{escape(text[:2000])}</pre></figure>")
    sound = base64.b64encode(wav(tune, seconds)).decode()
    cut = f", the first {seconds:g} s of {tune.seconds:.0f}" if tune.seconds > seconds else ""
    return Markup(f"<figure><figcaption>{escape((tune.title or 'tune') + cut)}</figcaption>"
                  f'<audio controls preload="metadata" src="data:audio/wav;base64,{sound}"></audio>{told}'
                  f"<pre>{escape(text[:2000])}</pre></figure>")


def sample_html(media: str, content: bytes, title: str, text: str = "") -> Markup:
    """A picture, a clip or a sound that a model made, with the words that say it."""
    if not media.startswith("audio/"):
        return picture_html(content, title)
    said = f"<pre>{escape(text[:2000])}</pre>" if text else ""
    return Markup(f'<figure><figcaption>{escape(title)}</figcaption><audio controls preload="metadata" '
                  f'src="data:{escape(media)};base64,{base64.b64encode(content).decode()}"></audio>{said}</figure>')


def media_of(image: bytes) -> str:
    """The media type of a picture's bytes."""
    for mark, kind in ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"GIF8", "image/gif"), (b"BM", "image/bmp")):
        if image.startswith(mark):
            return kind
    return "image/webp"
