"""Keys whose shapes differ: how to look at one of them, and how to show it."""

from __future__ import annotations

from collections.abc import Sequence

from .parsed import Shape, ShapeMismatch


def without(found: Sequence[ShapeMismatch], others: Sequence[ShapeMismatch]) -> list[ShapeMismatch]:
    left = set(others)
    return [m for m in found if m not in left]


def source_of(m: ShapeMismatch) -> Shape:
    return m.source_shape or ()


def target_of(m: ShapeMismatch) -> Shape:
    return m.target_shape or ()


def only_axis(m: ShapeMismatch) -> int | None:
    """The only dimension that differs."""
    a, b = source_of(m), target_of(m)
    if len(a) != len(b):
        return None
    axes = [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
    return axes[0] if len(axes) == 1 else None


def keys_of(found: Sequence[ShapeMismatch]) -> tuple[str, ...]:
    return tuple(m.key for m in found)


def example(found: Sequence[ShapeMismatch]) -> str:
    m = next((m for m in found if m.target_shape is not None), found[0])
    a = "?" if m.source_shape is None else list(m.source_shape)
    b = "?" if m.target_shape is None else list(m.target_shape)
    return f"{m.key}: checkpoint {a}, model {b}"
