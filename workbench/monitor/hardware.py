"""What the machine is and how it fares: processor, memory, disk, network, this process; a GPU where there is one."""

from __future__ import annotations

import contextlib
import csv
import os
import platform
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

GPU_FIELDS = ("index", "name", "memory.total", "memory.used", "utilization.gpu", "temperature.gpu", "power.draw")
GPU_AGE = 2.0
"""Seconds for which a GPU's figures are used again: asking the driver's tool costs tens of milliseconds."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: memory in bytes, use as a share from 0 to 1, temperature in °C, power in watts; None where it is not told."""

    index: str
    name: str
    memory: float | None
    memory_used: float | None
    busy: float | None
    temperature: float | None
    power: float | None


@dataclass(frozen=True)
class Sample:
    """The machine at one moment; sizes in bytes, times in seconds, counters since the machine started."""

    cpu_seconds: float
    """CPU time that all processes used"""
    cpus: int
    load: float
    """processes that wait for a CPU or use one, averaged over a minute"""
    memory: int
    memory_available: int
    disk: int
    disk_free: int
    read: int
    written: int
    received: int
    sent: int
    gpus: tuple[Gpu, ...]


def sample(place: str | os.PathLike = "/") -> Sample:
    """How the machine fares now.

    Parameters
    ----------
    place : a path on the disk that is asked for its room.
    """
    import psutil

    times = psutil.cpu_times()
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(place))
    moved, net = psutil.disk_io_counters(), psutil.net_io_counters()
    return Sample(sum(times) - times.idle - getattr(times, "iowait", 0.0), os.cpu_count() or 1, os.getloadavg()[0],
                  memory.total, memory.available, disk.total, disk.free, moved.read_bytes if moved else 0,
                  moved.write_bytes if moved else 0, net.bytes_recv if net else 0, net.bytes_sent if net else 0, gpus())


_seen: tuple[float, tuple[Gpu, ...]] = (-1e9, ())
_lock = threading.Lock()


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that ``nvidia-smi`` tells of; none where it is missing or does not answer."""
    global _seen
    if shutil.which("nvidia-smi") is None:
        return ()
    with _lock:
        if time.monotonic() - _seen[0] > GPU_AGE:
            text = ""
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                text = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader,nounits"],
                                      capture_output=True, text=True, timeout=3, check=True, stdin=subprocess.DEVNULL).stdout
            _seen = time.monotonic(), parse_gpus(text)
        return _seen[1]


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """The lines of ``nvidia-smi --query-gpu=… --format=csv,noheader,nounits``; its MiB become bytes, its per cent a share.

    Examples
    --------
    >>> parse_gpus("0, NVIDIA H100, 81559, 1024, 50, 40, [N/A]")[0].busy
    0.5
    """
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) == len(GPU_FIELDS):
            total, used, busy, temperature, power = map(_number, row[2:])
            found.append(Gpu(row[0], row[1], total and total * 2**20, None if used is None else used * 2**20,
                             None if busy is None else busy / 100, temperature, power))
    return tuple(found)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # [N/A], [Not Supported]
        return None


def describe() -> dict[str, str]:
    """The machine in words: processor, memory, operating system, GPUs."""
    import psutil

    physical, logical = psutil.cpu_count(logical=False), psutil.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    cores = f"{logical} logical" + (f", {physical} physical" if physical else "") + (f", {allowed} usable" if allowed < logical else "")
    facts = {"processor": f"{processor()} ({platform.machine()})", "cores": cores,
             "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB", "system": system()}
    for gpu in gpus():
        facts[f"GPU {gpu.index}"] = gpu.name + (f", {gpu.memory / 2**30:.0f} GiB" if gpu.memory else "")
    return facts


def processor() -> str:
    """The processor's name as its maker wrote it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "cpu model") and value.strip():
                return " ".join(value.split())
    return platform.processor() or "unknown"


def system() -> str:
    """The operating system and its kernel."""
    name = ""
    with contextlib.suppress(OSError):
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    kernel = f"{platform.system()} {platform.release()}"
    return f"{name}, {kernel}" if name else kernel
