"""Copies that cannot fail: everything that could has been done before the first of them.

A parameter that is a plain tensor takes a plain tensor that lies in memory (or in a mapped file) already:
then copying allocates nothing, reads no file by itself and calls nobody. What is not so plain is left to torch, whose code
runs where it can be undone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.load import LoadConfig
from ..distributed.shards import dtensor_in, part_for
from ..expr import Expr, Permute, Read, Reshape, Select, Slice, Transpose, evaluate
from ..expr.casting import Losses, cast, widens
from ..expr.growth import room_for
from ..formats.base import Source
from ..planned import settled_expr
from ..signatures import TensorInfo
from ..threads import one_thread
from .lazy_state import LazyState
from .memory import Ground, parts, span
from .values import arrange

if TYPE_CHECKING:
    import torch

_VIEWS = (Read, Transpose, Permute, Reshape, Slice, Select)


@dataclass
class Filler:
    """Makes the tensor for one parameter.

    Args:
        source: the checkpoint after the rules.
        expr: over its keys.
        name, info: of the parameter, for messages about memory.
        parameter: the parameter or buffer; another object where the model has none.
        config: assign, and the dtype policy.
        losses: where values are counted that the parameter's dtype cannot hold.
    """

    source: Source
    expr: Expr
    name: str
    info: TensorInfo
    parameter: Any
    config: LoadConfig
    losses: Losses

    def __call__(self) -> Any:
        self._forget()  # a hook may ask for a tensor more than once
        with room_for(self.name, self.info):
            tensor = evaluate(self.expr, self.source.tensor)
            if not hasattr(self.parameter, "is_meta"):
                return tensor
            assign, dtype = self.config.assign, self.config.dtype
            return arrange(tensor, self.parameter, assign=assign, dtype=dtype, losses=self.losses)

    def look(self) -> torch.Tensor | None:
        """The tensor where it lies, in its own dtype, if it can be held without memory of its own."""
        if not _views_only(settled_expr(self.expr, self.source)[0]):
            return None
        # Made twice, what is read from the file each time lies in two places.
        with room_for(self.name, self.info):
            one, other = (evaluate(self.expr, self.source.tensor) for _ in range(2))
        return one if _plain(one) and _plain(other) and one.data_ptr() == other.data_ptr() else None

    def count(self, tensor: torch.Tensor, dtype: torch.dtype) -> None:
        """Count what the parameter's dtype cannot hold."""
        self._forget()
        before, after = (str(d).removeprefix("torch.") for d in (tensor.dtype, dtype))
        if not widens(before, after):
            with room_for(self.name, self.info):
                cast(tensor, after, True, self.losses)

    def _forget(self) -> None:
        self.losses.overflowed = self.losses.vanished = self.losses.flattened = 0


def _views_only(expr: Expr) -> bool:
    return isinstance(expr, _VIEWS) and all(map(_views_only, expr.of))


@dataclass(frozen=True)
class Step:
    """One copy.

    Args:
        name: the parameter's.
        holder: the parameter or buffer.
        place: the plain tensor in which its values lie.
        value: what goes there, of the same shape.
    """

    name: str
    holder: torch.Tensor
    place: torch.Tensor
    value: torch.Tensor

    def carry_out(self) -> None:
        """Copy."""
        import torch

        with one_thread(self.place):
            torch.Tensor.copy_(self.place, self.value)


def step(name: str, holder: torch.Tensor, state: LazyState) -> Step | None:
    """The copy that fills a parameter; None when something in it could fail.

    Args:
        name: its key in the state.
        holder: the parameter or buffer.
        state: has that key.
    """
    maker = state.maker(name)
    value = state[name] if maker is None else maker.look() if isinstance(maker, Filler) else None
    shard = dtensor_in(holder)
    if value is None or not _plain(value) or not (_plain(holder) or type(shard) is type(holder)):
        return None
    if holder.dim() == 0 and value.shape == (1,):
        value = value.reshape(())
    if value.shape != holder.shape or (value.is_complex() and not holder.is_complex()):
        return None
    place = holder if shard is None else shard._local_tensor
    part = value if shard is None else part_for(value, shard)
    if part is None or not _plain(place) or part.shape != place.shape:
        return None
    if place.device.type != "cpu" and (part.dtype is not place.dtype or not place.is_contiguous()):
        return None  # the device would need memory for it
    if isinstance(maker, Filler):
        maker.count(part, place.dtype)
    return Step(name, holder, place, part)


def settled(steps: Iterable[Step], written: Iterable[Any]) -> list[Step]:
    """The steps, with copies of those values that lie where something is written: hooks may hand out such."""
    steps = list(steps)
    targets = [*written, *(each.holder for each in steps)]
    ground = Ground(s for value in targets for part in parts(value) if (s := span(part)) is not None)
    found = []
    for each in steps:
        place = span(each.value)
        meets = place is not None and ground.meets(place)
        found.append(Step(each.name, each.holder, each.place, each.value.clone()) if meets else each)
    return found


def _plain(value: Any) -> bool:
    """Whether torch alone copies from it and into it."""
    import torch

    return (
        type(value) in (torch.Tensor, torch.nn.Parameter)
        and type(value.data) is torch.Tensor
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_meta
    )
