"""Where the bytes of parameters lie, and which of them lie in the same place."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..distributed.shards import dtensor_in

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Span:
    """The bytes from the first to the last one that a tensor looks at.

    Args:
        device: where they are.
        start, stop: addresses.
    """

    device: str
    start: int
    stop: int


def parts(value: Any) -> list[torch.Tensor]:
    """The plain strided tensors that hold the bytes of a parameter or buffer: itself, a shard, indices and values.

    Of subclasses that hold others, those; what has no bytes (meta, opaque layouts) has no parts.
    """
    import torch

    if not isinstance(value, torch.Tensor) or value.is_meta:
        return []
    with torch._C.DisableTorchFunctionSubclass():
        if (shard := dtensor_in(value)) is not None:
            return parts(shard._local_tensor)
        if torch.utils._python_dispatch.is_traceable_wrapper_subclass(value):
            names, _ = value.__tensor_flatten__()
            return [part for name in names for part in parts(getattr(value, name))]
        if value.layout is torch.strided:
            return [value.detach()]
        if value.layout is torch.sparse_coo:
            return [value.detach()._indices(), value.detach()._values()]
        rows = value.layout in (torch.sparse_csr, torch.sparse_bsr)
        columns = value.layout in (torch.sparse_csc, torch.sparse_bsc)
        if rows:
            return [value.crow_indices(), value.col_indices(), value.detach().values()]
        return [value.ccol_indices(), value.row_indices(), value.detach().values()] if columns else []


def span(part: torch.Tensor) -> Span | None:
    """The span of a plain strided tensor; None when it has no elements or no memory."""
    try:
        base = part.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return None
    if not base or not part.numel():
        return None
    width = part.element_size()
    start = int(base + part.storage_offset() * width)
    return Span(str(part.device), start, start + extent(part) * width)


def extent(part: torch.Tensor) -> int:
    """Elements from the first to the last one of a tensor that has some."""
    return 1 + sum((n - 1) * s for n, s in zip(part.shape, part.stride(), strict=True))


def may_overlap_itself(part: torch.Tensor) -> bool:
    """Whether two elements of a tensor may be one; False is certain."""
    reach = 0
    for stride, size in sorted(zip(part.stride(), part.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += (size - 1) * stride
    return False


class Ground:
    """Spans that are taken, for the question whether another one meets them."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._starts: dict[str, list[int]] = {}
        self._stops: dict[str, list[int]] = {}
        for each in sorted(spans, key=lambda span: (span.device, span.start)):
            starts = self._starts.setdefault(each.device, [])
            stops = self._stops.setdefault(each.device, [])
            if stops and each.start <= stops[-1]:
                stops[-1] = max(stops[-1], each.stop)
            else:
                starts.append(each.start)
                stops.append(each.stop)

    def meets(self, span: Span) -> bool:
        """Whether a byte of a span is taken."""
        stops = self._stops.get(span.device, [])
        after = bisect_right(stops, span.start)  # the first run that ends behind its start
        return after < len(stops) and self._starts[span.device][after] < span.stop


def clusters(spans: Iterable[tuple[str, Span]]) -> list[list[str]]:
    """Names whose spans meet, directly or over others; in groups of two and more."""
    found: list[list[str]] = []
    device, reach = "", 0
    for name, each in sorted(spans, key=lambda item: (item[1].device, item[1].start)):
        if found and each.device == device and each.start < reach:
            found[-1].append(name)
            reach = max(reach, each.stop)
        else:
            found.append([name])
            device, reach = each.device, each.stop
    return [group for group in found if len(group) > 1]
