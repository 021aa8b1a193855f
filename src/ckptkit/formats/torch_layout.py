"""Which storages an output gets: connected views share one, disjoint views are separated, no byte more."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

from .base import Buffer, Source, Storage, View
from .pickled.allowed import TYPED_STORAGES
from .pickled.tree import OrderedNode
from .pickled.writer import PickleWriter
from .torch_views import extent, itemsize

_WIDEST = 16  # bytes of the widest element


@dataclass(slots=True, eq=False)
class OutStorage:
    """One storage of the output.

    Args:
        nbytes: its length.
        dtype: the one dtype of all tensors in it; None when they differ.
        source, storage, start: where its bytes come from; None for computed ones.
        make: computes the one tensor in it, as `Item.make`.
        key: its name in the file, given in order of appearance.
        label: the first tensor in it, for messages.
    """

    nbytes: int
    dtype: str | None
    source: Source | None = None
    storage: Storage | None = None
    start: int = 0
    make: Callable[[], Iterator[Buffer]] | None = None
    key: str = ""
    label: str = ""

    @property
    def typed(self) -> str | None:
        """The storage class for its dtype; None when only an untyped storage can hold it."""
        return TYPED_STORAGES.get(self.dtype) if self.dtype is not None else None


@dataclass(slots=True, eq=False)
class OutTensor:
    """One tensor of the output; `storage` and `offset` are set by `lay_out`.

    Args:
        label: its dotted place, for messages.
        shape, stride, dtype: as in `View`.
        source, view: where its bytes are; None for computed tensors.
        make: computes it, as `Item.make`.
        tie: tensors with an equal, non-None tie are one.
        requires_grad, parameter, conj, neg: as it was saved.
    """

    label: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str
    source: Source | None = None
    view: View | None = None
    make: Callable[[], Iterator[Buffer]] | None = None
    tie: Hashable = None
    requires_grad: bool = False
    parameter: bool = False
    conj: bool = False
    neg: bool = False
    storage: OutStorage | None = None
    offset: int = 0

    def emit(self, out: PickleWriter) -> None:
        """Write the call that rebuilds it, as torch.save does."""
        if self.parameter:
            out.name("torch._utils", "_rebuild_parameter")
            out.raw(b"(")
        storage = self.storage
        assert storage is not None
        typed = storage.typed
        out.name("torch._utils", "_rebuild_tensor_v2" if typed else "_rebuild_tensor_v3")
        out.raw(b"((")
        out.text("storage")
        out.name(*(("torch", typed) if typed else ("torch.storage", "UntypedStorage")))
        out.text(storage.key)
        out.text("cpu")
        out.integer(storage.nbytes // itemsize(storage.dtype) if typed and storage.dtype else storage.nbytes)
        out.raw(b"tQ")
        out.integer(self.offset)
        out.ints(self.shape)
        out.ints(self.stride)
        out.emit(self.requires_grad and not self.parameter)
        out.name("collections", "OrderedDict")
        out.raw(b")R")
        if not typed:
            out.name("torch", self.dtype)
        if self.conj or self.neg:
            out.emit({name: True for name in ("conj", "neg") if getattr(self, name)})
        out.raw(b"tR")
        if self.parameter:
            out.emit(self.requires_grad)
            out.emit(OrderedNode())
            out.raw(b"tR")


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """torch's strides of a contiguous tensor."""
    stride: list[int] = []
    step = 1
    for size in reversed(shape):
        stride.append(step)
        step *= max(size, 1)
    return tuple(reversed(stride))


def lay_out(tensors: Iterable[OutTensor]) -> list[OutStorage]:
    """Give every tensor its storage and offset.

    Views into one storage whose extents overlap, directly or through others, keep one storage, which holds
    the union of the extents and no more.

    Args:
        tensors: in the order in which they are written.

    Returns:
        The storages in order of appearance, with their keys.
    """
    tensors = list(tensors)
    leaders: dict[Hashable, OutTensor] = {}
    followers: list[tuple[OutTensor, OutTensor]] = []
    groups: dict[tuple[int, Hashable], list[OutTensor]] = {}
    empty: dict[str, OutStorage] = {}
    for tensor in tensors:
        leader = leaders.setdefault(tensor.tie, tensor) if tensor.tie is not None else tensor
        if leader is not tensor and not _same_storage(leader, tensor):
            followers.append((tensor, leader))
        elif 0 in tensor.shape:
            if tensor.dtype not in empty:
                empty[tensor.dtype] = OutStorage(0, tensor.dtype, label=tensor.label)
            tensor.storage, tensor.offset = empty[tensor.dtype], 0
        elif tensor.view is not None:
            groups.setdefault((id(tensor.source), tensor.view.storage.id), []).append(tensor)
        else:
            numel = 1
            for size in tensor.shape:
                numel *= size
            tensor.storage = OutStorage(
                numel * itemsize(tensor.dtype), tensor.dtype, make=tensor.make, label=tensor.label
            )
    for members in groups.values():
        _separate(members)
    for tensor, leader in followers:
        tensor.storage, tensor.offset, tensor.stride = leader.storage, leader.offset, leader.stride
        tensor.conj, tensor.neg = leader.conj, leader.neg
    return _numbered(tensors)


def _same_storage(one: OutTensor, other: OutTensor) -> bool:
    if one.view is None or other.view is None or one.source is not other.source:
        return False
    return one.view.storage.id == other.view.storage.id


def _separate(members: list[OutTensor]) -> None:
    spans = sorted(((*extent(m.view), i) for i, m in enumerate(members) if m.view is not None))
    component: list[OutTensor] = []
    start = stop = -1
    for low, high, index in spans:
        if low >= stop:
            _share(component, start, stop)
            component, start = [], low
        component.append(members[index])
        stop = max(stop, high)
    _share(component, start, stop)


def _share(component: list[OutTensor], start: int, stop: int) -> None:
    if not component:
        return
    dtypes = {tensor.dtype for tensor in component}
    dtype = component[0].dtype if len(dtypes) == 1 else None
    if dtype is None:
        start -= start % _WIDEST  # so that every offset stays a whole number of elements
    first = component[0]
    assert first.view is not None
    shared = OutStorage(stop - start, dtype, first.source, first.view.storage, start, label=first.label)
    for tensor in component:
        assert tensor.view is not None
        tensor.storage = shared
        tensor.offset = tensor.view.offset - start // itemsize(tensor.dtype)


def _numbered(tensors: list[OutTensor]) -> list[OutStorage]:
    storages: list[OutStorage] = []
    for tensor in tensors:
        storage = tensor.storage
        assert storage is not None
        if not storage.key:
            storage.key = str(len(storages))
            storages.append(storage)
    return storages
