"""``.metadata`` of a DCP folder: which part of which tensor lies where.

It is a pickle of the classes in ``torch/distributed/checkpoint/metadata.py`` (Metadata, TensorStorageMetadata,
ChunkStorageMetadata, MetadataIndex) and ``filesystem.py`` (_StorageInfo). torch unpickles it; here it is described by
the restricted reader, and the classes are known by their names only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, NoReturn

from ...dtypes import QUANTISED
from ...errors import FormatError
from ..pickled import DtypeNode, LayoutNode, Opaque
from ..shard_names import bad_name
from ..strides import row_major
from ..torch_views import ITEMSIZE, MAX_NUMEL, MAX_STRIDE, readable
from .tiles import untiled

NAME = ".metadata"
PART = ".distcp"
MAX_DEPTH = 90  # of the dictionaries that are built again
MAX_DIMS = 64  # of what torch computes with
CELLS = 1_000_000  # of the tiling proofs of a folder, beyond 64 for each piece
_MODULES = "torch.distributed."


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of a part file: its plain name, the first byte, how many."""

    file: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A block of a tensor.

    Args:
        offsets: its first element in the tensor, per dimension.
        sizes: its shape.
        place: where it lies, as a small torch file of its own.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor, and the pieces that tile it exactly.

    Args:
        idle: where pieces without elements lie.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    requires_grad: bool
    pieces: tuple[Piece, ...]
    idle: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """What a folder holds.

    Args:
        entries: by flat name, in the order of the save: tensors, and places of pickled values.
        paths: flat name to its keys in the nested dictionaries that were saved.
    """

    entries: dict[str, StoredTensor | Place]
    paths: dict[str, tuple[Any, ...]]


class Reader:
    """Checks the description of a folder.

    Args:
        path: the ``.metadata`` file, for messages.
        tree: what its pickle describes.
    """

    def __init__(self, path: str, tree: Any) -> None:
        self.path = path
        self._files: set[str] = set()  # names that were looked at
        self.tree = tree
        self.cells = CELLS

    def read(self) -> Stored:
        """The entries.

        Raises:
            FormatError: it is no such description, or contradicts itself.
        """
        fields = self._fields(self.tree, "Metadata")
        places = self._places(fields.get("storage_data"))
        described = fields.get("state_dict_metadata")
        if type(described) is not dict:
            self.fail("it lists no state_dict")
        entries: dict[str, StoredTensor | Place] = {}
        for name, entry in described.items():
            if type(name) is not str:
                self.fail("a name is no string")
            own = places.pop(name, {})
            if type(entry) is Opaque and entry.name == "BytesStorageMetadata":
                if set(own) != {None}:
                    self.fail(f"{readable(name)}: its value is stored {len(own)} times", name)
                entries[name] = own[None]
            else:
                entries[name] = self._tensor(name, self._fields(entry, "TensorStorageMetadata"), own)
        if places:
            self.fail(f"data of {readable(next(iter(places)))} is stored, which is not in the state_dict")
        return Stored(entries, self._paths(fields.get("planner_data"), entries))

    def fail(self, reason: str, key: str | None = None) -> NoReturn:
        """Refuse the folder."""
        raise FormatError(
            f"{self.path}: not a sound distributed checkpoint: {reason}", file=self.path, key=key
        )

    def _fields(self, node: Any, name: str) -> dict[str, Any]:
        if type(node) is not Opaque or node.name != name or not node.module.startswith(_MODULES):
            self.fail(f"a {name} was expected, and there is {_kind(node)}")
        if type(node.state) is not dict:
            self.fail(f"a {name} without fields")
        return node.state

    def _places(self, data: Any) -> dict[str, dict[tuple[int, ...] | None, Place]]:
        """By name, then by the offsets of the piece; None for a value."""
        if type(data) is not dict:
            self.fail("it does not say where data lies")
        places: dict[str, dict[tuple[int, ...] | None, Place]] = {}
        for index, info in data.items():
            where = self._fields(index, "MetadataIndex")
            name, offset = where.get("fqn"), where.get("offset")
            if type(name) is not str:
                self.fail("a name is no string")
            own = places.setdefault(name, {})
            at = None if offset is None else self._sizes(offset, name)
            if at in own:
                self.fail(f"{readable(name)}: the piece at {list(at or ())} is stored twice", name)
            own[at] = self._place(name, self._fields(info, "_StorageInfo"))
        self._apart([(place, name) for name, own in places.items() for place in own.values()])
        return places

    def _apart(self, found: list[tuple[Place, str]]) -> None:
        """Every piece was written once: bytes that two of them share are not of both."""
        found.sort(key=lambda each: (each[0].file, each[0].start, each[0].length))
        for (before, first), (place, name) in pairwise(found):
            if before.file == place.file and place.start < before.start + before.length:
                self.fail(
                    f"{readable(first)} and {readable(name)} share the bytes from {place.start} of {place.file}",
                    name,
                )

    def _place(self, name: str, fields: dict[str, Any]) -> Place:
        file, start, length = (fields.get(each) for each in ("relative_path", "offset", "length"))
        if type(file) is not str or (file not in self._files and bad_name(file, (PART,)) is not None):
            self.fail(
                f"{readable(name)} lies in {ascii(file)[:120]}, which is no plain name of a {PART} file beside it",
                name,
            )
        self._files.add(file)
        if type(start) is not int or type(length) is not int or start < 0 or length < 0:
            self.fail(f"{readable(name)} lies at {ascii(start)[:40]}, {ascii(length)[:40]} bytes long", name)
        if fields.get("transform_descriptors"):
            self.fail(
                f"{readable(name)} is stored compressed or transformed, which ckptkit does not read; save without "
                "extensions",
                name,
            )
        return Place(file, start, length)

    def _tensor(
        self, name: str, fields: dict[str, Any], own: dict[tuple[int, ...] | None, Place]
    ) -> StoredTensor:
        shape = self._sizes(fields.get("size"), name)
        dtype, requires_grad = self._properties(name, fields.get("properties"))
        chunks = fields.get("chunks")
        if type(chunks) is not list:
            self.fail(f"{readable(name)}: it has no list of pieces", name)
        pieces, idle = [], []
        self.cells += 64 * len(chunks)
        for chunk in chunks:
            block = self._fields(chunk, "ChunkStorageMetadata")
            offsets, sizes = self._sizes(block.get("offsets"), name), self._sizes(block.get("sizes"), name)
            if not len(offsets) == len(sizes) == len(shape):
                self.fail(
                    f"{readable(name)}: a piece of {len(sizes)} dimensions in a shape of {len(shape)}", name
                )
            place = own.pop(offsets, None)
            if 0 in sizes:
                idle += [] if place is None else [place]
                continue
            if place is None:
                self.fail(f"{readable(name)}: the piece at {list(offsets)} is not stored", name)
            need = prod(sizes) * ITEMSIZE[dtype]
            if place.length < need:
                self.fail(
                    f"{readable(name)}: its piece {list(sizes)} of {dtype} has {need} bytes, and lies in "
                    f"{place.length}",
                    name,
                )
            pieces.append(Piece(offsets, sizes, place))
        for at, place in own.items():
            if place.length and 0 not in shape:
                self.fail(f"{readable(name)}: data is stored at {list(at or ())}, where no piece is", name)
            idle.append(place)
        reason, cells = untiled(shape, [(piece.offsets, piece.sizes) for piece in pieces], self.cells)
        self.cells -= cells
        if reason is not None:
            self.fail(f"{readable(name)}: {reason}", name)
        return StoredTensor(name, shape, dtype, requires_grad, tuple(pieces), tuple(idle))

    def _properties(self, name: str, node: Any) -> tuple[str, bool]:
        state = node.state if type(node) is Opaque and node.name == "TensorProperties" else None
        if type(state) is not tuple or len(state) != 5 or type(state[0]) is not DtypeNode:
            self.fail(f"{readable(name)}: its dtype is not given", name)
        dtype, layout, requires_grad, memory_format, pinned = state
        # All three are out of use, so that no value of theirs matters; a wrong kind tells of damage.
        if {type(requires_grad), type(pinned)} != {bool} or not _is_memory_format(memory_format):
            self.fail(f"{readable(name)}: its properties are {ascii(state[2:])[:200]}", name)
        if layout != LayoutNode("strided") or dtype.name not in ITEMSIZE or dtype.name in QUANTISED:
            self.fail(f"{readable(name)}: {dtype.name} in the layout {_kind(layout)} is not held", name)
        return dtype.name, requires_grad

    def _sizes(self, value: Any, name: str) -> tuple[int, ...]:
        if not isinstance(value, tuple) or any(
            type(size) is not int or not 0 <= size < MAX_NUMEL for size in value
        ):
            self.fail(f"{readable(name)}: {ascii(value)[:80]} is no shape", name)
        if len(value) > MAX_DIMS or (value and row_major(value)[0] * max(value[0], 1) > MAX_STRIDE):
            self.fail(f"{readable(name)}: {ascii(value)[:80]} is no shape of a tensor", name)
        return tuple(value)

    def _paths(self, data: Any, entries: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
        """The keys above each value, which the flat name is made of; where they are not told, it is the key."""
        if data is not None and type(data) is not dict:
            self.fail(f"the nested keys are {_kind(data)}")
        paths: dict[str, tuple[Any, ...]] = {}
        for name in entries:
            path: Any = (data or {}).get(name, (name,))
            if type(path) is not tuple or not 0 < len(path) <= MAX_DEPTH or ".".join(map(str, path)) != name:
                self.fail(
                    f"{readable(name)}: its nested keys are {ascii(path)[:80]}, which give another name", name
                )
            paths[name] = path if all(type(step) in (str, int) for step in path) else (name,)
        return paths


def _is_memory_format(node: Any) -> bool:
    # Up to torch 2.2 the name had no underscore.
    known = type(node) is Opaque and node.name.lstrip("_") == "MEM_FORMAT_ENCODING"
    return known and node.args in ((0,), (1,), (2,))


def _kind(node: Any) -> str:
    return node.label if type(node) is Opaque else f"a {type(node).__name__.removesuffix('Node').lower()}"
