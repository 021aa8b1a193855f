"""Signatures: the ordered keys of a state_dict with shape and dtype and which are tied; no data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any, Literal

from . import dtypes


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a key holds, without its data.

    Args:
        shape: torch's shape; empty for objects.
        dtype: torch's dtype name without the prefix, a format's own name, or ``object``.
        kind: ``tensor``, or ``object`` for an entry that is no tensor (``*._extra_state``).
    """

    shape: tuple[int, ...]
    dtype: str
    kind: Literal["tensor", "object"] = "tensor"

    @property
    def numel(self) -> int:
        """Number of elements; 0 for objects, which count as no parameters."""
        return prod(self.shape) if self.kind == "tensor" else 0

    @property
    def nbytes(self) -> int:
        """Bytes of the contiguous data."""
        return dtypes.nbytes(self.dtype, self.numel) if self.kind == "tensor" else 0


OBJECT = TensorInfo((), "object", "object")


@dataclass(frozen=True, slots=True)
class Root:
    """A place in a nested checkpoint that can hold the weights.

    Args:
        path: dotted path, "" for the top level.
        kind: ``weights``, ``ema`` or ``optimizer``.
        tensors: how many tensors lie there.
        chosen: whether this is the one that was opened.
    """

    path: str
    kind: str
    tensors: int
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What a file is a part of, when it does not hold the whole checkpoint.

    Args:
        kind: of the whole: "sharded checkpoint", "Megatron checkpoint", ...
        index: which part it is, counted from 0; None when the file does not say.
        count: how many parts there are; None when that is not known.
    """

    kind: str
    index: int | None = None
    count: int | None = None

    def __str__(self) -> str:
        which = "a part" if self.index is None else f"part {self.index + 1}"
        of = f" of {self.count}" if self.count is not None else ""
        return f"{which}{of} of a {self.kind}"

    def to_json(self) -> dict[str, Any]:
        """As it stands in the ``ckptkit.signature`` document."""
        return {"kind": self.kind, "index": self.index, "count": self.count}


@dataclass(frozen=True)
class Signature(Mapping[str, TensorInfo]):
    """The ordered keys of a state_dict with shape and dtype.

    Args:
        tensors: key to `TensorInfo`, in state_dict order.
        tied: groups of two or more keys that hold one and the same tensor, each in state_dict order.
        metadata: the file's string metadata.
        root: dotted path of the opened root in a nested checkpoint, None at the top level.
        roots: every root that was found.
        part_of: what it is a part of; None for a whole checkpoint.
    """

    tensors: Mapping[str, TensorInfo]
    tied: tuple[tuple[str, ...], ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    root: str | None = None
    roots: tuple[Root, ...] = ()
    part_of: Part | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Signature, (
            dict(self.tensors),
            self.tied,
            dict(self.metadata),
            self.root,
            self.roots,
            self.part_of,
        )

    def __getitem__(self, key: str) -> TensorInfo:
        return self.tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __contains__(self, key: object) -> bool:
        return key in self.tensors

    @property
    def numel(self) -> int:
        """Number of parameters, tied ones counted once."""
        extra = sum(self.tensors[k].numel for group in self.tied for k in group[1:])
        return sum(t.numel for t in self.tensors.values()) - extra

    @property
    def nbytes(self) -> int:
        """Bytes of data, tied tensors counted once."""
        extra = sum(self.tensors[k].nbytes for group in self.tied for k in group[1:])
        return sum(t.nbytes for t in self.tensors.values()) - extra

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.signature`` document."""
        part = {} if self.part_of is None else {"part_of": self.part_of.to_json()}
        return {
            "format": "ckptkit.signature",
            "version": 1,
            "tensors": [
                {"key": k, "shape": list(t.shape), "dtype": t.dtype}
                | ({} if t.kind == "tensor" else {"kind": t.kind})
                for k, t in self.tensors.items()
            ],
            "tied": [list(group) for group in self.tied],
            "metadata": dict(self.metadata),
            "root": self.root,
            "roots": [
                {"path": r.path, "kind": r.kind, "tensors": r.tensors, "chosen": r.chosen} for r in self.roots
            ],
        } | part


def tied_groups(ids: Iterable[tuple[str, object]]) -> tuple[tuple[str, ...], ...]:
    """Group keys by identity.

    Args:
        ids: (key, identity) in state_dict order; equal identities are one tensor.

    Returns:
        The groups of two or more keys, in order of their first key.
    """
    groups: dict[object, list[str]] = {}
    for key, identity in ids:
        groups.setdefault(identity, []).append(key)
    return tuple(tuple(g) for g in groups.values() if len(g) > 1)
