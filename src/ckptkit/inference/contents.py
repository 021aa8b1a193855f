"""Deciding by data what names and shapes leave open, when both sides are checkpoints with data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..expr import Expr, Read, evaluate, from_json
from ..threads import one_thread
from .candidate import Candidate
from .virtual import expression

if TYPE_CHECKING:
    import torch

    from ..checkpoint import Checkpoint

ALIKE = 0.9  # the cosine from which two tensors are taken for versions of one
FEW, SAMPLE = 2, 1 << 16  # so few different numbers, among so many, say nothing


class Contents:
    """The data of both sides, read where a question comes up.

    Args:
        source, target: checkpoints that hold data.
    """

    def __init__(self, source: Checkpoint, target: Checkpoint) -> None:
        self._source, self._target = source, target
        self._known: dict[tuple[int, bool], float] = {}
        self._held: list[Candidate] = []  # so that no id is used twice

    def agreement(self, c: Candidate, *, turned: bool = False) -> float:
        """The cosine of what a candidate would make and what the target holds, for its first instance.

        Args:
            turned: swap the last two dimensions first, for a square matrix.

        Returns:
            In [-1, 1]; 0 where it cannot be compared.
        """
        key = (id(c), turned)
        if key not in self._known:
            self._held.append(c)
            self._known[key] = self._agreement(c, turned)
        return self._known[key]

    def _agreement(self, c: Candidate, turned: bool) -> float:
        theirs, mine = next(iter(c.instance_pairs.items()))
        here = c.source.instances[mine].get(c.source.leaf)
        want = c.target.instances[theirs].get(c.target.leaf)
        if here is None or want is None:
            return 0.0
        made = _data(from_json(expression(here[0])), self._source)
        wanted = _data(from_json(expression(want[0])), self._target)
        if made is None or wanted is None:
            return 0.0
        if turned or (made.shape != wanted.shape and made.ndim >= 2):
            made = made.transpose(-1, -2)
        return cosine(made, wanted)

    def verdict(self, expr: Expr, key: str) -> float | None:
        """The cosine of an output and the target's own tensor.

        Returns:
            2 when all elements are equal; None where the data say nothing: objects, tensors without data, and equal
            ones of hardly any different numbers, as many initialisations are.
        """
        import torch

        made, wanted = _data(expr, self._source), _data(Read(key), self._target)
        if made is None or wanted is None:
            return None
        with one_thread(made):
            equal = made.shape == wanted.shape and torch.equal(made, wanted.to(made.dtype))
        if equal:
            return 2.0 if _telling(made) else None
        return cosine(made, wanted)


def _data(expr: Expr, checkpoint: Checkpoint) -> torch.Tensor | None:
    """What an expression makes; None where a checkpoint holds no numbers for it."""
    if any(checkpoint.signature[key].kind != "tensor" for key in expr.reads()):
        return None
    made = evaluate(expr, checkpoint.__getitem__)
    return None if made.is_meta else made


def _telling(tensor: torch.Tensor) -> bool:
    """Whether equal elements cannot be chance: more different numbers than zeros, ones and such have."""
    return len(set(tensor.reshape(-1)[:SAMPLE].tolist())) > FEW


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """The cosine of two tensors of as many elements; 0 where there is none."""
    import torch

    if one.numel() != other.numel() or not one.numel() or one.is_complex() or other.is_complex():
        return 0.0
    with one_thread(one):
        a, b = one.reshape(-1).to(torch.float64), other.reshape(-1).to(torch.float64)
        if torch.equal(a, b):
            return 1.0
        size = float(a.norm() * b.norm())
        return float(a @ b) / size if size > 0 else 0.0
