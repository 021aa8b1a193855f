"""What every format offers: a `Source` to read from, and a writer that takes `Item`s.

A format knows bytes, never rules. Bytes are described by `Storage` (a run of bytes somewhere) and
`View` (a strided look into one); two keys with equal views are tied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import FormatError
from ..files.claims import Claim
from ..signatures import Signature, TensorInfo

if TYPE_CHECKING:
    import torch

CHUNK = 1 << 20  # 1 MiB reads and writes were measured fastest
# No dictionary is taken for the root, whatever the file holds: for looking at a file as a file. No path can be this.
NO_ROOT = "\0"
Buffer = bytes | bytearray | memoryview
Progress = Callable[[int], None]


def no_progress(_: int) -> None:
    """The `Progress` of a caller that does not want to know."""


@dataclass(frozen=True, slots=True)
class Region:
    """A run of bytes in a regular file that is, as it stands, little-endian data.

    Args:
        path: the file.
        offset: first byte.
        nbytes: how many.
        crc: zlib CRC-32 that the file declares for exactly these bytes; None when it declares none.
        stamp: `files.regular.stamp` of the file that was opened; who opens the path again compares it.
    """

    path: str
    offset: int
    nbytes: int
    crc: int | None = None
    stamp: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of bytes that tensors look into.

    Args:
        id: identity inside its source; equal ids are the same bytes.
        nbytes: length in bytes.
        region: where it lies in a file as plain little-endian bytes; None when it lies in memory,
            is compressed or byte-swapped, and must be read through `Source.read`.
    """

    id: Hashable
    nbytes: int
    region: Region | None


@dataclass(frozen=True, slots=True)
class View:
    """A strided look into a storage, proved to lie inside it.

    Args:
        storage: the bytes.
        offset: first element, counted in elements of `dtype`.
        shape: torch's shape.
        stride: in elements, one per dimension.
        dtype: dtype name.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps (always true without elements)."""
        expected = 1
        if 0 in self.shape:
            return True
        for size, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


class Flags(NamedTuple):
    """What torch saves with a tensor that is to be trained."""

    requires_grad: bool = False
    parameter: bool = False


PLAIN = Flags()


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """One optimizer's state.

    Args:
        place: its dotted place in the file.
        names: the parameters that it names, where it goes by name.
        count: how many parameters it holds; None where it does not say.
        shapes: shapes of its parameters, where it knows all of them.
    """

    place: str
    names: frozenset[str] = frozenset()
    count: int | None = None
    shapes: tuple[tuple[int, ...], ...] | None = None


class Source(ABC):
    """An opened checkpoint of one format. Lazy: opening reads headers only.

    Attributes:
        format: the format's name as shown to people, e.g. ``safetensors``, ``torch zip``.
        path: what was opened; None for memory.
        files: every file that holds bytes of it, so that none of them is ever written to.
        signature: keys, shapes, dtypes, ties, metadata, root.
        state_metadata: the state_dict's ``_metadata`` attribute (module versions), if any.
        notes: what a person should be told (opaque values, the choice of a root), one line each.
        companions: what lies beside the weights in a model folder (``config.json``); folders end in ``/``.
        frozen: what the file is, when it holds more than can be written, so that it is not rewritten in place.
        surroundings: dotted names of what a nested file holds beside the root (``epoch``, ``optimizer``).
        left_out: what of an opened checkpoint a plan over it could not keep, one line each.
    """

    format: str
    path: str | None = None
    files: tuple[str, ...] = ()
    signature: Signature
    state_metadata: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    surroundings: tuple[str, ...] = ()
    frozen: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def layout(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(file name, its keys) of each file, when several files share the keys."""
        return ()

    @abstractmethod
    def view(self, key: str) -> View:
        """Where the bytes of a tensor lie.

        Raises:
            FormatError: the tensor has no plain data (meta, sparse, quantised), named.
        """

    def storage_size(self, key: str) -> int | None:
        """Bytes of the storage that a tensor looks into; None when it has none."""
        try:
            return self.view(key).storage.nbytes
        except FormatError:
            return None

    def lazy(self, key: str) -> bool:
        """Whether a tensor is lazily conjugated or negated, so that its bytes are not its values."""
        return False

    def flags(self, key: str) -> Flags:
        """How a tensor was saved; as a plain one in formats that do not say."""
        return PLAIN

    @abstractmethod
    def read(self, storage: Storage, start: int, stop: int) -> Iterator[Buffer]:
        """The little-endian bytes ``start:stop`` of a storage, in chunks of at most `CHUNK`."""

    @abstractmethod
    def tensor(self, key: str) -> torch.Tensor:
        """The tensor, on the CPU: a read-only look into the mapped file where possible."""

    def loaded(self, key: str) -> torch.Tensor:
        """The tensor in memory of its own, read from the file: for all who look at values themselves.

        What `tensor` gives may be mapped; should somebody cut the file then, looking at it ends the process.
        """
        return self.tensor(key)

    def check(self, storage: Storage) -> None:  # noqa: B027 - most formats declare no checksums
        """Compare the checksum that is declared for a storage, once: for who copies a part of it by itself.

        `read` does so before it gives a part, and on the way when it gives all.

        Raises:
            FormatError: it is damaged.
        """

    def verify(self, keys: Iterable[str]) -> None:
        """Find damage before anything is used: checksums of all that the keys read are compared.

        Raises:
            FormatError: names file and key.
        """
        for key in keys:
            self.tensor(key)

    def value(self, key: str) -> Any:
        """The value of a key of kind ``object``: plain Python data."""
        raise KeyError(key)

    def optimizers(self) -> tuple[OptimizerState, ...]:
        """The optimizer states beside the weights."""
        return ()

    def check_unchanged(self) -> None:  # noqa: B027 - memory has no files
        """Ask whether every file still holds the bytes that it held when it was opened.

        Raises:
            FormatError: one was written to, cut, replaced or closed since.
        """

    def close(self) -> None:  # noqa: B027 - a source that holds nothing open has nothing to do
        """Let go of open files. Tensors that were handed out stay valid."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of an output, ready to be written.

    At most one of `view`, `make` and `value` is set; none for targets that hold no data.

    Args:
        key: its key in the output.
        info: shape and dtype in the output.
        source: where `view` points into.
        view: the tensor as it stands in `source`: copied as bytes, strided ones made contiguous
            by formats that hold contiguous tensors only.
        make: computes the tensor; gives its little-endian bytes in row-major order, in chunks, each of
            which is used before the next one is asked for.
        parts: with `make`, contiguous views of files in `source` whose bytes, one after the other, are the
            same: for formats that copy them without a look.
        value: plain data of a key of kind ``object``.
        tie: items with an equal, non-None `tie` are one tensor.
        flags: as it was saved, for torch files.
    """

    key: str
    info: TensorInfo
    source: Source | None = None
    view: View | None = None
    make: Callable[[], Iterator[Buffer]] | None = None
    parts: tuple[View, ...] = ()
    value: Any = None
    tie: Hashable = None
    flags: Flags = PLAIN


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How to write.

    Args:
        overwrite: replace an existing target.
        fsync: make the output durable before it gets its name.
        max_shard_size: bytes per shard for directories; None for the default of 5 GB
            (a single file is never sharded).
        layout: (file name, its keys) for directories: which key goes where; it counts when it has every key.
        progress: called with the number of bytes just written.
        claim: on the target, when it is the source that is rewritten in place; only what was claimed is replaced.
    """

    overwrite: bool = False
    fsync: bool = True
    max_shard_size: int | None = None
    layout: tuple[tuple[str, tuple[str, ...]], ...] = ()
    progress: Progress = no_progress
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """Everything a format needs to write one checkpoint.

    Args:
        target: the final path.
        items: the entries in state_dict order; keys are unique.
        source: what the items are read from; it must not have changed when all is written.
        metadata: string metadata for the file.
        state_metadata: the state_dict's ``_metadata``, already renamed; for torch files.
        around: the source whose surroundings of the root are to be kept, for torch files.
        companions: files to carry over into a model folder.
        options: how to write.
    """

    target: str
    items: Sequence[Item]
    source: Source | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    state_metadata: dict[str, Any] | None = None
    around: Source | None = None
    companions: tuple[str, ...] = ()
    options: WriteOptions = field(default_factory=WriteOptions)

    def check_source(self) -> None:
        """Ask, once all is written and before it gets its name, whether all of it was one state of the source.

        Raises:
            FormatError: the source changed meanwhile, so that what was copied is nobody's checkpoint.
        """
        if self.source is not None:
            self.source.check_unchanged()


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """One file of an output: its path, its size in bytes, and how many tensors it holds."""

    path: str
    bytes: int
    tensors: int


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer did.

    Args:
        files: every file of the output.
        left_out: what the source holds and the output does not, by name.
        notes: what a person should be told, one line each.
        plan: the `Plan` that was carried out; None where a checkpoint was written as it is.
    """

    files: tuple[WrittenFile, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    plan: Any = None

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.written`` document."""
        return {
            "format": "ckptkit.written",
            "version": 1,
            "files": [{"path": f.path, "bytes": f.bytes, "tensors": f.tensors} for f in self.files],
            "plan": None if self.plan is None else self.plan.to_json(),
            "left_out": list(self.left_out),
            "notes": list(self.notes),
        }
