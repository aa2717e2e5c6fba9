"""A tune to be heard: a plucked tone, 16 kHz, one channel, in a WAV file."""

from __future__ import annotations

import io
import wave

from .tune import Tune

RATE = 16_000
HARMONICS = ((1, 1.0), (2, 0.45), (3, 0.25), (4, 0.12))
"""(multiple of the pitch, strength): each dies away the faster the higher it is"""


def wav(tune: Tune, seconds: float | None = None) -> bytes:
    r"""The bytes of a WAV file, at most so many seconds of it.

    Examples
    --------
    >>> from .notation import read_abc
    >>> len(wav(read_abc("X:1\nK:C\nCDEF"), seconds=1.0))
    32044
    """
    import numpy as np

    beat = 60 / tune.tempo
    whole = min(tune.seconds + 0.3, seconds if seconds is not None else 600.0)
    sound = np.zeros(max(1, int(whole * RATE)), np.float32)
    for note in tune.notes:
        first = int(float(note.start) * beat * RATE)
        if first >= len(sound):
            break
        tone = _tone(note.pitch, float(note.length) * beat + 0.08)[:len(sound) - first]
        sound[first:first + len(tone)] += tone
    peak = float(np.abs(sound).max())
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * (0.8 * 32_767 / peak if peak else 0)).astype("<i2").tobytes())
    return out.getvalue()


def _tone(pitch: int, seconds: float):
    import numpy as np

    time = np.arange(max(1, int(min(seconds, 8.0) * RATE)), dtype=np.float32) / RATE
    pitch_hz = 440 * 2 ** ((pitch - 69) / 12)
    tone = sum(strength * np.exp(-time * (2 + 1.5 * multiple)) * np.sin(2 * np.pi * pitch_hz * multiple * time)
               for multiple, strength in HARMONICS if pitch_hz * multiple < RATE / 2)
    edge = np.minimum(1, np.minimum(time / 0.005, (time[-1] - time) / 0.03))  # no click at either end
    return (tone * edge).astype(np.float32) if not np.isscalar(tone) else np.zeros_like(time)
