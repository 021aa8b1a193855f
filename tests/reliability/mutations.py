"""Valid files, and ways to damage them that a reader may not notice."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from .folders import FILES, in_json
from .pieces import METADATA, in_metadata

READERS = ("safetensors", "zip", "legacy", "pickle", *FILES)


def state() -> dict[str, object]:
    """Several dtypes, ties, views, an empty tensor, plain values, names that need escaping."""
    base = torch.arange(24.0)
    return {
        "a.weight": base.reshape(4, 6),
        "a.tied": base.reshape(4, 6),
        "a.t": base.reshape(4, 6).t(),
        "part": base[6:12],
        "half": torch.ones(3, dtype=torch.float16),
        "n": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "none": torch.zeros(0, 2),
        "bérd\n": torch.arange(3, dtype=torch.int32),
    }


def valid(reader: str) -> bytes:
    """A small valid file."""
    if reader == "safetensors":
        plain = {k: v.contiguous().clone() for k, v in state().items() if isinstance(v, torch.Tensor)}
        return bytes(save(plain, {"format": "pt"}))
    stream = io.BytesIO()
    nested = {"state_dict": state(), "epoch": 3, "args": {"lr": 0.1, "betas": (0.9, 0.99)}}
    torch.save(nested, stream, _use_new_zipfile_serialization=reader != "legacy")
    return stream.getvalue()


def mutate(reader: str, blob: bytes, rng: random.Random) -> bytes:
    """One to three damages."""
    if reader == "pickle":
        return _in_the_pickle(blob, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if reader == "safetensors" and rng.random() < 0.5:
            blob = _in_the_header(blob, rng)
        else:
            blob = rng.choice(_DAMAGES)(blob, _span(reader, blob), rng)
    return blob


def _span(reader: str, blob: bytes) -> tuple[int, int]:
    """Where damage means something: headers more often than data."""
    if reader == "safetensors" and len(blob) >= 8:
        return 0, min(len(blob), 8 + int.from_bytes(blob[:8], "little"))
    return 0, len(blob)


def _flip(blob: bytes, span: tuple[int, int], rng: random.Random) -> bytes:
    at = _at(blob, span, rng)
    return blob[:at] + bytes([blob[at] ^ 1 << rng.randrange(8)]) + blob[at + 1 :] if blob else blob


def _set(blob: bytes, span: tuple[int, int], rng: random.Random) -> bytes:
    at = _at(blob, span, rng)
    value = rng.choice((0, 1, 0x2E, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return blob[:at] + bytes([value]) + blob[at + 1 :]


def _word(blob: bytes, span: tuple[int, int], rng: random.Random) -> bytes:
    at = _at(blob, span, rng)
    width = rng.choice((2, 4, 8))
    value = rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, len(blob), rng.getrandbits(64)))
    return blob[:at] + (value % (1 << 8 * width)).to_bytes(width, "little") + blob[at + width :]


def _cut(blob: bytes, span: tuple[int, int], rng: random.Random) -> bytes:
    return blob[: rng.randrange(len(blob) + 1)]


def _drop(blob: bytes, span: tuple[int, int], rng: random.Random) -> bytes:
    at = _at(blob, span, rng)
    return blob[:at] + blob[at + rng.choice((1, 2, 4, 8, 64)) :]


def _twice(blob: bytes, span: tuple[int, int], rng: random.Random) -> bytes:
    at, size = _at(blob, span, rng), rng.choice((1, 4, 16, 64))
    return blob[: at + size] + blob[at:]


def _append(blob: bytes, span: tuple[int, int], rng: random.Random) -> bytes:
    more = rng.choice((b"\0", b"\0" * 64, b"PK\5\6" + bytes(18), b".", rng.randbytes(9)))
    return blob + more if rng.random() < 0.5 else more + blob


def _at(blob: bytes, span: tuple[int, int], rng: random.Random) -> int:
    low, high = span if rng.random() < 0.8 else (0, len(blob))
    return rng.randrange(low, high) if high > low else 0


_DAMAGES: tuple[Callable[[bytes, tuple[int, int], random.Random], bytes], ...] = (
    _flip, _set, _set, _word, _cut, _drop, _twice, _append,
)  # fmt: skip


def _in_the_header(blob: bytes, rng: random.Random) -> bytes:
    """A safetensors header that is JSON still, with one field that is another."""
    try:
        length = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + length])
        key = rng.choice(sorted(header))
        entry = header[key]
        if key == "__metadata__" or not isinstance(entry, dict):
            header[key] = rng.choice(({}, {"a": 1}, None, [], {"format": "pt", "x": "y"}))
        else:
            number = rng.choice((0, 1, -1, 2, 3, 8, 2**31, 2**63, 2**64, 1.0, True, None, "1"))
            field = rng.choice(("dtype", "shape", "data_offsets", "more", "gone", "key"))
            if field == "dtype":
                entry["dtype"] = rng.choice(("F32", "F16", "I8", "BOOL", "f32", "X", 1))
            elif field in ("shape", "data_offsets") and isinstance(entry.get(field), list):
                values = entry[field]
                if values and rng.random() < 0.8:
                    values[rng.randrange(len(values))] = number
                else:
                    values.append(number)
            elif field == "more":
                entry["more"] = number
            elif field == "gone":
                entry.pop(rng.choice(sorted(entry)), None)
            else:
                header[rng.choice(("", "x", "a.weight", "\ud800"))] = header.pop(key)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % rng.choice((1, 8)))
    except (ValueError, IndexError, AttributeError, TypeError):
        return blob
    return struct.pack("<Q", len(text)) + text + blob[8 + length :]


def _in_the_pickle(blob: bytes, rng: random.Random) -> bytes:
    """A sound archive around a damaged ``data.pkl``."""
    source = zipfile.ZipFile(io.BytesIO(blob))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as target:
        for info in source.infolist():
            content = source.read(info)
            if info.filename.endswith("data.pkl"):
                for _ in range(rng.choice((1, 1, 2, 3))):
                    content = rng.choice(_DAMAGES[:-1])(content, (0, len(content)), rng)
            target.writestr(info.filename, content)
    return stream.getvalue()


def write(folder: Path, reader: str, seed: int) -> Path:
    """The mutated checkpoint of a seed, in a folder of its own: what is to be opened."""
    rng = random.Random(f"{reader} {seed}")
    suffix = ".safetensors" if reader == "safetensors" else ".pt"
    files = dict(FILES[reader]()) if reader in FILES else {f"mutated{suffix}": valid(reader)}
    name = rng.choice(list(files))
    if reader not in FILES:
        files[name] = mutate(reader, files[name], rng)
    elif name.endswith(".json") and rng.random() < 0.8:
        files[name] = in_json(files[name], rng)
    elif name == METADATA and rng.random() < 0.8:
        files[name] = in_metadata(files[name], rng)
    else:
        kind = "safetensors" if name.endswith(".safetensors") else "json"
        files[name] = mutate(kind, files[name], rng)
    own = folder / f"{reader}-{seed}"
    own.mkdir()
    for each, content in files.items():
        (own / each).write_bytes(content)
    return own / next(iter(files))
