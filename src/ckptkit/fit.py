"""Whether a planned result has the keys and shapes of a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .signatures import Signature
from .text import fold

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Fit:
    """The differences between a result and a target.

    Args:
        what: the target's name.
        missing: keys the target has and the result has not; tied ones whose partner is there do not count.
        unexpected: keys the result has and the target has not.
        mismatched: (key, the result's shape, the target's).
    """

    what: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, Shape, Shape], ...]

    @property
    def ok(self) -> bool:
        """Whether there is no difference."""
        return not (self.missing or self.unexpected or self.mismatched)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "ok": self.ok,
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "mismatched": [
                {"key": key, "source_shape": list(a), "target_shape": list(b)}
                for key, a, b in self.mismatched
            ],
        }

    def __str__(self) -> str:
        if self.ok:
            return f"the result fits {self.what}"
        lines = [f"the result does not fit {self.what}:"]
        for title, keys in (("missing", self.missing), ("unexpected", self.unexpected)):
            lines += [f"  {title}: {f.label}{_times(f.keys)}" for f in fold(keys)]
        shapes = {key: (a, b) for key, a, b in self.mismatched}
        for f in fold(shapes, shapes.values()):
            result, target = shapes[f.keys[0]]
            lines.append(
                f"  shapes differ: {f.label}  {list(result)} here, {list(target)} there{_times(f.keys)}"
            )
        return "\n".join(lines)


def _times(keys: tuple[str, ...]) -> str:
    return f"  x{len(keys)}" if len(keys) > 1 else ""


def fit(result: Signature, target: Signature, what: str) -> Fit:
    """Compare keys and shapes; dtypes are the loader's business.

    Args:
        result: the planned signature.
        target: what it should have.
        what: the target's name for messages.
    """
    partners = {key: group for group in target.tied for key in group}
    missing = [
        key for key in target if key not in result and not any(p in result for p in partners.get(key, ()))
    ]
    return Fit(
        what,
        tuple(missing),
        tuple(key for key in result if key not in target),
        tuple(
            (key, info.shape, target[key].shape)
            for key, info in result.tensors.items()
            if key in target and info.shape != target[key].shape
        ),
    )
