"""The header of a safetensors file: strict reading, deterministic writing. Needs neither torch nor safetensors.

The format (https://github.com/huggingface/safetensors): eight bytes with the little-endian length N
of the header, N bytes of JSON, then the data. The JSON maps each key to dtype, shape and
``data_offsets`` relative to the data, which the tensors must fill without holes or overlaps;
``__metadata__`` maps strings to strings.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from ..collector import gc_paused
from ..dtypes import DTYPES, FROM_SAFETENSORS
from ..errors import FormatError
from ..files.mapped import MappedFile
from ..signatures import TensorInfo
from .json_text import MAX_NUMBER, BadJson, parse, read_text

MAX_HEADER = 100_000_000
METADATA = "__metadata__"
# Names, as a JSON list, of those ties of a file that a reader could take for something else.
TIES = "ckptkit.ties"
# Entries that never stand for a tie: every file says whose tensors it holds, and no tensor has the other names.
NO_TIES = frozenset(("format", METADATA, TIES))
MAX_DEPTH = 127  # lists and objects inside each other, as the reference counts them
_U64 = 1 << 64


class Entry(NamedTuple):
    """One tensor of a header: torch's shape and dtype, and its bytes relative to the data region."""

    info: TensorInfo
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header.

    Args:
        entries: key to `Entry`, in the header's order.
        metadata: the strings of ``__metadata__``.
        data: offset of the data region in the file.
    """

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data: int


class _Bad(Exception):
    """A law of the format that is broken, before the file's name is known."""

    def __init__(self, reason: str, key: str | None = None, offset: int | None = None) -> None:
        super().__init__(reason)
        self.key = key
        self.offset = offset


def read_header(file: MappedFile) -> Header:
    """Read and check a header.

    Raises:
        FormatError: anything that the reference implementation refuses, and what two readers could
            understand in two ways: duplicate keys at any level, list-shaped entries, lone surrogates.
    """
    path = file.path
    try:
        return _read(file)
    except _Bad as bad:
        about = f"{bad.key[:200]!r}: " if bad.key is not None else ""
        raise FormatError(
            f"{path}: not a valid safetensors file: {about}{bad}", file=path, key=bad.key, offset=bad.offset
        ) from None


def _read(file: MappedFile) -> Header:
    if file.size < 8:
        raise _Bad(f"it has {file.size} bytes, and the header's length alone takes 8")
    length = int.from_bytes(file.read(0, 8), "little")
    if length > MAX_HEADER:
        raise _Bad(f"the header claims {length} bytes; {MAX_HEADER} is the limit", offset=0)
    if length > file.size - 8:
        raise _Bad(
            f"the header claims {length} bytes, and only {file.size - 8} follow; it was cut, or is no safetensors: fetch or "
            "save it again",
            offset=0,
        )
    with gc_paused():
        try:
            document = parse(read_text(file.read, 8, length), 8)
        except BadJson as bad:
            raise _Bad(f"the header is no valid JSON: {bad}", offset=bad.offset) from None
        if type(document) is not dict:
            raise _Bad("the header is no JSON object")
        metadata = _metadata(document.pop(METADATA, {}))
        data = 8 + length
        return Header(_entries(document, file.size, data), metadata, data)


def _metadata(document: Any) -> dict[str, str]:
    if document is None:
        return {}  # as the reference reads it
    if type(document) is not dict:
        raise _Bad(f"{METADATA} is no JSON object of strings")
    for key, value in document.items():
        if type(value) is not str:
            raise _Bad(f"{METADATA} holds {str(value)[:40]!r} under {key[:80]!r}; only strings are allowed")
    return document


def ties(metadata: Mapping[str, str], keys: Container[str]) -> dict[str, str]:
    """Which entries of the metadata tie a name that was dropped to a tensor: ``{dropped: kept}``.

    Args:
        metadata: the strings of a file.
        keys: its tensors.
    """
    named = {
        dropped: kept
        for dropped, kept in metadata.items()
        if kept in keys and dropped not in keys and dropped not in NO_TIES
    }
    doubtful = [dropped for dropped, kept in named.items() if not is_tie(dropped, kept)]
    if doubtful:
        vouched = _vouched(metadata.get(TIES, ""))
        for dropped in doubtful:
            if dropped not in vouched:
                del named[dropped]
    return named


def is_tie(dropped: str, kept: str) -> bool:
    """Whether an entry can be nothing but a tie.

    safetensors and huggingface_hub write `{dropped key: kept key}` among everybody's own entries, and
    ``{"author": "weight"}`` beside a tensor `weight` is one of these: both must look like keys of modules, or the last
    name, which says what of a module a tensor is, must be the same. A tie that is overlooked costs a name and no
    values; a key that is not there makes a load fail.
    """
    if _dotted(dropped) and _dotted(kept):
        return True
    return dropped.rpartition(".")[2] == kept.rpartition(".")[2] and (_dotted(dropped) or _dotted(kept))


def _dotted(name: str) -> bool:
    return "." in name and all(name.split(".")) and not any(map(str.isspace, name))


def _vouched(text: str) -> Container[str]:
    try:
        names = json.loads(text) if len(text) <= MAX_HEADER else None
    except (ValueError, RecursionError):
        return ()
    return {name for name in names if type(name) is str} if type(names) is list else ()


def _entries(document: dict[str, Any], file_size: int, data: int) -> dict[str, Entry]:
    known: dict[tuple[str, tuple[int, ...]], tuple[TensorInfo, int]] = {}
    entries = {key: _entry(key, fields, known) for key, fields in document.items()}
    position = 0
    for start, stop, key in _in_data_order(entries):
        if start != position:
            what = "overlaps the tensor before it" if start < position else "leaves a hole before it"
            words = f"data_offsets [{start}, {stop}] {what}; the data so far ends at {position}"
            raise _Bad(words, key, data + position)
        position = stop
    size = file_size - data
    if position != size:
        problem = "is cut" if position > size else "has bytes that belong to no tensor"
        raise _Bad(
            f"the header describes {position} bytes of data, the file has {size}: it {problem}",
            offset=data + min(position, size),
        )
    return entries


def _in_data_order(entries: dict[str, Entry]) -> Iterable[tuple[int, int, str]]:
    ranges = [(entry.start, entry.stop, key) for key, entry in entries.items()]
    # Most writers list tensors as they lie; a million keys are not sorted for nothing.
    if any(after[0] < before[1] for before, after in pairwise(ranges)):
        ranges.sort()
    return ranges


def _entry(key: str, fields: Any, known: dict[tuple[str, tuple[int, ...]], tuple[TensorInfo, int]]) -> Entry:
    if type(fields) is not dict:
        raise _Bad("the entry is no JSON object", key)
    try:
        code, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    except KeyError as missing:
        raise _Bad(f"the field {missing} is missing", key) from None
    if len(fields) > 3:
        _check_ignored(key, fields)
    if type(code) is not str or code not in FROM_SAFETENSORS:
        raise _Bad(f"unknown dtype {str(code)[:40]!r}", key)
    if type(shape) is not list:
        raise _Bad("shape is no list of numbers", key)
    for size in shape:
        if type(size) is not int:  # asked before `known` is, where True equals 1
            raise _Bad(f"shape holds {str(size)[:40]!r}, which is no size", key)
    same = (code, tuple(shape))
    found = known.get(same)
    if found is None:
        found = known[same] = _info_and_size(key, code, same[1])
    if type(offsets) is not list or len(offsets) != 2:
        raise _Bad("data_offsets is no pair of numbers", key)
    start, stop = offsets
    if type(start) is not int or type(stop) is not int or not 0 <= start <= stop < _U64:
        raise _Bad(f"data_offsets {str(offsets)[:60]} is no range", key)
    info, size = found
    if size != stop - start:
        raise _Bad(f"shape {shape} of {code} takes {size} bytes, data_offsets give it {stop - start}", key)
    return Entry(info, start, stop)


def _check_ignored(key: str, fields: dict[str, Any]) -> None:
    """The reference ignores other fields, but not how deep and how large what they hold is."""
    level = [fields]
    for _ in range(MAX_DEPTH - 1):  # the header is one, too
        inner: list[Any] = []
        for node in level:
            for value in node.values() if type(node) is dict else node:
                if type(value) is dict or type(value) is list:
                    inner.append(value)
                elif type(value) is int and abs(value) > MAX_NUMBER:
                    raise _Bad("a field holds a number beyond any double", key)
        if not inner:
            return
        level = inner
    raise _Bad(f"a field is nested more than {MAX_DEPTH} deep", key)


def _info_and_size(key: str, code: str, shape: tuple[int, ...]) -> tuple[TensorInfo, int]:
    """Check sizes as the reference does, in 64 bits, though Python's numbers have no end."""
    numel = 1
    for length in shape:
        if not 0 <= length < _U64:
            raise _Bad(f"shape holds {str(length)[:40]!r}, which is no size", key)
        numel *= length
        if numel >= _U64:
            raise _Bad("shape has more elements than 64 bits can count", key)
    dtype = FROM_SAFETENSORS[code]
    bits = numel * (4 if code == "F4" else dtype.bits)
    if bits >= _U64:
        raise _Bad("shape has more bits than 64 bits can count", key)
    if bits % 8:
        raise _Bad(f"{numel} elements of {code} do not fill whole bytes", key)
    return _torch_info(code, shape), bits // 8


def _torch_info(code: str, shape: tuple[int, ...]) -> TensorInfo:
    """torch packs two F4 numbers into one element along the last dimension; where it cannot, the format's name stays."""
    if code != "F4":
        return TensorInfo(shape, FROM_SAFETENSORS[code].name)
    if shape and shape[-1] % 2 == 0:
        return TensorInfo((*shape[:-1], shape[-1] // 2), "float4_e2m1fn_x2")
    return TensorInfo(shape, "F4")


def header_shape(info: TensorInfo) -> tuple[int, ...]:
    """The shape as the header counts it: numbers, where torch counts packed pairs."""
    if info.dtype == "float4_e2m1fn_x2" and info.shape:
        return (*info.shape[:-1], info.shape[-1] * 2)
    return info.shape


def layout(infos: Mapping[str, TensorInfo]) -> dict[str, tuple[int, int]]:
    """Where each tensor's data goes, in the reference writer's order: widest dtype first, then by key.

    Args:
        infos: key to shape and dtype, all of which safetensors can hold.

    Returns:
        Key to (start, stop) relative to the data region, in data order.
    """
    rank = {code: i for i, code in enumerate(_ORDER)}
    ordered = sorted(infos, key=lambda k: (-rank[str(DTYPES[infos[k].dtype].safetensors)], k.encode()))
    places: dict[str, tuple[int, int]] = {}
    position = 0
    for key in ordered:
        stop = position + infos[key].nbytes
        places[key] = (position, stop)
        position = stop
    return places


# Ascending, as the reference implementation declares its dtypes; data is sorted by it, descending.
_ORDER = (
    "BOOL",
    "F4",
    "F6_E2M3",
    "F6_E3M2",
    "U8",
    "I8",
    "F8_E5M2",
    "F8_E4M3",
    "F8_E8M0",
    "F8_E4M3FNUZ",
    "F8_E5M2FNUZ",
    "I16",
    "U16",
    "F16",
    "BF16",
    "I32",
    "U32",
    "F32",
    "C64",
    "F64",
    "I64",
    "U64",
)


def encode_header(
    infos: Mapping[str, TensorInfo], places: Mapping[str, tuple[int, int]], metadata: Mapping[str, str]
) -> bytes:
    """The header's bytes with its length, padded with spaces to a multiple of 8.

    Args:
        infos: key to shape and dtype, in the order the header lists them.
        places: from `layout`.
        metadata: strings, written sorted so that equal checkpoints are equal bytes.
    """
    encode = json.encoder.encode_basestring
    parts = []
    if metadata:
        pairs = ",".join(f"{encode(k)}:{encode(v)}" for k, v in sorted(metadata.items()))
        parts.append(f'"{METADATA}":{{{pairs}}}')
    for key, info in infos.items():
        start, stop = places[key]
        shape = ",".join(map(str, header_shape(info)))
        code = DTYPES[info.dtype].safetensors
        parts.append(f'{encode(key)}:{{"dtype":"{code}","shape":[{shape}],"data_offsets":[{start},{stop}]}}')
    text = ("{" + ",".join(parts) + "}").encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def check_fields(keys: Sequence[str]) -> None:
    """Refuse keys that a header cannot hold.

    Raises:
        FormatError: ``__metadata__``, or a lone surrogate.
    """
    for key in keys:
        if key == METADATA:
            raise FormatError(
                f"safetensors keeps the name {METADATA} for itself; rename that key first", key=key
            )
        if not key.isascii():
            try:
                key.encode()
            except UnicodeEncodeError:
                raise FormatError(
                    f"the key {ascii(key)[:120]} holds a lone surrogate, which no file can hold; rename it first",
                    key=ascii(key),
                ) from None
