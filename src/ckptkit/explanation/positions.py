"""Position tables for another input size or length."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isqrt

from ..errors import PlanError
from ..findings import Finding, Fix
from ..patterns import escape
from ..resize import resolve
from ..vetoes import is_buffer
from .differing import example, keys_of, only_axis, source_of, target_of, without
from .parsed import Parsed, ShapeMismatch

POSITION = re.compile(
    r"(?i)(?:^|[._])(?:abs_?|rel_?)?pos(?:\d|ition|_|emb|itional|$|\.)|position|pos_?emb|(?:^|\.)wpe\.|relative_\w{0,40}bias|rel_[hw]$"
)
_TEXT_POSITION = re.compile(
    r"(?i)(?:^|[._])(?:wpe|embed_positions|position_embeddings?|position_embed|pos_embeddings?|positional_embeddings?)\.weight$"
)
_IMAGE = re.compile(r"(?i)patch|visual|vision|image|vit|pixel")
_SINGLE_AXIS = re.compile(r"(?i)rel_pos(?:_[hwt])?$|rel_[hw]$")


def positions(
    parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]
) -> Finding | None:
    found = [
        m for m in whole
        if POSITION.search(m.key) and len(source_of(m)) == len(target_of(m)) and source_of(m)[-1:] == target_of(m)[-1:]
        and not is_buffer(m.key) and len(source_of(m)) >= 2
    ]  # fmt: skip
    others = [m for m in without(every, found) if not is_buffer(m.key)]
    if not found or len(others) > len(found):
        return None
    if all(
        len(source_of(m)) == 2 and _TEXT_POSITION.search(m.key) and not _IMAGE.search(m.key) for m in found
    ):
        return _text_positions(found)
    if all(_SINGLE_AXIS.search(m.key) for m in found):
        return Finding(
            "pos_embed",
            "the relative position tables are for another input size",
            example(found),
            keys_of(found),
            "likely",
            Fix(
                "build the model for the checkpoint's input size; or interpolate each table along its one axis yourself"
            ),
        )
    found = [m for m in found if not _SINGLE_AXIS.search(m.key)]
    table = all("bias" in m.key for m in found)
    method = "rel_pos_table" if table else "interpolate"
    try:
        for m in found:
            resolve(method, source_of(m), target_of(m), {})
        fix = Fix(
            _grids(found[0]),
            load={"adapt": [{"keys": [escape(m.key) for m in found], "method": method}]},
        )
    except PlanError as error:
        fix = Fix(
            f"interpolate with an explicit grid, or build the model for the checkpoint's input size: {error.message}"
        )
    m = found[0]
    axis = only_axis(m)
    title = "the position table is for another input size or length"
    if axis is not None:
        a, b = source_of(m)[axis], target_of(m)[axis]
        title = f"the position embedding has {a} positions in the checkpoint and {b} in the model"
    return Finding("pos_embed", title, example(found), keys_of(found), "likely", fix)


def _grids(m: ShapeMismatch) -> str:
    axis = only_axis(m)
    a, b = (source_of(m)[axis], target_of(m)[axis]) if axis is not None else (0, 0)
    return f"the grid{_grid(a)} is interpolated to the model's{_grid(b)}"


def _grid(count: int) -> str:
    """The square grid behind a number of positions, when there is exactly one."""
    sides = {isqrt(count - prefix): prefix for prefix in (0, 1, 2, 5) if _square(count - prefix)}
    if len(sides) != 1:
        return ""
    ((side, prefix),) = sides.items()
    return f" ({side}x{side}{f' and {prefix} prefix tokens' if prefix else ''})"


def _square(n: int) -> bool:
    return n > 0 and isqrt(n) ** 2 == n


def _text_positions(found: Sequence[ShapeMismatch]) -> Finding:
    """Tables with one row for each token of a text, of another length."""
    a, b = source_of(found[0])[0], target_of(found[0])[0]
    shorter = b < a
    keys = [escape(m.key) for m in found]
    return Finding(
        "pos_embed",
        f"the position table has {a} rows in the checkpoint and {b} in the model",
        example(found),
        keys_of(found),
        "likely",
        Fix(
            f"the first {b} positions can be kept (crop); or build the model for {a} positions"
            if shorter
            else f"build the model for {a} positions; the {b - a} further ones were never trained",
            load={"adapt": [{"keys": keys, "method": "crop"}]} if shorter else {},
        ),
    )
