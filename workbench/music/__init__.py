"""Tunes: read from ABC, written to and read from MIDI, as words for a language model, and to be heard."""

from .midi import read_midi, write_midi
from .notation import read_abc
from .sound import wav
from .tokens import read_tokens, write_tokens
from .tune import Note, Tune, read_tune

__all__ = ["Note", "Tune", "read_abc", "read_midi", "read_tokens", "read_tune", "wav", "write_midi", "write_tokens"]
