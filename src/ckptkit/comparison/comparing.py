"""`diff`: what differs between two checkpoints, across formats and sharding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from ..checkpoint import Checkpoint
from ..checkpoint import open as open_checkpoint
from ..content import object_hash, row_major_bytes
from ..diff_report import DiffReport, DtypeChange, Renamed, ShapeChange, ValueChange
from ..errors import UsageError
from ..formats.base import Progress, Source, no_progress
from ..formats.expanded import check_expanded
from ..signatures import Signature
from ..text import folded
from .figures import compare
from .renames import Renames, find_renames
from .rewrites import as_rules, rewrites


def diff(a: Any, b: Any, values: bool = False, *, progress: Progress = no_progress) -> DiffReport:
    """Compare two checkpoints: keys, shapes and dtypes, and the values when asked.

    The order of keys, ties, metadata, and what surrounds a root are not compared. A key of A's and one of
    B's that hold equal content under different names are a rename, also without `values`: tensors that
    only one side has are read for that, as far as the other side has one of their dtype and shape.

    Args:
        a, b: paths, mappings of tensors, `nn.Module`s, Checkpoints; without `values` Signatures too.
        values: compare the values of keys that both have in one shape, too; dtypes that differ are widened.
        progress: called with the number of bytes of A and B whose values were just compared.

    Returns:
        The report; ``report.same`` is the answer.

    Raises:
        FormatError: one cannot be read, or with `values` holds a tensor without data (meta, sparse).
        RootError: the root of one is not there, or not unique.
        UsageError: with `values` one has no values to compare.
    """
    with ExitStack() as stack:
        sides = (stack.enter_context(_opened(a)), stack.enter_context(_opened(b)))
        if values:
            for side in sides:
                side.check_values()
        return _report(*sides, values, progress)


@dataclass(frozen=True)
class _Side:
    """One of the two; `source` is None where there is only a signature."""

    name: str
    signature: Signature
    source: Source | None

    def check_values(self) -> None:
        if self.source is None or self.source.format == "signature":
            raise UsageError(
                f"{self.name} is a signature, which has keys, shapes and dtypes but no values; compare "
                "without --values (values=False), or give the checkpoint itself",
                file=None if self.source is None else self.source.path,
            )


@contextmanager
def _opened(given: Any) -> Iterator[_Side]:
    if isinstance(given, Signature):
        yield _Side(type(given).__name__, given, None)
        return
    checkpoint = open_checkpoint(given)
    try:
        where = checkpoint.source.path or f"{type(given).__name__} in memory"
        yield _Side(where, checkpoint.signature, checkpoint.source)
    finally:
        if not isinstance(given, Checkpoint):  # the caller's own stays open
            checkpoint.close()


def _report(a: _Side, b: _Side, values: bool, progress: Progress) -> DiffReport:
    one, two = a.signature, b.signature
    common = [key for key in one if key in two]
    removed = [key for key in one if key not in two]
    added = [key for key in two if key not in one]
    renames = Renames(())
    for side, own in ((a, removed), (b, added)):
        if side.source is not None:
            check_expanded(side.source, [*(own if removed and added else ()), *(common if values else ())])
    if removed and added and a.source is not None and b.source is not None:
        renames = find_renames(a.source, b.source, removed, added)
    old, new = ({pair[side] for pair in renames.pairs} for side in (0, 1))
    rules = as_rules(rewrites(renames.pairs, removed, added, common), added) if renames.pairs else ()
    changes: list[ValueChange] = []
    if values and a.source is not None and b.source is not None:
        changes = list(_values(a.source, b.source, common, progress))
    return DiffReport(
        compared="values" if values else "structure",
        added=tuple(key for key in added if key not in new),
        removed=tuple(key for key in removed if key not in old),
        renamed=tuple(Renamed(*pair) for pair in renames.pairs),
        shape=tuple(
            ShapeChange(key, one[key].shape, two[key].shape)
            for key in common
            if one[key].kind == two[key].kind and one[key].shape != two[key].shape
        ),
        dtype=tuple(
            DtypeChange(key, one[key].dtype, two[key].dtype)
            for key in common
            if one[key].dtype != two[key].dtype
        ),
        values=tuple(changes),
        rules=rules,
        notes=tuple(_notes(a, b, common, renames, changes)),
        names=(a.name, b.name),
    )


def _values(a: Source, b: Source, common: list[str], progress: Progress) -> Iterator[ValueChange]:
    for key in common:
        one, two = a.signature[key], b.signature[key]
        if one.kind != two.kind or one.shape != two.shape:
            continue
        if one.kind == "object":
            yield ValueChange(key, _equal_objects(a.value(key), b.value(key)))
            continue
        yield compare(key, (one.dtype, two.dtype), row_major_bytes(a, key), row_major_bytes(b, key))
        progress(one.nbytes + two.nbytes)


def _equal_objects(one: Any, two: Any) -> bool:
    """Whether entries that are no tensors are equal: plain data by content, all else only if it says so."""
    hashes = object_hash(one), object_hash(two)
    if None not in hashes:
        return hashes[0] == hashes[1]
    try:
        return one is two or (hashes == (None, None) and bool(one == two))
    except Exception:  # a comparison of the caller's own classes can fail in any way
        return False


def _notes(
    a: _Side, b: _Side, common: list[str], renames: Renames, changes: list[ValueChange]
) -> Iterator[str]:
    for side in (a, b):
        if side.source is not None:
            yield from (f"{side.name}: {note}" for note in side.source.notes)
    if renames.several:
        yield (
            f"{renames.several} of the renamed tensors share their content with others of their side; "
            "their names decided which became which"
        )
    compared = {change.key for change in changes}
    widened = [key for key in common if key in compared and a.signature[key].dtype != b.signature[key].dtype]
    if widened:
        yield f"dtypes differ, so their values were compared after widening: {folded(widened)}"
    ties = [
        {frozenset(key for key in group if key in both) for group in side.signature.tied}
        for side in (a, b)
        for both in [set(common)]
    ]
    apart = [group for group in ties[0] ^ ties[1] if len(group) > 1]
    if apart:
        shown = sorted(" = ".join(sorted(group)) for group in apart)
        yield f"tied in one of the two only, which is no difference: {', '.join(shown)}"
