"""Copies of the ranks' states in their hosts' memory, every few steps: a rank that dies costs no step that was made.

A rank copies what it holds into one of its slots and then shows a word beside it, at once. What all ranks hold is copied by two
ranks of a host, so that with a rank no step is lost that another has made; a shard is copied by its owner, and passed on to the
next host where there are several. Ranks that start tell one another which words they find; the furthest step that is whole among
them beats the checkpoint on disk.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..ranks.control import Control
from . import checkpoints, memory, shards
from .passing import Receiver, Sender
from .staging import Moment

AT_ONCE = 64 << 20
"""Bytes up to which the loop copies itself: handing over to a thread would cost it more."""
SLOTS = "abc"
"""A rank's slots: one is whole while another is written, and the third lets the ranks be a step apart."""
TWINS = 2
"""Ranks of a host that copy what all ranks hold."""


class Copies:
    """A rank's copies, and what it finds of others on its host.

    Parameters
    ----------
    root : the host's place for copies of this run.
    local_rank : number of the rank on its host.
    mark : word that all ranks of this start share.
    """

    def __init__(self, root: Path, rank: int, world: int, *, local_rank: int = 0, mark: str = ""):
        self.root, self.rank, self.world, self.local_rank, self.mark = root, rank, world, local_rank, mark
        self.stalled = 0.0
        """seconds that the loop spent here"""
        self.sure = -1
        """step that stays whole whichever rank or host dies: the last one that was copied, or where others' copies are needed for
        that (``spread``) the one before it: ranks make a step together, their copies of the one before it done and passed on"""
        self.spread = False
        """there are several hosts, or each rank's own part is wanted (``furthest``)"""
        self._ready = threading.Event()
        self._ready.set()
        self._rooms: dict[str, mmap.mmap] = {}
        self._steps: dict[str, int] = {}
        self._layout: tuple[tuple, list[dict[str, Any]]] = ((), [])
        self._held = memory.hold(root)
        self._receiver: Receiver | None = None
        self._sender: Sender | None = None

    def take(self, state: Mapping[str, Any], step: int, *, steady: frozenset[int] = frozenset(), own: Any = None) -> bool:
        """Copy a state; large ones while the loop goes on, until ``ready``. False where there was no room for it."""
        begin = time.perf_counter()
        try:
            self.passed()  # what is sent lies in a slot that may be next
            rest, pieces = shards.taken_apart(state, steady)
            alone = all(p.replicated for p in pieces)
            if self.local_rank >= TWINS:
                pieces = [p for p in pieces if not p.replicated]
            placed = [p if p.steady else replace(p, local=p.local.clone()) for p in shards.share(pieces, 0, 1)]
            blobs = {shards.COMMON: shards.blob(rest, check=False), shards.OWN: shards.blob(own, check=False)}
            size = sum(p.nbytes for p in placed)
            slot = self._slot()
            room = self._room(slot, size + sum(map(len, blobs.values())))
            end = size
            for raw in blobs.values():
                room[end:end + len(raw)] = raw
                end += len(raw)
            word = {"step": step, "mark": self.mark, "world": self.world, "rank": self.rank, "file": self._file(slot).name,
                    "alone": alone and self.local_rank < TWINS, "size": end,
                    "blobs": {n: len(raw) for n, raw in blobs.items()}, "tensors": self._described(placed)}
            if size <= AT_ONCE:
                Moment(placed).copy(placed, memoryview(room))
                self._show(slot, word)
            else:
                self._ready.clear()
                arguments = (Moment(placed), placed, memoryview(room), slot, word)
                threading.Thread(target=self._behind, args=arguments, name="copies", daemon=True).start()
        except OSError:
            return False
        finally:
            self.stalled += time.perf_counter() - begin
        return True

    def ready(self) -> None:
        """Wait until nothing is copied any more: to be called before an optimizer steps."""
        self._ready.wait()

    def passed(self) -> None:
        """Wait until what was copied lies on the next host too, or could not be brought there."""
        self.ready()
        if self._sender is not None:
            self._sender.wait()

    def words(self) -> list[dict[str, Any]]:
        """What lies here of any rank, without what lies in it."""
        found = []
        for path in self.root.glob("rank-*.json"):
            with contextlib.suppress(OSError, ValueError):
                word = json.loads(path.read_bytes())
                found.append({k: word[k] for k in ("step", "mark", "world", "rank", "alone")})
        return found

    def word(self, mark: str, step: int, rank: int) -> dict[str, Any]:
        """All that a rank said of a copy that lies here."""
        return next(w for w in self._whole_words(mark, step) if w["rank"] == rank)

    def receive(self) -> list[Any]:
        """Begin to take in what others send; returns where, and the token."""
        self._receiver = Receiver(self.root)
        return [self._receiver.address, self._receiver.token]

    def pass_on(self, address: list, token: str) -> None:
        """Send each copy that is no other's twin on to a rank of the next host."""
        self._sender = Sender(address, token, lambda word: memoryview(self._rooms[word["file"][-1]])[:word["size"]])

    def keep_only(self, mark: str, step: int) -> None:
        """Forget all words but those of one step of one start."""
        for path in self.root.glob("rank-*.json"):
            with contextlib.suppress(OSError, ValueError):
                word = json.loads(path.read_bytes())
                if (word["mark"], word["step"]) != (mark, step):
                    path.unlink(missing_ok=True)

    def whole(self, mark: str, step: int) -> tuple[dict[str, Any], list[Path]]:
        """The manifest and the files of a step that lies here whole."""
        words = self._whole_words(mark, step)
        return _manifest(words), [self.root / w["file"] for w in words]

    def checkpoint(self, mark: str, step: int) -> Path:
        """A step that lies here whole, as a checkpoint that this rank can read; its bytes stay where they are."""
        said, files = self.whole(mark, step)
        goal = checkpoints.path_of(self.root / f"for-{self.rank}", step)
        goal.mkdir(parents=True, exist_ok=True)
        for entry, file in zip(said["files"], files, strict=True):
            entry["name"] = os.path.relpath(file, goal)
        (goal / checkpoints.MANIFEST).write_bytes(checkpoints.sealed(said))
        return goal

    def remove(self) -> None:
        """Remove all copies of the run on this host: it has come to its end."""
        self.passed()
        if self._receiver is not None:
            self._receiver.close()
        for room in self._rooms.values():
            with contextlib.suppress(BufferError):
                room.close()
        self._rooms = {}
        memory.clear(self.root)

    def _whole_words(self, mark: str, step: int) -> list[dict[str, Any]]:
        words = []
        for path in self.root.glob("rank-*.json"):
            with contextlib.suppress(OSError, ValueError):
                word = json.loads(path.read_bytes())
                if (word["mark"], word["step"]) == (mark, step):
                    words.append(word)
        return sorted(words, key=lambda w: w["rank"])

    def _behind(self, moment: Moment, placed: list[shards.Piece], room: memoryview, slot: str, word: dict[str, Any]) -> None:
        try:
            moment.copy(placed, room)
            self._show(slot, word)
        except OSError:
            pass  # no word, no copy
        finally:
            room.release()
            self._ready.set()

    def _slot(self) -> str:
        """The slot without a word, or with the oldest; its word goes first."""
        for slot in set(SLOTS) - set(self._steps):
            try:
                self._steps[slot] = json.loads(self._word(slot).read_bytes())["step"]  # an earlier start's
            except (OSError, ValueError, KeyError):
                self._steps[slot] = -1
        slot = min(SLOTS, key=lambda s: (self._steps[s], s))
        self._word(slot).unlink(missing_ok=True)
        self._steps[slot] = -1
        return slot

    def _room(self, slot: str, size: int) -> mmap.mmap:
        room = self._rooms.get(slot)
        if room is None or len(room) < size:
            size = -(-(size + 4096) // 4096) * 4096  # a little more: what is no tensor grows and shrinks
            with open(self._file(slot), "a+b") as file:
                os.posix_fallocate(file.fileno(), 0, size)  # here and not in the middle of the copy is told that there is no room
                room = self._rooms[slot] = mmap.mmap(file.fileno(), size)
        return room

    def _show(self, slot: str, word: dict[str, Any]) -> None:
        path = self._word(slot)
        hidden = path.with_suffix(".new")
        hidden.write_text(json.dumps(word))
        hidden.replace(path)
        self.sure = word["step"] if word["alone"] and not self.spread else max(self._steps.values())
        self._steps[slot] = word["step"]
        if self._sender is not None and not word["alone"]:
            self._sender.send(word)

    def _described(self, placed: list[shards.Piece]) -> list[dict[str, Any]]:
        layout = tuple((p.name, p.begin, p.nbytes) for p in placed)
        if layout != self._layout[0]:
            self._layout = layout, shards.fragment("", placed, 0, {})["tensors"]
        return self._layout[1]

    def _file(self, slot: str) -> Path:
        return self.root / f"rank-{self.rank}.{slot}"

    def _word(self, slot: str) -> Path:
        return self.root / f"rank-{self.rank}.{slot}.json"


def furthest(found: list[tuple[str, list[dict[str, Any]]]], *, strict: bool = False) -> tuple[str, int, dict[int, list[str]]] | None:
    """The furthest step that is whole among all words: mark, step, and on which hosts each rank's copy of it lies.

    Parameters
    ----------
    found : of each rank that asks, the name of its host and the words that it finds there.
    strict : count a step only when every rank's own part of it is there too, such as the state of its random numbers.

    Examples
    --------
    >>> word = {"mark": "m", "world": 2, "alone": True}
    >>> words = [word | {"rank": 0, "step": 8}, word | {"rank": 1, "step": 7}, word | {"rank": 0, "step": 7}]
    >>> furthest([("here", words)])
    ('m', 8, {0: ['here']})
    >>> furthest([("here", words)], strict=True)
    ('m', 7, {0: ['here'], 1: ['here']})
    """
    by_step: dict[tuple[int, str], dict[int, dict[str, dict[str, Any]]]] = {}
    for host, words in found:
        for word in words:
            by_step.setdefault((word["step"], word["mark"]), {}).setdefault(word["rank"], {})[host] = word
    for (step, mark), ranks in sorted(by_step.items(), reverse=True):
        words = {rank: next(iter(hosts.values())) for rank, hosts in sorted(ranks.items())}
        if _is_whole(words, strict):
            return mark, step, {rank: sorted(ranks[rank]) for rank in words}
    return None


def meet(control: Control, copies: Copies, beyond: int, *, strict: bool = False) -> Path | None:
    """Find with all other ranks the furthest copied step; the checkpoint to read it by, or none where that on disk is as far.

    All ranks must call it. What lies on some hosts only is carried to the others; and where there are several, each rank's
    shards are passed on to the next from here on.

    Parameters
    ----------
    beyond : step of the checkpoint on disk.
    """
    told = control.exchange({"host": memory.name(copies.root), "words": copies.words(), "mark": os.urandom(4).hex()})
    copies.mark = told[0]["mark"]
    hosts = [t["host"] for t in told]
    copies.spread = strict or len(set(hosts)) > 1
    found = furthest([(t["host"], t["words"]) for t in told], strict=strict)
    if found is not None and found[1] <= beyond:
        found = None
    copies.keep_only(*(found or ("", -1))[:2])
    if len(set(hosts)) > 1:
        ends = control.exchange(copies.receive())
        copies.pass_on(*ends[_next(copies.rank, hosts)])
    if found is None:
        return None
    mark, step, holders = found
    _carry(copies, mark, step, hosts, holders)
    control.exchange(step)  # nobody reads before all is there
    return copies.checkpoint(mark, step)


def _next(rank: int, hosts: list[str]) -> int:
    """The rank of the next host that takes in a rank's copies: as many ranks there share the work as can.

    Examples
    --------
    >>> [_next(rank, ["a", "a", "b", "b"]) for rank in range(4)]
    [2, 3, 0, 1]
    """
    order = list(dict.fromkeys(hosts))
    there = order[(order.index(hosts[rank]) + 1) % len(order)]
    candidates = [r for r, h in enumerate(hosts) if h == there]
    return candidates[hosts[:rank].count(hosts[rank]) % len(candidates)]


def _carry(copies: Copies, mark: str, step: int, host_of: list[str], holders: Mapping[int, list[str]]) -> None:
    """Bring what lies on some hosts only to the others: one rank that has it sends, the first of each such host writes."""
    import torch
    import torch.distributed as dist

    here = host_of[copies.rank]
    for rank, hosts in holders.items():
        if set(host_of) <= set(hosts):
            continue
        source = next(r for r, h in enumerate(host_of) if h in hosts)
        box: list[Any] = [copies.word(mark, step, rank) if copies.rank == source else None]
        dist.broadcast_object_list(box, src=source)
        word = box[0]
        data = torch.empty(word["size"], dtype=torch.uint8)
        if copies.rank == source:
            data = torch.frombuffer(bytearray((copies.root / word["file"]).read_bytes()[:word["size"]]), dtype=torch.uint8)
        dist.broadcast(data, src=source)
        if here not in hosts and host_of.index(here) == copies.rank:
            (copies.root / word["file"]).write_bytes(data.numpy())
            (copies.root / f"{word['file']}.json").write_text(json.dumps(word))


def _is_whole(words: Mapping[int, Mapping[str, Any]], strict: bool) -> bool:
    everyone = set(words) == set(range(next(iter(words.values()))["world"]))
    return everyone if strict else everyone or any(w["alone"] for w in words.values())


def _manifest(words: list[dict[str, Any]]) -> dict[str, Any]:
    tensors: dict[str, dict[str, Any]] = {}
    files, owns = [], {}
    for number, word in enumerate(words):
        end = word["size"] - sum(word["blobs"].values())
        places = {}
        for name, length in word["blobs"].items():
            places[name] = {"file": number, "at": [end, end + length]}
            end += length
        owns[word["rank"]] = places
        files.append({"name": word["file"], "size": word["size"], "header": {"at": [0, 0]}})
        for chunk in word["tensors"]:
            entry = tensors.setdefault(chunk["name"], {"dtype": chunk["dtype"], "shape": chunk["shape"], "chunks": []})
            if all(c["offsets"] != chunk["offsets"] for c in entry["chunks"]):  # a twin's is the same
                entry["chunks"].append({"file": number, **{k: chunk[k] for k in ("offsets", "sizes", "at")}})
    first = words[0]
    nobody = owns[first["rank"]]
    return {"version": checkpoints.VERSION, "step": first["step"], "world": first["world"] if len(words) == first["world"] else 0,
            "measure": None, "at": time.time(), "tensors": tensors, "files": files, "common": nobody[shards.COMMON],
            "ranks": [owns.get(rank, nobody)[shards.OWN] for rank in range(first["world"])]}
