"""Transposed matrices, and the square ones beside them that fit and are transposed all the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..findings import Finding, Fix
from ..load_report import Mismatch
from ..patterns import escape
from ..text import counted
from .evidence import Evidence


def transposed(evidence: Evidence) -> Iterator[Finding]:
    """The matrices whose two sizes are exchanged."""
    found = [
        m for m in evidence.mismatched if len(m.source_shape) == 2 and m.source_shape == m.target_shape[::-1]
    ]
    if not found:
        return
    square = _square_siblings(found, evidence)
    keys = tuple(m.key for m in found)
    yield Finding(
        "layout",
        f"{counted(len(found), 'weight')} {'is' if len(found) == 1 else 'are'} transposed "
        "(Conv1D stores [in, out], Linear [out, in])",
        f"{found[0].key}: checkpoint {list(found[0].source_shape)}, model {list(found[0].target_shape)}",
        keys,
        "likely",
        Fix(
            "transpose them"
            + (
                f", and the {len(square)} square weights of the same blocks, which fit as they are: all other "
                "weights there are transposed"
                if square
                else "; a square weight that fits as it is may need it too, so compare the outputs"
            ),
            ({"op": "transpose", "keys": [escape(key) for key in (*keys, *square)]},),
        ),
    )


def _square_siblings(found: Sequence[Mismatch], evidence: Evidence) -> list[str]:
    """Square weights of blocks in which every other matrix is transposed."""
    blocks = {_block(m.key) for m in found}
    shapes = {key: evidence.target[key].shape for key in evidence.fitting()}
    fitting = [key for key, shape in shapes.items() if len(shape) == 2 and _block(key) in blocks]
    against = {_block(key) for key in fitting if shapes[key][0] != shapes[key][1]}
    return [key for key in fitting if _block(key) not in against]


def _block(key: str) -> str:
    """The numbered block a key belongs to: what stands before the last number, and the number."""
    parts = key.split(".")
    last = max((i for i, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[: last + 1])
