"""Names that no rule may give, and what is said about them."""

from __future__ import annotations

from ..errors import PlanError
from ..rewriting import MAX_KEY, too_long
from ..text import quoted


def check_key(new: str, old: str) -> None:
    """Refuse names that no checkpoint can hold.

    Raises:
        PlanError: the name is empty, ``__metadata__``, or longer than 100,000 characters.
    """
    if not new:
        raise PlanError(
            f"{quoted(old)} would become the empty key; change the pattern or the replacement", key=old
        )
    if new == "__metadata__":
        raise PlanError(
            f"{quoted(old)} would become '__metadata__', which safetensors keeps for itself", key=old
        )
    if len(new) > MAX_KEY:
        raise too_long(old, len(new))


def collision(first: str, second: str, new: str) -> PlanError:
    """The error for two keys that end on one name."""
    if new == first:
        return PlanError(
            f"{quoted(second)} would become {quoted(new)}, which exists already; drop or rename one of them first",
            key=new,
        )
    if new == second:
        return PlanError(
            f"{quoted(first)} would become {quoted(new)}, which exists already; drop or rename one of them first",
            key=new,
        )
    return PlanError(
        f"{quoted(first)} and {quoted(second)} would both become {quoted(new)}; make the rule tell them apart, or "
        "drop one first",
        key=new,
    )
