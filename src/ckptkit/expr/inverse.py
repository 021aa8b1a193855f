"""The way back: what is known of the inputs of expressions when their results are known.

Every output is a known value; walking down its expression says what is known of each part below, until
every source key is known whole, or some part of it by nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ..errors import PlanError
from ..signatures import TensorInfo
from ..text import quoted
from .base import MAX_DEPTH, Expr, Read, Shape, infer, too_deep
from .casting import widens
from .joins import Concat, Stack
from .values import Cast, Resize
from .views import Permute, Reshape, Select, Slice, Transpose

_SHOWN = 4  # missing entries in a message
_REVERSIBLE_RESIZES = ("pad", "repeat")


@dataclass(frozen=True, slots=True)
class Equal:
    """Two expressions that must give equal bytes, or a plan does not apply: two copies of one tensor.

    Args:
        key: what they both stand for.
        one, other: over the source's keys.
    """

    key: str
    one: Expr
    other: Expr


@dataclass(slots=True)
class _Known:
    """What is known of an expression's value: it whole, or parts of it."""

    whole: list[Expr] = field(default_factory=list)
    parts: list[tuple[Slice | Select, Expr]] = field(default_factory=list)


class Inverse:
    """What each source key comes back from, found from the outputs down, larger expressions first.

    Args:
        outputs: key and expression of every output.
        source: the signature they read from.

    Attributes:
        recovered: source key to the expression over output keys that it comes back from.
        equal: what must be equal for that.
        losses: (why, expression) of what could not be undone.

    Raises:
        PlanError: a key comes back by so many operations that nobody could carry them out.
    """

    def __init__(self, outputs: Sequence[tuple[str, Expr]], source: Mapping[str, TensorInfo]) -> None:
        self.outputs = outputs
        self.source = source
        self.recovered: dict[str, Expr] = {}
        self.equal: list[Equal] = []
        self.losses: list[tuple[str, Expr]] = []
        self._known: dict[Expr, _Known] = {}
        self._heap: list[tuple[int, int, Expr]] = []
        self._count = 0
        self._run()

    def _run(self) -> None:
        for key, expr in self.outputs:
            if isinstance(expr, Read):  # most plans are renames
                self._found(expr.key, Read(key))
            else:
                self._at(expr).whole.append(Read(key))
        while self._heap:
            expr = heapq.heappop(self._heap)[2]
            known = self._known.pop(expr)
            have = known.whole[0] if known.whole else self._assembled(expr, known)
            if have is None:
                continue
            name = expr.reads()[0]
            self.equal += [Equal(name, have, other) for other in known.whole[1:]]
            if known.whole:
                self.equal += [Equal(name, _part_of(part, have), other) for part, other in known.parts]
            self._down(expr, have)

    def _found(self, key: str, have: Expr) -> None:
        if too_deep(have):
            raise PlanError(
                f"{quoted(key)} would come back by more than {MAX_DEPTH} operations one after another; "
                "undo in several steps",
                key=key,
            )
        first = self.recovered.setdefault(key, have)
        if first != have:
            self.equal.append(Equal(key, first, have))

    def _at(self, expr: Expr) -> _Known:
        known = self._known.get(expr)
        if known is None:
            known = self._known[expr] = _Known()
            self._count += 1
            heapq.heappush(self._heap, (-_height(expr), self._count, expr))
        return known

    def _info(self, expr: Expr) -> TensorInfo:
        return infer(expr, self.source)

    def _down(self, expr: Expr, have: Expr) -> None:
        """What a known value says about the expression's inputs."""
        if isinstance(expr, Read):
            self._found(expr.key, have)
            return
        child = expr.of[0]
        if isinstance(expr, Slice | Select):
            self._at(child).parts.append((expr, have))
        elif isinstance(expr, Concat):
            start = 0
            for part in expr.of:
                size = self._info(part).shape[expr.dim]
                self._at(part).whole.append(Slice(expr.dim, start, start + size, (have,)))
                start += size
        elif isinstance(expr, Stack):
            rank = len(self._info(child).shape) + 1
            for index, part in enumerate(expr.of):
                self._at(part).whole.append(Select(expr.dim % rank, index, (have,)))
        else:
            back = self._undone(expr, have)
            if back is not None:
                self._at(child).whole.append(back)

    def _undone(self, expr: Expr, have: Expr) -> Expr | None:
        """The input of an operation on one input, from its result."""
        child = expr.of[0]
        info = self._info(child)
        if isinstance(expr, Transpose):
            return Transpose(expr.dims, (have,))
        if isinstance(expr, Permute):
            order = [dim % len(info.shape) for dim in expr.dims]
            return Permute(tuple(order.index(dim) for dim in range(len(order))), (have,))
        if isinstance(expr, Reshape):
            return Reshape(info.shape, (have,))
        if isinstance(expr, Cast):
            if widens(info.dtype, expr.dtype):
                return Cast(info.dtype, (have,))
            self.losses.append((f"it cannot be cast back from {expr.dtype} to {info.dtype}", expr))
        elif isinstance(expr, Resize) and expr.method in _REVERSIBLE_RESIZES:
            for dim, (size, now) in enumerate(zip(info.shape, expr.shape, strict=True)):
                if size != now:
                    have = Slice(dim, 0, size, (have,))
            return have
        elif isinstance(expr, Resize):
            self.losses.append((f"it was resized by {expr.method}, which has no way back", expr))
        else:
            raise AssertionError(f"no inverse is written for {expr.op}")
        return None

    def _assembled(self, expr: Expr, known: _Known) -> Expr | None:
        """A value from its parts; None, and a loss, where they do not make it up."""
        shape = self._info(expr).shape
        have, why = _assemble(known.parts, shape)
        if have is None:
            self.losses.append((why, expr))
        return have


def _part_of(part: Slice | Select, whole: Expr) -> Expr:
    if isinstance(part, Slice):
        return Slice(part.dim, part.start, part.stop, (whole,), part.step)
    return Select(part.dim, part.index, (whole,))


def _assemble(parts: list[tuple[Slice | Select, Expr]], shape: Shape) -> tuple[Expr | None, str]:
    """Put parts together along one dimension.

    Returns:
        The whole, or None and what is missing.
    """
    dims = {part.dim % len(shape) for part, _ in parts}
    if len(dims) > 1:
        return None, "it was cut along several dimensions, and the parts do not make it up"
    (dim,) = dims
    size = shape[dim]
    if all(isinstance(part, Select) for part, _ in parts):
        at = {part.index: have for part, have in parts if isinstance(part, Select)}
        if len(at) < size:
            gone = list(islice((index for index in range(size) if index not in at), _SHOWN))
            more = "" if size - len(at) <= _SHOWN else f", ... ({size - len(at)} of them)"
            entries = ", ".join(map(str, gone)) + more
            return None, f"nothing has the entries {entries} of {size} along dimension {dim}"
        return Stack(dim, tuple(at[index] for index in range(size))), ""
    slices = [(part, have) for part, have in parts if isinstance(part, Slice)]
    steps = {part.step for part, _ in slices}
    if steps == {1}:
        pieces: list[Expr] = []
        end = 0
        for part, have in sorted(slices, key=lambda each: (each[0].start, -each[0].stop)):
            if part.start > end:
                break
            if part.start == end and part.stop > part.start:
                pieces.append(have)
                end = part.stop
        if end == size and pieces:
            return (pieces[0] if len(pieces) == 1 else Concat(dim, tuple(pieces))), ""
        return None, f"nothing has the entries from {end} of {size} along dimension {dim}"
    if len(steps) == 1:
        (step,) = steps
        found = {
            part.start: have for part, have in slices if -(-(part.stop - part.start) // step) * step == size
        }
        # Such a part starts below the step, so that many of them are all; nobody can count to every step.
        if size % step == 0 and len(found) == step:
            woven = Stack(dim + 1, tuple(found[start] for start in range(step)))
            return Reshape(shape, (woven,)), ""
    return None, f"there are only some of its {size} entries along dimension {dim}"


def _height(expr: Expr) -> int:
    return 1 + max((_height(e) for e in expr.of), default=0)
