"""A folder of torch.distributed.checkpoint for the fuzzer: sound, damaged within its metadata, read by torch."""

from __future__ import annotations

import functools
import io
import pickle
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

METADATA = ".metadata"


@functools.cache
def folder() -> dict[str, bytes]:
    """What two ranks save: a matrix in three irregular pieces, a whole tensor, a value; the metadata is first."""
    matrix = torch.arange(20.0).reshape(4, 5)
    model = {"a.weight": matrix, "n": torch.tensor(7), "half": torch.ones(3, dtype=torch.float16)}
    with tempfile.TemporaryDirectory() as name:
        writer = dcp.FileSystemWriter(name, single_file_per_rank=True)
        dcp.save({"model": model, "step": 3, "betas": [0.9, 0.99]}, storage_writer=writer, no_dist=True)
        metadata = pickle.loads(Path(name, METADATA).read_bytes())
        parts = {"__0_0.distcp": Path(name, "__0_0.distcp").read_bytes(), "__1_0.distcp": b""}
    assert isinstance(metadata, Metadata) and metadata.storage_data is not None
    key = "model.a.weight"
    blocks = [((0, 0), (1, 5)), ((1, 0), (3, 2)), ((1, 2), (3, 3))]
    del metadata.storage_data[MetadataIndex(key, torch.Size((0, 0)))]
    for number, (offsets, sizes) in enumerate(blocks):
        stream = io.BytesIO()
        torch.save(matrix[offsets[0] :, offsets[1] :][: sizes[0], : sizes[1]].clone(), stream)
        blob = parts["__1_0.distcp"]
        index = MetadataIndex(key, torch.Size(offsets), number)
        metadata.storage_data[index] = _StorageInfo("__1_0.distcp", len(blob), len(stream.getvalue()))
        parts["__1_0.distcp"] += stream.getvalue()
    metadata.state_dict_metadata[key] = TensorStorageMetadata(
        TensorProperties(matrix.dtype),
        matrix.size(),
        [ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in blocks],
    )
    return {METADATA: pickle.dumps(metadata), **parts}


_ODD: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2, 3, 5, 1.5, 2**31, 2**63, 2**64, "", "x", "../x", "__0_0.distcp", "__1_0.distcp", METADATA,
    torch.Size(()), torch.Size((4, 5)), torch.Size((0, 5)), torch.Size((2, 10)), torch.Size((1,)), [], {}, (), [4, 5],
    torch.float16, torch.float32, torch.int32, torch.qint8, torch.strided, torch.sparse_coo,
    MetadataIndex("x"), MetadataIndex("model.n", torch.Size(())), MetadataIndex("step"),
)  # fmt: skip


def in_metadata(blob: bytes, rng: random.Random) -> bytes:
    """The metadata with one field of one of its objects set to another value, gone, or swapped with another's."""
    metadata = pickle.loads(blob)
    places = list(_places(metadata))
    container, step = rng.choice(places)
    how = rng.choice(("value", "value", "value", "swap", "swap", "gone", "key"))
    if how == "swap":
        # What has the same type most of all, which is what goes unnoticed.
        value = _get(container, step)
        other, where = rng.choice([place for place in places if type(_get(*place)) is type(value)])
        there = _get(other, where)
        _set(other, where, value)
        _set(container, step, there)
    elif how == "value" or not isinstance(container, (dict, list)):
        _set(container, step, rng.choice((*_ODD, len(blob))))
    elif how == "gone":
        del container[step]
    elif isinstance(container, dict):
        container[rng.choice(("x", "", *[odd for odd in _ODD if isinstance(odd, MetadataIndex)]))] = (
            container.pop(step)
        )
    else:
        container.insert(step, container[step])
    try:
        return pickle.dumps(metadata)
    except Exception:
        return blob


def _places(node: Any) -> Any:
    steps: Any = ()
    if isinstance(node, dict):
        steps = list(node)
    elif isinstance(node, list):
        steps = range(len(node))
    elif hasattr(node, "__dict__") and not isinstance(node, type):
        steps = [f"\0{name}" for name in vars(node)]
    for step in steps:
        yield node, step
        yield from _places(_get(node, step))


def _get(container: Any, step: Any) -> Any:
    if isinstance(container, (dict, list)):
        return container[step]
    return getattr(container, step[1:])


def _set(container: Any, step: Any, value: Any) -> None:
    if isinstance(container, (dict, list)):
        container[step] = value
    else:
        object.__setattr__(container, step[1:], value)


class _Known(pickle.Unpickler):
    """Only what a sound folder names: torch itself would unpickle anything."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _globals():
            raise pickle.UnpicklingError(f"Unsupported global {module}.{name}")
        return super().find_class(module, name)


@functools.cache
def _globals() -> frozenset[tuple[str, str]]:
    seen: set[tuple[str, str]] = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            seen.add((module, name))
            return super().find_class(module, name)

    Recorder(io.BytesIO(folder()[METADATA])).load()
    return frozenset(seen)


class _Reader(dcp.FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        metadata = _Known(io.BytesIO(Path(self.path, METADATA).read_bytes())).load()
        metadata.storage_meta = dcp.metadata.StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata  # type: ignore[no-any-return]


def load(path: str) -> dict[str, Any]:
    """The nested state_dict, by torch's own planner and reader."""
    state: dict[str, Any] = {}
    reader = _Reader(str(Path(path).parent))
    _load_state_dict(state, storage_reader=reader, planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    return state
