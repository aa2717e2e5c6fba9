"""A state in pieces: whose share each tensor is, where it lies in a rank's file, and how it is read again by any number of ranks.

A rank's file is a safetensors file: anybody's reader opens it. What is no tensor, and tensors of a few bytes, are one stretch
in it, read without running code. Reading goes through torch.distributed.checkpoint, which cuts the pieces anew for the ranks
that ask.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.tensor import DTensor, Replicate
from torch.futures import Future

from ...errors import StorageError
from . import checkpoints

SMALL = 2048
"""Bytes up to which a tensor stays with the rest."""
COMMON, OWN = "workbench.common", "workbench.rank"
"""Names in a rank's file of what all ranks have in common (rank 0 writes it) and of what is the rank's own."""
_SPREAD = ("state_dict", "optimizer_states")
"""Parts of a state whose tensors may be spread over ranks: there only single numbers stay with the rest."""
_MARK = "workbench tensor"
_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
           torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL", torch.complex64: "C64",
           torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"}
_OF_NAME = {name: dtype for dtype, name in _DTYPES.items()}


@dataclass(frozen=True)
class Piece:
    """What a rank holds of one tensor."""

    name: str
    local: torch.Tensor
    """as it lies in the rank's memory"""
    shape: tuple[int, ...]
    """of the whole tensor, over all ranks"""
    offsets: tuple[int, ...]
    """where in the whole tensor this part begins"""
    replicated: bool
    """every rank holds all of it"""
    steady: bool = False
    """doesn't change between one optimizer step and the next"""
    begin: int = 0
    """first byte in a rank's share"""

    @property
    def nbytes(self) -> int:
        return self.local.numel() * self.local.element_size()


def taken_apart(state: Mapping[str, Any], steady: frozenset[int] = frozenset()) -> tuple[Any, list[Piece]]:
    """A state's tensors, and the rest with a mark where each was; one that stands in several places is one tensor.

    Parameters
    ----------
    steady : addresses (``data_ptr``) of tensors that only an optimizer step changes; those under "optimizer_states" are
        counted so without being named.

    Examples
    --------
    >>> rest, (piece,) = taken_apart({"step": 3, "w": torch.zeros(40, 40)})
    >>> rest["step"], piece.name, piece.shape, piece.replicated
    (3, 'w', (40, 40), True)
    """
    found: dict[str, tuple[torch.Tensor, bool]] = {}
    tied: dict[tuple, str] = {}

    def walk(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, torch.Tensor):
            value = value.detach()
            few = SMALL if path[0] not in _SPREAD else 0
            if not isinstance(value, DTensor) and (not value.dim() or value.nbytes <= few or value.dtype not in _DTYPES):
                return value.cpu().clone()
            local = value.to_local() if isinstance(value, DTensor) else value
            key = (local.data_ptr(), local.dtype, tuple(local.shape), local.stride(), tuple(value.shape))
            if local.numel() and key in tied:
                return {_MARK: tied[key]}
            name = ".".join(path)
            while name in found:
                name += "'"
            tied[key] = name
            found[name] = value, path[0] == "optimizer_states" or local.data_ptr() in steady
            return {_MARK: name}
        if isinstance(value, Mapping):
            return {k: walk(v, (*path, str(k))) for k, v in value.items()}
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(walk(v, (*path, str(n))) for n, v in enumerate(value))
        return value

    rest = walk(state, ())
    return rest, [_piece(name, tensor, still) for name, (tensor, still) in found.items()]


def put_together(rest: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The state that ``taken_apart`` took apart."""
    if isinstance(rest, dict):
        if rest.keys() == {_MARK}:
            return tensors[rest[_MARK]]
        return {k: put_together(v, tensors) for k, v in rest.items()}
    if isinstance(rest, (list, tuple)) and not hasattr(rest, "_fields"):
        return type(rest)(put_together(v, tensors) for v in rest)
    return rest


def share(pieces: Iterable[Piece], rank: int, world: int) -> list[Piece]:
    """The pieces that a rank writes, placed one behind the other: what all hold is dealt out by size, a shard is its owner's.

    Every rank deals the same way, so none has to ask.

    Examples
    --------
    >>> _, pieces = taken_apart({n: torch.zeros(n, 1000) for n in (1, 2, 3)})
    >>> [[p.name for p in share(pieces, rank, 2)] for rank in (0, 1)]
    [['3'], ['1', '2']]
    """
    loads, mine = [0] * world, []
    pieces = list(pieces)
    for number in sorted(range(len(pieces)), key=lambda n: (-pieces[n].nbytes if pieces[n].replicated else 0, n)):
        piece = pieces[number]
        owner = rank
        if piece.replicated:
            owner = loads.index(min(loads))
            loads[owner] += piece.nbytes
        if owner == rank and piece.nbytes:
            mine.append((-piece.local.element_size(), number))
    placed, begin = [], 0
    for _, number in sorted(mine):  # wide types first: each then begins where its type may
        placed.append(replace(pieces[number], begin=begin))
        begin += pieces[number].nbytes
    return placed


def blob(value: Any, *, check: bool = True) -> bytes:
    """A value without large tensors as bytes that ``unblob`` reads.

    Raises
    ------
    StorageError
        When it holds something that could only be read by running code.
    """
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        raw = buffer.getvalue()
        if not check:
            return raw
        unblob(raw)
    except Exception as error:
        raise StorageError("a state holds what can't be kept in a checkpoint", received=str(error).partition("\n")[0],
                           allowed="tensors, numbers, texts, lists, tuples, mappings",
                           hint="Return only such values from state_dict and on_save_checkpoint") from error
    return raw


def unblob(raw: bytes) -> Any:
    """A value from bytes; runs no code of theirs."""
    return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)


def header(placed: Sequence[Piece], blobs: Mapping[str, bytes]) -> bytes:
    """The head of a rank's file."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for piece in placed:
        name = piece.name if piece.replicated else f"{piece.name}@{','.join(map(str, piece.offsets))}"
        end = piece.begin + piece.nbytes
        entries[name] = {"dtype": _DTYPES[piece.local.dtype], "shape": list(piece.local.shape), "data_offsets": [piece.begin, end]}
    for name, raw in blobs.items():
        entries[name] = {"dtype": "U8", "shape": [len(raw)], "data_offsets": [end, end + len(raw)]}
        end += len(raw)
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def fragment(name: str, placed: Sequence[Piece], head: int, blobs: Mapping[str, int]) -> dict[str, Any]:
    """What a rank says of its file; digests are filled in as it is written.

    Parameters
    ----------
    head : bytes before the first tensor.
    blobs : bytes of each blob, by name.
    """
    end = head + (placed[-1].begin + placed[-1].nbytes if placed else 0)
    said: dict[str, Any] = {"name": name, "header": {"at": [0, head]}, "blobs": {}, "tensors": [
        {"name": p.name, "dtype": _DTYPES[p.local.dtype], "shape": list(p.shape), "offsets": list(p.offsets),
         "sizes": list(p.local.shape), "at": [head + p.begin, head + p.begin + p.nbytes]} for p in placed]}
    for name_, length in blobs.items():
        said["blobs"][name_] = {"at": [end, end + length]}
        end += length
    return said | {"size": end}


def merged(fragments: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """The manifest of all ranks' files.

    Raises
    ------
    StorageError
        When they don't make whole tensors.
    """
    tensors: dict[str, dict[str, Any]] = {}
    seen: set[tuple[Any, ...]] = set()
    for number, part in enumerate(fragments):
        for chunk in part["tensors"]:
            place = (chunk["name"], *chunk["offsets"], *chunk["sizes"])
            if place in seen:  # on a mesh, what is cut along one dimension lies in each row of the other
                continue
            seen.add(place)
            whole = tensors.setdefault(chunk["name"], {"dtype": chunk["dtype"], "shape": chunk["shape"], "chunks": []})
            whole["chunks"].append({"file": number, **{k: chunk[k] for k in ("offsets", "sizes", "at", "sha256") if k in chunk}})
    for name, whole in tensors.items():
        if sum(math.prod(c["sizes"]) for c in whole["chunks"]) != math.prod(whole["shape"]):
            raise StorageError("a tensor is not whole", where=name)
    return {"version": checkpoints.VERSION, "world": len(fragments), "tensors": tensors,
            "files": [{k: f[k] for k in ("name", "size", "header")} for f in fragments],
            "common": {"file": 0, **fragments[0]["blobs"][COMMON]},
            "ranks": [{"file": n, **f["blobs"][OWN]} for n, f in enumerate(fragments)], **more}


def rest(path: Path, said: Mapping[str, Any], rank: int | None = None) -> Any:
    """What all ranks have in common beside the tensors, or what was a rank's own."""
    return unblob(_verified(path, said, said["common"] if rank is None else said["ranks"][rank]))


def read(path: Path, said: Mapping[str, Any], targets: Mapping[str, torch.Tensor]) -> None:
    """Fill tensors with what a checkpoint holds under their names: plain ones whole, DTensors with this rank's part of them."""
    if targets:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # on purpose: no rank waits for another here
            planner = dcp.DefaultLoadPlanner(flatten_state_dict=False)
            try:
                dcp.load(dict(targets), storage_reader=_Reader(path, said), planner=planner, no_dist=True)
            except CheckpointException as error:
                raise error.failures[0][0] from None


def empty(entry: Mapping[str, Any], like: torch.Tensor | None = None) -> torch.Tensor:
    """Room for a tensor of a manifest; spread over the ranks as another of its shape is."""
    dtype = _OF_NAME[entry["dtype"]]
    if isinstance(like, DTensor) and list(like.shape) == entry["shape"]:
        local = torch.empty_like(like.to_local(), dtype=dtype)
        return DTensor.from_local(local, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())
    return torch.empty(entry["shape"], dtype=dtype)


def load(path: Path, said: Mapping[str, Any] | None = None, like: Mapping[str, torch.Tensor] | None = None) -> dict[str, Any]:
    """A whole state.

    Parameters
    ----------
    said : the manifest, where it is known already.
    like : tensors, by name in the manifest, as which those of the state are to be spread.

    Raises
    ------
    StorageError
        When what is read is not what was written.
    """
    said = checkpoints.manifest(path) if said is None else said
    tensors = {name: empty(entry, (like or {}).get(name)) for name, entry in said["tensors"].items()}
    read(path, said, tensors)
    return put_together(rest(path, said), tensors)


def _piece(name: str, tensor: torch.Tensor, steady: bool) -> Piece:
    if not isinstance(tensor, DTensor) or all(isinstance(p, Replicate) for p in tensor.placements):
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        return Piece(name, local, tuple(tensor.shape), (0,) * tensor.dim(), True, steady)
    planner = dcp.DefaultSavePlanner(flatten_state_dict=False)
    planner.set_up_planner({name: tensor}, is_coordinator=True)
    local = tensor.to_local()
    place = tensor.device_mesh.get_coordinate()
    twin = place is None or any(place[n] for n, p in enumerate(tensor.placements) if isinstance(p, Replicate))
    chunks = [i.tensor_data.chunk for i in planner.create_local_plan().items if i.tensor_data is not None]
    if twin or not chunks:
        local = local[:0] if local.dim() else local.new_empty(0)
    return Piece(name, local, tuple(tensor.shape), tuple(chunks[0].offsets) if chunks else (0,) * tensor.dim(), False, steady)


def _verified(path: Path, said: Mapping[str, Any], part: Mapping[str, Any]) -> bytearray:
    begin, end = part["at"]
    raw = bytearray(end - begin)
    with open(path / said["files"][part["file"]]["name"], "rb", buffering=0) as file:
        file.seek(begin)
        view, filled = memoryview(raw), 0
        while filled < len(raw) and (got := file.readinto(view[filled:])):
            filled += got
    if filled != len(raw) or ("sha256" in part and hashlib.sha256(raw).hexdigest() != part["sha256"]):
        raise StorageError("is not the checkpoint that was written", where=path, hint="Training goes on from the one before it")
    return raw


class _Reader(dcp.StorageReader):
    """A checkpoint as torch.distributed.checkpoint asks for it."""

    def __init__(self, path: Path, said: Mapping[str, Any]):
        self.path, self.said = path, said

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:  # noqa: ARG003 - the interface's signature
        return True

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing is kept between reads."""

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        described: dict[str, TensorStorageMetadata | BytesStorageMetadata] = {}
        for name, entry in self.said["tensors"].items():
            described[name] = TensorStorageMetadata(TensorProperties(_OF_NAME[entry["dtype"]]), torch.Size(entry["shape"]), [
                ChunkStorageMetadata(torch.Size(c["offsets"]), torch.Size(c["sizes"])) for c in entry["chunks"]])
        return Metadata(described)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *_: Any, **__: Any) -> None:  # noqa: ARG002
        self.chunks = {MetadataIndex(name, c["offsets"]): (entry, c)
                       for name, entry in self.said["tensors"].items() for c in entry["chunks"]}

    def prepare_local_plan(self, plan: dcp.LoadPlan) -> dcp.LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[dcp.LoadPlan]) -> list[dcp.LoadPlan]:
        return plans

    def read_data(self, plan: dcp.LoadPlan, planner: dcp.LoadPlanner) -> Future[None]:
        wanted: dict[MetadataIndex, list[Any]] = {}
        for item in plan.items:
            wanted.setdefault(item.storage_index, []).append(item)
        for index, items in sorted(wanted.items(), key=lambda w: (self.chunks[w[0]][1]["file"], self.chunks[w[0]][1]["at"])):
            entry, chunk = self.chunks[index]
            raw = _verified(self.path, self.said, chunk)
            held = torch.frombuffer(raw, dtype=_OF_NAME[entry["dtype"]]).view(chunk["sizes"])
            for item in items:
                part = held
                for dim, (offset, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                    part = part.narrow(dim, offset, length)
                planner.resolve_tensor(item).detach().copy_(part)
                # nothing to commit: the target is the tensor itself
        done: Future[None] = Future()
        done.set_result(None)
        return done
