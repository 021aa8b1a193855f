"""Whether a torch file that is about to be written will be read as what was planned: asked of the reader, before a byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from ..errors import FormatError, RootError, WriteError
from ..text import quote_list
from .base import Storage, WriteRequest
from .pickled import StorageIds, StorageNode, TensorNode, load_pickle, paused_gc
from .pickled.arguments import MAX_DIMS
from .root_candidates import dotted
from .torch_bytes import Bytes
from .torch_layout import OutStorage, OutTensor
from .torch_source import TorchSource
from .torch_views import itemsize, prove
from .torch_zip import MAX_PICKLE


class _Nothing(Bytes):
    """The bytes of a file that is not there yet; nobody asks for them."""

    def __init__(self) -> None:
        self.swapped = {}
        self.inline = {}

    def raw(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        raise NotImplementedError

    def bad_crc(self, key: str, declared: int, found: int) -> NoReturn:
        raise NotImplementedError


def check_readable(
    request: WriteRequest, pickle: bytes, tensors: list[OutTensor], storages: list[OutStorage], *, plain: bool,
    root: tuple[Any, ...],
) -> tuple[str, ...]:  # fmt: skip
    """Compare what the reader will find with what is written.

    Args:
        request: what was asked for.
        pickle: ``data.pkl``.
        tensors, storages: what the archive will hold.
        plain: whether the pickle is one dictionary of tensors and nothing else; then the tensors are all there is to ask.
        root: the keys that lead to the weights.

    Returns:
        What a person should be told about opening the file, one line each.

    Raises:
        WriteError: the reader would refuse the file, or find something else.
    """
    target = request.target
    there = {out.key: Storage(out.key, out.nbytes, None) for out in storages}
    try:
        if len(pickle) > MAX_PICKLE:
            raise FormatError(f"the names and values take {len(pickle)} bytes, more than {MAX_PICKLE}")
        if plain:
            for tensor in tensors:
                _check_tensor(tensor, there, target)
            return ()
        with paused_gc():
            return _check_all(request, pickle, there, root)
    except FormatError as error:
        reason = str(error).removeprefix(f"{target}: ")
        raise WriteError(
            f"{target}: what is to be written could not be read again: {reason}; drop it, or change it where it was made",
            file=target,
            key=error.key,
        ) from None


def _check_tensor(tensor: OutTensor, storages: dict[str, Storage], target: str) -> None:
    if len(tensor.shape) > MAX_DIMS:
        raise FormatError(
            f"{tensor.label!r} has {len(tensor.shape)} dimensions, more than {MAX_DIMS}", key=tensor.label
        )
    if not tensor.label.isascii():
        try:
            tensor.label.encode()
        except UnicodeEncodeError:
            raise FormatError(
                f"the key {ascii(tensor.label)[:120]} holds a lone surrogate and is no valid text",
                key=ascii(tensor.label),
            ) from None
    out = tensor.storage
    assert out is not None
    dtype = out.dtype if out.typed and out.dtype else "uint8"
    node = TensorNode(
        StorageNode(out.key, dtype, out.nbytes // itemsize(dtype), "cpu"),
        tensor.offset, tensor.shape, tensor.stride, tensor.dtype, tensor.requires_grad,
    )  # fmt: skip
    prove(node, storages, target, tensor.label)


def _check_all(
    request: WriteRequest, pickle: bytes, storages: dict[str, Storage], root: tuple[Any, ...]
) -> tuple[str, ...]:
    target, ids = request.target, StorageIds()
    tree = load_pickle(pickle, file=target, what="data.pkl", persistent=ids)
    notes: tuple[str, ...] = ()
    named = dotted(root) or "none"
    try:
        found = TorchSource(target, "torch zip", tree, storages, _Nothing(), "auto")
        if found.root_path != root:
            notes = (
                f"opened without a root, {dotted(found.root_path) or 'the top level'} is taken for the weights",
            )
    except RootError as error:
        notes = (f"opened without a root, it is refused: {error.message.removeprefix(f'{target}: ')}",)
    if notes:
        found = TorchSource(target, "torch zip", tree, storages, _Nothing(), named)
        notes = (f"{notes[0]}; the root is {named!r}",) if request.around is None else ()
    planned = {item.key: item.info for item in request.items}
    if list(found.signature.tensors.items()) != list(planned.items()):
        wrong = [key for key in planned if found.signature.tensors.get(key) != planned[key]]
        raise FormatError(f"{quote_list(wrong or list(planned))} would be something else")
    return notes
