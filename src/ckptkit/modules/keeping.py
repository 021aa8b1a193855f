"""What a model is before a load touches it, so that whatever stops the load can put it back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..distributed.shards import dtensor_in
from .memory import extent, may_overlap_itself, parts
from .walking import recursion

if TYPE_CHECKING:
    import torch

_TABLES = ("_parameters", "_buffers")


class Kept:
    """The modules of a model as they were: attributes, tables, tensors by identity, and bytes where asked.

    Whatever is to be undone is written down before it is done.

    Args:
        root: the model.
    """

    def __init__(self, root: torch.nn.Module) -> None:
        self._modules: dict[int, _Module] = {}
        self._tensors: dict[int, _Tensor] = {}
        self._given_up: dict[str, None] = {}
        for prefix, module in recursion(root):
            if id(module) in self._modules:
                continue
            self._modules[id(module)] = _Module(module, prefix)
            for name, value in _tensors_of(module):
                if id(value) not in self._tensors:
                    self._tensors[id(value)] = _Tensor(prefix + name, value)

    def copy(self, tensors: Iterable[Any] | None = None) -> None:
        """Keep the bytes of tensors, too: of some parameters or buffers, or of everything.

        Takes their memory once more. What several of them share is kept once for each.
        """
        chosen = self._tensors if tensors is None else {id(value): value for value in tensors}
        for number in chosen:
            if number in self._tensors:
                self._tensors[number].copy()

    def give_up(self, name: str, value: Any) -> None:
        """Write down that a tensor is about to be overwritten; without a copy it cannot be as it was again."""
        kept = self._tensors.get(id(value))
        if kept is None or not kept.safe():
            self._given_up[name] = None

    def restore(self) -> list[str]:
        """Put everything back.

        Returns:
            The names of what is not as it was.
        """
        lost = dict(self._given_up)
        todo: list[_Module | _Tensor] = [*self._modules.values(), *self._tensors.values()]
        for each in todo:
            try:
                each.put_back()
            except BaseException:
                try:  # what stopped it once (no memory, an interrupt) may be over
                    each.put_back()
                except BaseException:
                    lost[each.name] = None
        return list(lost)

    def put_back(self, module: torch.nn.Module, prefix: str, keys: Container[str]) -> None:
        """Undo what a load did to single tensors of a module."""
        tables = self._modules[id(module)].containers
        for table in _TABLES:
            for name, value in (tables[table][1] if table in tables else {}).items():
                if value is not None and prefix + name in keys:
                    getattr(module, table)[name] = value
                    self._tensors[id(value)].put_back()


def _tensors_of(module: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    import torch

    for table in _TABLES:
        yield from ((k, v) for k, v in getattr(module, table).items() if v is not None)
    for name, value in module.__dict__.items():
        inside = (
            value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        )
        if name not in _TABLES:
            yield from ((name, each) for each in (value, *inside) if isinstance(each, torch.Tensor))


class _Module:
    """The attributes of one module, and what its tables and other plain containers hold."""

    def __init__(self, module: torch.nn.Module, prefix: str) -> None:
        self.name = f"attributes of {prefix[:-1] or 'the model'}"
        self._module = module
        self._attributes = dict(module.__dict__)
        self.containers = {
            name: (value, _content(value))
            for name, value in self._attributes.items()
            if isinstance(value, dict | list | set)
        }

    def put_back(self) -> None:
        _refill(self._module.__dict__, self._attributes)
        for container, content in self.containers.values():
            _refill(container, content)


def _content(container: Any) -> Any:
    if isinstance(container, dict):
        return dict(container)
    return list(container) if isinstance(container, list) else set(container)


def _refill(container: Any, content: Any) -> None:
    """Give a container what it held; one that holds it still is left alone, as others may look at it just now."""
    if isinstance(container, set):
        if container != content:
            set.clear(container)
            set.update(container, content)
    elif isinstance(container, list):
        if not (
            len(container) == len(content) and all(a is b for a, b in zip(container, content, strict=True))
        ):
            list.__setitem__(container, slice(None), content)
    elif not _same(container, content):
        kind = OrderedDict if isinstance(container, OrderedDict) else dict
        kind.clear(container)
        kind.update(container, content)


def _same(now: Mapping[Any, Any], then: Mapping[Any, Any]) -> bool:
    return len(now) == len(then) and all(
        a == b and v is w for (a, v), (b, w) in zip(now.items(), then.items(), strict=True)
    )


@dataclass
class _Tensor:
    """One parameter or buffer: the object, where its data lay, what is known of it, and its bytes if they are kept."""

    name: str
    holder: torch.Tensor
    alias: torch.Tensor | None = field(init=False)
    inner: list[tuple[Any, str, Any]] = field(init=False)
    flags: tuple[bool, Any, Any] = field(init=False)
    copies: list[Callable[[], None]] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        with _plainly():
            self.inner = _inner(self.holder)
            self.alias = self.holder.detach() if not self.inner else None
            attributes = getattr(self.holder, "__dict__", None)
            self.flags = (
                self.holder.requires_grad,
                _grad(self.holder),
                None if attributes is None else dict(attributes),
            )

    def copy(self) -> None:
        if self.copies is None:
            with _plainly():
                self.copies = [copied(part) for part in parts(self.holder)]

    def safe(self) -> bool:
        """Whether its bytes are kept, or what it looks at now is not what they lay in."""
        return self.copies is not None or self._moved()

    def put_back(self) -> None:
        with _plainly():
            for owner, name, value in self.inner:
                if getattr(owner, name) is not value:
                    setattr(owner, name, value)
            if self.alias is not None and self._moved():
                self.holder.data = self.alias
            for write in self.copies or ():
                write()
            trains, gradient, attributes = self.flags
            if self.holder.requires_grad is not trains:
                self.holder.requires_grad = trains
            if _grad(self.holder) is not gradient:
                self.holder.grad = gradient
            if attributes is not None:
                _refill(self.holder.__dict__, attributes)

    def _moved(self) -> bool:
        return self.alias is not None and _place(self.holder) != _place(self.alias)


@contextmanager
def _plainly() -> Iterator[None]:
    """Without gradients, and without the code of tensor subclasses where torch can do without."""
    import torch

    with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
        yield


def _inner(value: Any) -> list[tuple[Any, str, Any]]:
    """The tensors that a wrapping subclass holds: their owner and attribute, and themselves."""
    import torch

    if (shard := dtensor_in(value)) is not None:
        return [(shard, "_local_tensor", shard._local_tensor)]
    if torch.utils._python_dispatch.is_traceable_wrapper_subclass(value):
        names, _ = value.__tensor_flatten__()
        return [(value, name, getattr(value, name)) for name in names]
    return []


def _grad(value: torch.Tensor) -> Any:
    return value.grad if value.is_leaf else None


def _place(value: torch.Tensor) -> tuple[Any, ...]:
    import torch

    what = (value.dtype, value.device, tuple(value.shape), value.layout)
    if value.layout is torch.sparse_coo:
        # Copying into one gives it other indices and values.
        return (*what, *(part.data_ptr() for part in parts(value)), value.is_coalesced())
    if value.layout is not torch.strided:
        return what
    try:
        data = value.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return what
    return (*what, tuple(value.stride()), value.storage_offset(), data, *_scales(value))


def _scales(value: torch.Tensor) -> tuple[Any, ...]:
    """What the bytes of a quantised tensor mean, which copying replaces, too."""
    import torch

    if not value.is_quantized:
        return ()
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return (value.q_scale(), value.q_zero_point())
    scales, zeros = value.q_per_channel_scales(), value.q_per_channel_zero_points()
    return (tuple(scales.tolist()), tuple(zeros.tolist()), value.q_per_channel_axis())


def copied(part: torch.Tensor) -> Callable[[], None]:
    """Copy the bytes of a plain strided tensor; what comes back writes them where they were."""
    import torch

    if not part.numel():
        return lambda: None
    length, width = extent(part), part.element_size()
    if length != part.numel() and not may_overlap_itself(part):
        # There is something between its elements that may not be its own.
        values = part.clone()

        def write_values() -> None:
            part.copy_(values)

        return write_values
    start, storage = int(part.storage_offset() * width), part.untyped_storage()
    stop = start + length * width

    def raw() -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8, device=part.device).set_(storage)[start:stop]

    kept = raw().clone()

    def write() -> None:
        if storage.nbytes() < stop:
            storage.resize_(stop)
        raw().copy_(kept)

    return write
