"""Copies of a rank's tensors taken while the loop goes on: parameters hold still until the next optimizer step, so only that waits.

The idea is that of lazy checkpoints (Maurya et al., "DataStates-LLM", 2024).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Sequence

import torch

from .shards import Piece

SLICE = 16 << 20
"""Bytes copied at once: between two of them a thread that waits for the interpreter gets it."""


class Buffer:
    """Room for a rank's share, used again for each copy; page-locked where a GPU's tensors come to it."""

    def __init__(self) -> None:
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def of(self, size: int, pinned: bool = False) -> memoryview:
        """At least so many bytes, whatever they hold."""
        if self._bytes.numel() < size or (pinned and not self._bytes.is_pinned()):
            self._bytes = torch.empty(0, dtype=torch.uint8)  # the old one goes before the new one comes
            self._bytes = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        return memoryview(self._bytes.numpy())[:size]


class Moment:
    """A point in a device's work after which tensors hold still; made by the loop, waited for by the thread that copies."""

    def __init__(self, pieces: Sequence[Piece]):
        self.device = next((p.local.device for p in pieces if p.local.device.type == "cuda"), None)
        if self.device is not None:
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(self.device))

    def copy(self, placed: Sequence[Piece], room: memoryview) -> None:
        """Copy the pieces to where they belong; returns when all are there."""
        if self.device is None:
            for piece in placed:
                copy(piece.local, room[piece.begin:piece.begin + piece.nbytes])
            return
        stream = torch.cuda.Stream(self.device)
        stream.wait_event(self._event)
        with torch.cuda.stream(stream):
            for piece in placed:
                copy(piece.local, room[piece.begin:piece.begin + piece.nbytes])
        stream.synchronize()


def copy(tensor: torch.Tensor, room: memoryview) -> None:
    """The bytes of a tensor into a piece of memory; holds neither the interpreter nor more than one core."""
    if tensor.device.type == "cpu" and tensor.is_contiguous():
        size, source = tensor.numel() * tensor.element_size(), tensor.data_ptr()
        goal = ctypes.addressof(ctypes.c_char.from_buffer(room))
        for begin in range(0, size, SLICE):
            ctypes.memmove(goal + begin, source + begin, min(SLICE, size - begin))
        return
    torch.frombuffer(room, dtype=tensor.dtype).view(tensor.shape).copy_(tensor, non_blocking=True)


def step_back() -> None:
    """Let this thread work only while a core has nothing better to do."""
    with contextlib.suppress(OSError, AttributeError):  # Linux counts niceness by thread; elsewhere it stays as it is
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
