"""The machine in numbers and words; GPUs as nvidia-smi writes them."""

from __future__ import annotations

import os

import psutil

from workbench.monitor.hardware import Gpu, describe, parse_gpus, sample


def test_a_sample_agrees_with_the_machine(tmp_path):
    before = sample(tmp_path)
    sum(n * n for n in range(3_000_000))
    after = sample(tmp_path)
    assert after.cpu_seconds > before.cpu_seconds and after.cpus == os.cpu_count()
    assert after.memory == psutil.virtual_memory().total and 0 < after.disk_free <= after.disk
    assert after.received >= before.received and after.written >= before.written


def test_gpus_as_the_tool_writes_them_and_what_it_does_not_tell():
    text = ("0, NVIDIA H100 80GB HBM3, 81559, 1024, 50, 40, 120.50\n"
            "1, NVIDIA T4, 15360, [N/A], [Not Supported], [N/A], [N/A]\n\nbroken, line\n")
    assert parse_gpus(text) == (Gpu("0", "NVIDIA H100 80GB HBM3", 81559 * 2**20, 2**30, 0.5, 40.0, 120.5),
                                Gpu("1", "NVIDIA T4", 15360 * 2**20, None, None, None, None))
    assert parse_gpus("NVIDIA-SMI has failed because it couldn't communicate with the driver") == ()


def test_the_tool_is_asked_where_it_is_there(tmp_path, monkeypatch):
    from workbench.monitor import hardware

    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, NVIDIA H100, 81559, 512, 25, 41, 99'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(hardware, "_seen", (-1e9, ()))
    assert [(g.name, g.busy) for g in hardware.gpus()] == [("NVIDIA H100", 0.25)]
    assert describe()["GPU 0"] == "NVIDIA H100, 80 GiB"
    tool.write_text("#!/bin/sh\nexit 9\n")
    monkeypatch.setattr(hardware, "_seen", (-1e9, ()))
    assert hardware.gpus() == ()
    monkeypatch.setattr(hardware, "_seen", (-1e9, ()))


def test_the_machine_in_words():
    assert {"processor", "cores", "memory", "system"} <= set(describe()) and all(describe().values())
