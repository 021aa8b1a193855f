"""Checkpoints whose save or download did not end, and shards that contradict each other."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save

from .making import OTHER, STATE, as_json, pt, sharded, st, text
from .truth import Refused, Truth, case


def cut(path: Path, share: float = 0.6) -> Path:
    """Only the first part of a file."""
    blob = path.read_bytes()
    path.write_bytes(blob[: int(len(blob) * share)])
    return path


@case("a torch zip cut off")
def _(f: Path) -> Truth:
    return Refused(cut(pt(f / "a.pt")), ("no end record (cut",), "damaged")


@case("a torch legacy file cut off")
def _(f: Path) -> Truth:
    return Refused(cut(pt(f / "a.pt", _use_new_zipfile_serialization=False), 0.95), ("a.pt",), "damaged")


@case("a safetensors file cut off")
def _(f: Path) -> Truth:
    return Refused(cut(st(f / "a.safetensors")), ("a.safetensors",), "damaged")


@case("a safetensors file cut off in its header")
def _(f: Path) -> Truth:
    return Refused(cut(st(f / "a.safetensors"), 0.1), ("a.safetensors",), "damaged")


@case("a shard cut off")
def _(f: Path) -> Truth:
    sharded(f)
    cut(f / "model-00002-of-00002.safetensors")
    return Refused(f, ("model-00002-of-00002.safetensors",), "damaged")


@case("a shard of another save")
def _(f: Path) -> Truth:
    sharded(f)
    st(f / "model-00002-of-00002.safetensors", OTHER)
    return Refused(f, ("is not in the shard that the index names", "fetch"), "damaged")


@case("a shard with more than the index says")
def _(f: Path) -> Truth:
    weight_map = sharded(f)
    del weight_map["norm.num_batches_tracked"]
    as_json(f / "model.safetensors.index.json", {"weight_map": weight_map})
    return Refused(f, ("which the index does not list",), "damaged")


@case("a shard that is a Git LFS pointer")
def _(f: Path) -> Truth:
    sharded(f)
    text(
        f / "model-00002-of-00002.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:ab\n"
    )
    return Refused(f, ("model-00002-of-00002.safetensors", "Git LFS pointer"), "damaged")


@case("an index that is no JSON")
def _(f: Path) -> Truth:
    sharded(f)
    text(f / "model.safetensors.index.json", '{"weight_map": {')
    return Refused(f, ("model.safetensors.index.json",), "damaged")


@case("an index without a weight_map")
def _(f: Path) -> Truth:
    as_json(f / "model.safetensors.index.json", {"metadata": {}})
    return Refused(f, ("needs a weight_map",), "damaged")


@case("one key in two shards without an index")
def _(f: Path) -> Truth:
    st(f / "model-00001-of-00002.safetensors")
    st(f / "model-00002-of-00002.safetensors")
    return Refused(f, ("no index says which of them counts",), "damaged")


@case("a header that gives two tensors the same bytes")
def _(f: Path) -> Truth:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"a": entry, "b": entry}).encode()
    return Refused(
        text(f / "a.safetensors", len(header).to_bytes(8, "little") + header + b"\0" * 8),
        ("overlap",),
        "damaged",
    )


@case("a safetensors file with bytes after its end")
def _(f: Path) -> Truth:
    return Refused(text(f / "a.safetensors", save(STATE) + b"more"), ("a.safetensors",), "damaged")


@case("a torch zip that was changed")
def _(f: Path) -> Truth:
    path = pt(f / "a.pt")
    blob = bytearray(path.read_bytes())
    at = blob.index(STATE["embed.weight"].numpy().tobytes())
    blob[at + 5] ^= 1
    path.write_bytes(blob)
    return Refused(path, ("CRC",), "damaged")
