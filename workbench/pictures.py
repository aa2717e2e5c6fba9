"""Pictures and clips as bytes: PNG and animated PNG without loss, and pixels from them."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import SourceError

if TYPE_CHECKING:
    import numpy as np

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
"""What Pillow may take bytes for; others of its formats start programs."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(pixels: bytes, width: int, height: int, channels: int = 1) -> bytes:
    r"""A PNG of 8-bit grey (1 channel) or RGB (3) pixels, row by row (PNG specification, third edition).

    Pixels are stored and not compressed: zlib's versions compress differently, and a record's digest must not
    depend on them.

    Examples
    --------
    >>> png(bytes(4), 2, 2)[:8]
    b'\x89PNG\r\n\x1a\n'
    """
    return b"".join((SIGNATURE, _head(width, height, channels), _chunk(b"IDAT", _rows(pixels, width, height, channels)),
                     _chunk(b"IEND", b"")))


def apng(frames: Sequence[bytes], width: int, height: int, channels: int = 1, *, milliseconds: int = 125) -> bytes:
    r"""An animated PNG that plays for ever; whatever shows PNG shows its first frame.

    Examples
    --------
    >>> clip = apng([bytes(4), bytes([255] * 4)], 2, 2)
    >>> pixels_of(clip).shape
    (2, 1, 2, 2)
    """
    parts, number = [SIGNATURE, _head(width, height, channels), _chunk(b"acTL", struct.pack(">II", len(frames), 0))], 0
    for first, frame in enumerate(frames):
        parts.append(_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, milliseconds, 1000, 0, 0)))
        data = _rows(frame, width, height, channels)
        number += 1
        if first == 0:
            parts.append(_chunk(b"IDAT", data))
        else:
            parts.append(_chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
    return b"".join((*parts, _chunk(b"IEND", b"")))


def pixels_of(data: bytes, most: int | None = None) -> np.ndarray:
    """uint8 (frames, channels, height, width) of an image file's bytes: 1 channel where it is grey, else 3.

    Transparency and palettes become colours; 16 bits become 8. Of ``most`` frames no more are read.

    Raises
    ------
    SourceError
        Where the bytes are no picture.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            frames = []
            for n in range(min(getattr(image, "n_frames", 1), most or 1 << 30)):
                image.seek(n)
                frames.append(_plain(image))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise SourceError("is no picture that can be read", where="image", received=str(error)[:120],
                          allowed=f"one of {', '.join(FORMATS)}") from None
    if len({f.ndim for f in frames}) > 1:  # some frames are grey and some are not
        frames = [f if f.ndim == 3 else np.repeat(f[:, :, None], 3, 2) for f in frames]
    return np.stack([f[None] if f.ndim == 2 else f.transpose(2, 0, 1) for f in frames])


def fitted(data: bytes, size: int | None = None, colour: str = "as it is") -> bytes:
    """A picture as a PNG of a size (the square in its middle) and colour (``grey``, ``rgb``); asked for neither, the bytes as they are.

    Raises
    ------
    SourceError
        Where the bytes are no picture.

    Examples
    --------
    >>> pixels_of(fitted(png(bytes(32), 8, 4), 2, "rgb")).shape
    (1, 3, 2, 2)
    """
    first = pixels_of(data, 1)[0]
    if size is None and colour == "as it is":
        return data
    from PIL import Image, ImageOps

    image = Image.fromarray(first[0] if len(first) == 1 else first.transpose(1, 2, 0))
    if colour != "as it is":
        image = image.convert("L" if colour == "grey" else "RGB")
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BOX if min(image.size) >= size else Image.Resampling.NEAREST)
    return png(image.tobytes(), image.width, image.height, 1 if image.mode == "L" else 3)


def _plain(image) -> np.ndarray:
    import numpy as np
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return (np.asarray(image, np.float64) / 257).round().clip(0, 255).astype(np.uint8)
    return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB"))


def batch(images: Sequence[bytes], *, where: object, clips: bool = False) -> np.ndarray:
    """float32 in [-1, 1]: (n, channels, height, width), or with frames behind the channels for clips.

    Raises
    ------
    SourceError
        Where shapes differ: says which there are, and how many of each.
    """
    import numpy as np

    found = [pixels_of(image, None if clips else 1) for image in images]
    shapes = Counter(f.shape for f in found)
    if len(shapes) > 1:
        raise SourceError("holds pictures of several shapes", where=where,
                          received=", ".join(f"{n:,} of {_shape(s, clips)}" for s, n in shapes.most_common(5)), allowed="one shape for all",
                          hint="Read them at one size: sources: [{kind: images, size: 32, colour: grey, …}]")
    whole = np.stack(found) if found else np.zeros((0, 1, 1, 1, 1), np.uint8)
    whole = whole.transpose(0, 2, 1, 3, 4) if clips else whole[:, 0]
    return whole.astype(np.float32) / np.float32(127.5) - np.float32(1)


def drawn(pixels: np.ndarray) -> bytes:
    """The PNG of float pixels in [-1, 1], (channels, height, width), or the animated one of (channels, frames, height, width).

    Examples
    --------
    >>> import numpy as np
    >>> pixels_of(drawn(np.ones((3, 2, 4), np.float32))).tolist() == np.full((1, 3, 2, 4), 255).tolist()
    True
    """
    import numpy as np

    whole = ((np.asarray(pixels, np.float32).clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    frames = [whole] if whole.ndim == 3 else list(whole.transpose(1, 0, 2, 3))
    channels, height, width = frames[0].shape
    rows = [f.transpose(1, 2, 0).tobytes() for f in frames]
    return png(rows[0], width, height, channels) if whole.ndim == 3 else apng(rows, width, height, channels)


def _shape(shape: tuple[int, ...], clips: bool) -> str:
    frames, channels, height, width = shape
    return f"{height} × {width}, {'grey' if channels == 1 else 'colour'}" + (f", {frames} frames" if clips else "")


def _head(width: int, height: int, channels: int) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0))


def _rows(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    stride = width * channels
    return zlib.compress(b"".join(b"\0" + pixels[y * stride:(y + 1) * stride] for y in range(height)), 0)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
