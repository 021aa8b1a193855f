"""Reading signature files: keys, shapes and dtypes as JSON, wherever data is not needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from ..dtypes import is_known
from ..errors import FormatError, UnsupportedFormatError
from ..signatures import OBJECT, Part, Root, Signature, TensorInfo
from .base import Buffer, Source, Storage, View
from .json_text import read_json

if TYPE_CHECKING:
    import torch


class SignatureSource(Source):
    """A signature file; it can be planned with, never read from.

    Args:
        path: the file.

    Raises:
        FormatError: it is no ``ckptkit.signature`` document.
    """

    format = "signature"

    def __init__(self, path: str) -> None:
        self.path = path
        self.files = (path,)
        self.signature = _of_file(path)

    def view(self, key: str) -> View:
        self._refuse(key)

    def read(self, storage: Storage, start: int, stop: int) -> Iterator[Buffer]:
        self._refuse(None)

    def tensor(self, key: str) -> torch.Tensor:
        self._refuse(key)

    def value(self, key: str) -> Any:
        self._refuse(key)

    def _refuse(self, key: str | None) -> NoReturn:
        raise FormatError(
            f"{self.path}: a signature file has keys, shapes and dtypes only, so "
            f"{repr(key) if key is not None else 'it'} cannot be read; give the checkpoint itself",
            file=self.path,
            key=key,
        )


def _of_file(path: str) -> Signature:
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != "ckptkit.signature":
        raise UnsupportedFormatError(
            f'{path}: JSON, but no signature ("format": "ckptkit.signature" is missing); '
            "write one with: python -m ckptkit convert CKPT OUT.json",
            file=path,
        )
    version = document.get("version")
    if type(version) is not int or version != 1:
        raise FormatError(
            f"{path}: a signature of version {str(version)[:40]!r}; this ckptkit reads 1", file=path
        )
    return read_signature(document, path)


def read_signature(document: Any, path: str) -> Signature:
    """A signature from the content of its document.

    Args:
        document: from `json_text.read_json`, or a part of it.
        path: the file, for messages.

    Raises:
        FormatError: malformed, or not of this format.
    """
    if not isinstance(document, dict) or document.get("format") != "ckptkit.signature":
        raise FormatError(f'{path}: holds no signature ("format": "ckptkit.signature" is missing)', file=path)
    try:
        return _signature(document)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise FormatError(f"{path}: a malformed signature: {reason}", file=path) from None


def _signature(document: dict[str, Any]) -> Signature:
    tensors: dict[str, TensorInfo] = {}
    for entry in _list(document["tensors"], "tensors"):
        if type(entry) is not dict:
            raise ValueError(f"tensors holds {str(entry)[:80]}, which is no object")
        key, shape, dtype = entry["key"], entry["shape"], entry["dtype"]
        kind = entry.get("kind", "tensor")
        if type(key) is not str or type(dtype) is not str:
            raise ValueError(f"key and dtype are strings, not {str(key)[:40]!r} and {str(dtype)[:40]!r}")
        if key in tensors:
            raise ValueError(f"the key {key[:120]!r} stands twice")
        if type(shape) is not list or any(type(n) is not int or not 0 <= n < 1 << 63 for n in shape):
            raise ValueError(f"the shape of {key[:120]!r} is no list of sizes")
        if kind not in ("tensor", "object"):
            raise ValueError(f"{key[:120]!r} is of the kind {str(kind)[:40]!r}; known are tensor and object")
        if kind == "tensor" and not is_known(dtype):
            raise ValueError(f"{key[:120]!r} has the dtype {dtype[:40]!r}, which is none of torch's")
        tensors[key] = OBJECT if kind == "object" else TensorInfo(tuple(shape), dtype)
    tied: list[tuple[str, ...]] = []
    grouped: set[str] = set()
    for group in _list(document.get("tied", []), "tied"):
        if (
            type(group) is not list
            or len(group) < 2
            or any(type(k) is not str or k not in tensors for k in group)
        ):
            raise ValueError(f"tied holds {str(group)[:80]}, which is no group of keys")
        if len(set(group)) < len(group) or not grouped.isdisjoint(group):
            raise ValueError(f"tied names a key of {str(group)[:80]} twice")
        if len({tensors[k] for k in group}) > 1:
            raise ValueError(
                f"tied says that {str(group)[:80]} are one tensor, but their shapes or dtypes differ"
            )
        grouped.update(group)
        tied.append(tuple(group))
    metadata = document.get("metadata", {})
    if type(metadata) is not dict or any(type(v) is not str for v in metadata.values()):
        raise ValueError("metadata is no object of strings")
    root = document.get("root")
    if root is not None and type(root) is not str:
        raise ValueError("root is neither a string nor null")
    roots = tuple(_root(entry) for entry in _list(document.get("roots", []), "roots"))
    return Signature(tensors, tuple(tied), metadata, root, roots, _part(document.get("part_of")))


def _part(entry: Any) -> Part | None:
    if entry is None:
        return None
    if type(entry) is not dict or type(entry.get("kind")) is not str:
        raise ValueError("part_of is no object with a kind")
    counts = [entry.get("index"), entry.get("count")]
    if any(count is not None and (type(count) is not int or count < 0) for count in counts):
        raise ValueError("the index and count of part_of are numbers or null")
    return Part(entry["kind"], *counts)


def _root(entry: Any) -> Root:
    if type(entry) is not dict:
        raise ValueError(f"roots holds {str(entry)[:80]}, which is no object")
    path, kind, count, chosen = entry["path"], entry["kind"], entry["tensors"], entry.get("chosen", False)
    if type(path) is not str or type(kind) is not str or type(count) is not int or type(chosen) is not bool:
        raise ValueError(f"roots holds {str(entry)[:80]}: path and kind are strings, tensors a number")
    return Root(path, kind, count, chosen)


def _list(value: Any, name: str) -> list[Any]:
    if type(value) is not list:
        raise ValueError(f"{name} is no list")
    return value
