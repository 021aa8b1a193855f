"""In which order the parts of a fused tensor lie, as far as names tell."""

from __future__ import annotations

from .groups import Group
from .lexicon import GATE_FIRST, GATE_LAST, GLU_WORDS, UNSPELLED
from .virtual import Fused, Stacked
from .words import subwords


def ordered_as(made: Group, whole: Group) -> bool:
    """Whether the parts of a fused group lie in the order that the whole's name spells, or in the usual one."""
    fused = made.inner if isinstance(made, Stacked) else made
    if not isinstance(fused, Fused) or not fused.order:
        return True
    return fused.order == (spelled(fused.order, whole) or _usual_gate(whole))


def _usual_gate(whole: Group) -> tuple[str, ...]:
    words = {word for token, _ in whole.tokens for word in subwords(token)}
    return GATE_LAST if words & GLU_WORDS else GATE_FIRST


def spelled(parts: tuple[str, ...], whole: Group) -> tuple[str, ...] | None:
    """The parts in the order in which a name holds them; None when it lacks one."""
    for _, found in reversed(whole.tokens):
        if all(p in found for p in parts):
            return tuple(sorted(parts, key=found.index))
    return None if frozenset(parts) == UNSPELLED else parts
