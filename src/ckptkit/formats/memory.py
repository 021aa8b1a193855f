"""State_dicts in memory as sources: a mapping of tensors, or what an `nn.Module` gives."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..dtypes import DTYPES, is_known
from ..errors import FormatError, RootError, UsageError
from ..signatures import OBJECT, Signature, TensorInfo, tied_groups
from .base import Buffer, Source, Storage, View
from .strides import row_major
from .tensor_bytes import flat_bytes, tensor_bytes

if TYPE_CHECKING:
    import torch


class MemorySource(Source):
    """A mapping of keys to tensors; entries that are no tensors are objects.

    Args:
        state: the mapping, e.g. a state_dict. It is not copied, and must not change meanwhile.

    Raises:
        UsageError: a key is no string.
    """

    format = "memory"

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self._holders: dict[Hashable, str] = {}
        infos: dict[str, TensorInfo] = {}
        identities: list[tuple[str, Hashable]] = []
        for key, value in state.items():
            if not isinstance(key, str):
                raise UsageError(
                    f"a state_dict has string keys; this one has {str(key)[:60]!r} of {type(key).__name__}"
                )
            if _is_tensor(value):
                if _uninitialised(value):
                    raise UsageError(
                        f"{key!r} is lazily initialised and has no shape yet; run the model once before",
                        key=key,
                    )
                dtype = str(value.dtype).removeprefix("torch.")
                if not is_known(dtype):
                    raise UsageError(
                        f"{key!r} has the dtype {value.dtype}, which this ckptkit does not know", key=key
                    )
                infos[key] = TensorInfo(tuple(value.shape), dtype)
                identity = _identity(value)
                if identity is not None:
                    identities.append((key, identity))
            else:
                infos[key] = OBJECT
        self.signature = Signature(infos, tied_groups(identities))
        metadata = getattr(state, "_metadata", None)
        if isinstance(metadata, Mapping) and all(type(path) is str for path in metadata):
            self.state_metadata = dict(metadata)

    def tensor(self, key: str) -> torch.Tensor:
        value: torch.Tensor = self.state[key].detach()
        return value

    def value(self, key: str) -> Any:
        return self.state[key]

    def view(self, key: str) -> View:
        tensor = self.tensor(key)
        reason = _no_bytes(tensor)
        if reason is not None:
            raise FormatError(f"{key!r} {reason}", key=key)
        size, width = tuple(tensor.shape), tensor.element_size()
        dtype = str(tensor.dtype).removeprefix("torch.")
        if tensor.device.type != "cpu" or _lazy(tensor):
            # Its bytes are made when they are read; it shares them with nobody.
            storage = Storage((key, "made"), tensor.numel() * width, None)
            self._holders[storage.id] = key
            return View(storage, 0, size, row_major(size), dtype)
        raw = tensor.untyped_storage()
        storage = Storage((raw.data_ptr(), raw.nbytes(), key if not raw.nbytes() else ""), raw.nbytes(), None)
        self._holders[storage.id] = key
        return View(storage, int(tensor.storage_offset()), size, tuple(tensor.stride()), dtype)

    def read(self, storage: Storage, start: int, stop: int) -> Iterator[Buffer]:
        import torch

        tensor = self.tensor(self._holders[storage.id])
        if tensor.device.type != "cpu" or _lazy(tensor):
            flat = flat_bytes(tensor.resolve_conj().resolve_neg())
        else:
            flat = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
        yield from tensor_bytes(flat[start:stop])


def memory_source(state: Mapping[str, Any], root: str) -> MemorySource:
    """A mapping, nested or not, as a source: nested ones are opened at their root, as files are.

    Args:
        state: keys to tensors, or what `torch.load` gave.
        root: ``auto``, ``none`` or a dotted path. A mapping that holds tensors itself is its own root.

    Raises:
        RootError: there is no such root, or more than one place could be meant.
        UsageError: a key of the root is no string.
    """
    if not isinstance(state, dict):
        if root not in ("auto", "none"):
            raise RootError(
                f"the root {root!r} was asked for, and a {type(state).__name__} has none to choose from"
            )
        return MemorySource(state)
    nested = any(isinstance(value, dict) for value in state.values())
    if root == "none" or (root == "auto" and (not nested or any(map(_is_tensor, state.values())))):
        return MemorySource(state)
    # with the reader of pickles, which few processes need
    from .root_candidates import dotted
    from .roots import choose_root

    try:
        choice = choose_root(state, root, "the mapping", _is_tensor)
    except RootError as error:
        if root == "auto" and "no dictionary of tensors" in error.message:
            return MemorySource(state)
        raise
    source = MemorySource(choice.node)
    source.signature = replace(source.signature, root=dotted(choice.path) or None, roots=choice.roots)
    source.notes = choice.notes
    return source


def module_state(module: Any) -> Mapping[str, Any]:
    """The state_dict of a module, with its own parameters instead of detached ones, so that ties show.

    On the meta device every ``data_ptr()`` is 0 and `state_dict()` detaches: identity is what is left.
    """
    from .module_tree import saved_state

    return saved_state(module, keep_vars=True)


def _is_tensor(value: Any) -> bool:
    # Asking for torch's class by name keeps torch out of processes that never saw a tensor.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _identity(tensor: torch.Tensor) -> Hashable:
    """Equal for tensors that are one: the same object, or the same look into the same bytes."""
    if tensor.is_meta or tensor.layout is not _strided():
        return ("object", id(tensor))
    if not tensor.numel():
        return None
    try:
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
    except (NotImplementedError, RuntimeError):
        return ("object", id(tensor))
    if not place:
        return ("object", id(tensor))
    shape = (tuple(tensor.shape), tuple(tensor.stride()), tensor.storage_offset())
    return (tensor.device, place, *shape, tensor.dtype, tensor.is_conj(), tensor.is_neg())


def _strided() -> torch.layout:
    import torch

    return torch.strided


def _uninitialised(tensor: torch.Tensor) -> bool:
    import torch

    return bool(torch.nn.parameter.is_lazy(tensor))


def _lazy(tensor: torch.Tensor) -> bool:
    return tensor.is_conj() or tensor.is_neg()


def _no_bytes(tensor: torch.Tensor) -> str | None:
    """Why a tensor has no plain bytes, or None."""
    import torch

    if tensor.is_meta:
        return "is a meta tensor: it has a shape but no data; load or initialise it first"
    if tensor.layout is not torch.strided:
        return f"is {str(tensor.layout).removeprefix('torch.')}, and ckptkit holds strided tensors only; make it dense"
    if tensor.is_quantized:
        return (
            "is quantised, and ckptkit holds plain tensors only; dequantise it, or store int_repr and scales"
        )
    if type(tensor) is not torch.Tensor and not isinstance(tensor, torch.nn.Parameter):
        return f"is a {type(tensor).__name__}, a subclass whose bytes are not its values; make a plain tensor of it"
    if str(tensor.dtype).removeprefix("torch.") not in DTYPES:
        return f"has the dtype {tensor.dtype}, which no checkpoint format holds"
    return None
