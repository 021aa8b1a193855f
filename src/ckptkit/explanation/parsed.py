"""What a pasted error says, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShapeMismatch:
    """A key whose shapes differ; None for a shape that the text breaks off before."""

    key: str
    source_shape: Shape | None
    target_shape: Shape | None


@dataclass
class Parsed:
    """The facts of a text.

    Args:
        text: cleaned: without colours, quotation marks of e-mails, log and rank prefixes.
        class_name: the model's class, when the text names it.
        missing, unexpected: whole keys, in the order of the text.
        mismatched: keys with their shapes.
        loose: keys of bare ``KeyError``s.
        cut: what is left of a key that breaks off.
        headed: whether a header of a list of unexpected keys stands in the text, whatever follows it.
        truncated: whether a list or a key breaks off.
        ends: the modules at the model's end, where the model itself is known.
    """

    text: str
    class_name: str | None = None
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[ShapeMismatch] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    headed: bool = False
    truncated: bool = False
    ends: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether it names no key at all."""
        return not (self.missing or self.unexpected or self.mismatched or self.loose or self.cut)

    def to_json(self) -> dict[str, Any]:
        """The ``parsed`` part of the ``ckptkit.explanation`` document."""
        return {
            "class_name": self.class_name,
            "missing": self.missing,
            "unexpected": self.unexpected,
            "mismatched": [
                {
                    "key": m.key,
                    "source_shape": None if m.source_shape is None else list(m.source_shape),
                    "target_shape": None if m.target_shape is None else list(m.target_shape),
                }
                for m in self.mismatched
            ],
            "truncated": self.truncated,
        }
