"""A checkpoint as a lazy, read-only mapping from key to tensor, whatever it is made of."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .errors import KeyNotFoundError, PartError, RootError, UsageError
from .formats import open_whole
from .formats.base import Source
from .formats.memory import memory_source, module_state
from .patterns import nearest
from .signatures import Signature
from .text import human_bytes, human_count, quote_list

if TYPE_CHECKING:
    import torch


class Checkpoint(Mapping[str, "torch.Tensor"]):
    """Named tensors, read when they are asked for.

    ``model.load_state_dict(checkpoint)`` works. Tensors look into the mapped file where they can;
    writing to one changes the tensor, never the file. Entries that are no tensors
    (``*._extra_state``) give their plain value.

    Args:
        source: an opened source of some format.
        opened: what `open` was called with, for pickling: path, root, part and variant.
    """

    def __init__(self, source: Source, opened: tuple[str, str, bool, str | None] | None = None) -> None:
        self.source = source
        self._opened = opened

    @property
    def signature(self) -> Signature:
        """Keys, shapes, dtypes, ties, metadata and root; no data."""
        return self.source.signature

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's string metadata."""
        return self.source.signature.metadata

    @property
    def _metadata(self) -> dict[str, Any] | None:
        """The state_dict's module versions, where `load_state_dict` looks for them."""
        return self.source.state_metadata

    def __getitem__(self, key: str) -> torch.Tensor:
        info = self.signature.tensors.get(key)
        if info is None:
            raise self._unknown(key)
        if info.kind == "object":
            value: torch.Tensor = self.source.value(key)
            return value
        return self.source.tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.signature)

    def __len__(self) -> int:
        return len(self.signature)

    def __contains__(self, key: object) -> bool:
        return key in self.signature

    # A mapping's own comparison would read every tensor, and end in torch's error about ambiguous truth.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def get_slice(self, key: str) -> Slice:
        """A tensor to be read in part: ``checkpoint.get_slice(key)[:, 0:128]``.

        Raises:
            KeyNotFoundError: no such tensor; names the nearest keys.
        """
        info = self.signature.tensors.get(key)
        if info is None or info.kind == "object":
            raise self._unknown(key)
        return Slice(self, key)

    def copy(self) -> dict[str, torch.Tensor]:
        """The keys and tensors as a plain dict; tensors still look into the file where they can."""
        state: OrderedDict[str, torch.Tensor] = OrderedDict((key, self[key]) for key in self)
        if self._metadata is not None:
            state._metadata = self._metadata  # type: ignore[attr-defined]
        return state

    def at_root(self, root: str) -> Checkpoint:
        """The same checkpoint with its weights taken from another place.

        Args:
            root: ``auto`` (as it was opened), ``none`` or a dotted path.

        Raises:
            RootError: there is no such root, or the checkpoint has none to choose from.
        """
        if root == "auto" or (self.signature.root or "none") == root:
            return self
        if self._opened is not None:
            path, _, part, variant = self._opened
            return open(path, root, part=part, variant=variant)
        raise RootError(
            f"the root {root!r} was asked for, and this checkpoint ({self.source.format}) stands at "
            f"{self.signature.root or 'its top level'!r}; open its file or mapping with that root instead"
        )

    def close(self) -> None:
        """Let go of the file; tensors that were handed out stay valid."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._opened is None:
            raise TypeError(
                f"a checkpoint over {self.source.format} cannot be pickled; save it, and pickle what opens it"
            )
        return _reopened, self._opened

    def __repr__(self) -> str:
        where = f" {self.source.path}" if self.source.path else ""
        signature = self.signature
        return (
            f"<Checkpoint{where} ({self.source.format}): {len(signature)} keys, "
            f"{human_count(signature.numel)} parameters, {human_bytes(signature.nbytes)}>"
        )

    def _unknown(self, key: str) -> KeyNotFoundError:
        close = nearest(str(key), self.signature)
        hint = f"; the nearest are {quote_list(close)}" if close else ""
        return KeyNotFoundError(
            f"the checkpoint has no tensor {key!r}{hint}", file=self.source.path, key=str(key)
        )


class Slice:
    """A tensor that is read in part, as safetensors' ``get_slice`` gives it.

    Args:
        checkpoint: where it lies.
        key: its key.
    """

    def __init__(self, checkpoint: Checkpoint, key: str) -> None:
        self._checkpoint = checkpoint
        self._key = key

    def get_shape(self) -> list[int]:
        """The whole tensor's shape."""
        return list(self._checkpoint.signature[self._key].shape)

    def get_dtype(self) -> str:
        """The dtype's name."""
        return self._checkpoint.signature[self._key].dtype

    def __getitem__(self, index: Any) -> torch.Tensor:
        # The whole is a look into a mapped file: only the pages of the part are read.
        return self._checkpoint[self._key][index]


def _reopened(path: str, root: str, part: bool, variant: str | None) -> Checkpoint:
    return open(path, root, part=part, variant=variant)


def open(source: Any, root: str = "auto", *, part: bool = False, variant: str | None = None) -> Checkpoint:
    """Open a checkpoint, lazily.

    Args:
        source: a path (file, index or folder), a mapping of tensors, an `nn.Module`, or a Checkpoint.
        root: where the weights lie in a nested file or mapping: ``auto``, ``none`` or a dotted path.
        part: take a file that is a part of a checkpoint (one shard, one rank) by itself.
        variant: which weights of a folder that holds several variants of them, such as ``fp16``.

    Raises:
        PartError: the file is a part of a checkpoint, and `part` is false.
        FormatError: missing, damaged, or of no format that is read.
        RootError: the root is not there, or not unique.
        UsageError: of another type.
    """
    if isinstance(source, Checkpoint):
        return source.at_root(root)
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        # Another process that unpickles it may stand in another folder.
        checkpoint = Checkpoint(open_whole(path, root, variant), (os.path.abspath(path), root, part, variant))
        if not part:
            try:
                _refuse_part(checkpoint.signature, path)
            except PartError:
                checkpoint.close()
                raise
        return checkpoint
    if isinstance(source, Signature):
        raise UsageError("a signature has no tensors; give the checkpoint itself")
    if isinstance(source, Mapping):
        return Checkpoint(memory_source(source, root))
    if hasattr(source, "state_dict") and hasattr(source, "named_parameters"):
        return Checkpoint(memory_source(module_state(source), root if root != "auto" else "none"))
    raise UsageError(
        "a checkpoint is a path, a mapping of tensors, an nn.Module or a Checkpoint, not a value of type "
        f"{type(source).__name__}"
    )


def _refuse_part(signature: Signature, path: str | None) -> None:
    """Refuse what is a part of a checkpoint where a whole one is needed.

    Raises:
        PartError: says which part of what it is, and the next step.
    """
    part = signature.part_of
    if part is None:
        return
    folder = os.path.dirname(path or "") or "."
    whole = "fetch the other parts" if os.path.isdir(path or "") else f"open the whole (the folder {folder})"
    raise PartError(
        f"{path}: is {part} and does not hold all of its weights; {whole}, or take this part by itself with --part "
        "(part=True in Python)",
        file=path,
    )


def signature(source: Any, *, part: bool = True) -> Signature:
    """The signature of anything that holds named tensors; no data is read. Its `part_of` says whether it is a part.

    Args:
        source: a path, a mapping of tensors, an `nn.Module`, a Checkpoint, or a Signature.
        part: take a file that is a part of a checkpoint, too.

    Raises:
        PartError: the file is a part of a checkpoint, and `part` is false.
        FormatError: a file that cannot be read.
    """
    if isinstance(source, Signature):
        return source
    if isinstance(source, str | os.PathLike):
        with open(source, part=part) as checkpoint:
            return checkpoint.signature
    return open(source).signature
