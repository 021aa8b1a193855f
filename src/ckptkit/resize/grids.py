"""Which grid a number of tokens stands for: stated, or proved; never guessed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt, prod

from ..errors import PlanError

Grid = tuple[int, ...]

# Class, distillation and register tokens: models keep at most a handful of them in the table.
MOST_PREFIX_TOKENS = 8
# BEiT's tables end in three rows for token to class, class to token, and class to class.
EXTRA_ROWS = (0, 3)


@dataclass(frozen=True, slots=True)
class Grids:
    """The grids before and after, and how many entries of the table are no grid positions."""

    grid: Grid
    target: Grid
    others: int

    def __str__(self) -> str:
        return f"{self.others} (grids {shown(self.grid)} -> {shown(self.target)})"


def shown(grid: Grid) -> str:
    """A grid for people: ``14x14``."""
    return "x".join(map(str, grid))


def token_grids(
    source: int, target: int, grid: Grid | None, target_grid: Grid | None, prefix: int | None
) -> Grids:
    """The grids of two lists of tokens.

    A grid that is not stated is proved: a square, after the prefix tokens are taken off. The number of
    prefix tokens follows from a stated grid; without one, exactly one number from 0 to 8 must make
    both counts squares.

    Args:
        source, target: number of tokens before and after, prefix tokens included.
        grid, target_grid: what is known of the grids.
        prefix: what is known of the prefix tokens, equally many before and after.

    Raises:
        PlanError: a grid cannot be proved, or what is stated contradicts itself.
    """
    if grid is not None and target_grid is not None and len(grid) != len(target_grid):
        raise PlanError(f"grid {shown(grid)} and target_grid {shown(target_grid)} differ in their dimensions")
    _agree("grid", source, grid, prefix, "prefix tokens")
    _agree("target_grid", target, target_grid, prefix, "prefix tokens")
    stated = {n - prod(g) for n, g in ((source, grid), (target, target_grid)) if g is not None}
    if len(stated) > 1:
        raise PlanError(
            f"the grids leave {source - prod(grid or ())} of {source} tokens and "
            f"{target - prod(target_grid or ())} of {target} as prefix tokens; they must be equally many"
        )
    if prefix is not None:
        stated = {prefix}
    found = [
        Grids(before, after, count)
        for count in (sorted(stated) or range(MOST_PREFIX_TOKENS + 1))
        if (before := grid or _like(target_grid, source - count))
        and (after := target_grid or _like(grid, target - count))
    ]
    if not found and stated:
        (count,) = stated
        wrong = [n for n, g in ((source, grid), (target, target_grid)) if not (g or _square(n - count))]
        raise PlanError(
            " and ".join(
                f"{n} tokens without {count} prefix tokens are {n - count}, no square" for n in wrong
            )
            + "; give grid and target_grid as [rows, columns]"
        )
    return _only(
        found,
        f"no number of prefix tokens from 0 to {MOST_PREFIX_TOKENS} makes squares of {source} and {target} "
        "tokens; give grid and target_grid as [rows, columns], and prefix_tokens",
        "prefix_tokens",
    )


def table_windows(
    source: int, target: int, window: Grid | None, target_window: Grid | None, extra: int | None
) -> Grids:
    """The windows of two flat tables of (2h-1) * (2w-1) relative positions.

    Args:
        source, target: number of rows before and after, extra rows included.
        window, target_window: what is known of the windows [h, w].
        extra: what is known of the rows at the end that are no relative positions.

    Raises:
        PlanError: a window cannot be proved, or what is stated contradicts itself.
    """
    table, target_table = (None if w is None else span(w) for w in (window, target_window))
    _agree("the table of grid", source, table, extra, "extra rows")
    _agree("the table of target_grid", target, target_table, extra, "extra rows")
    stated = {n - prod(t) for n, t in ((source, table), (target, target_table)) if t is not None}
    if len(stated) > 1:
        raise PlanError(
            f"the windows leave {source - prod(table or ())} of {source} rows and "
            f"{target - prod(target_table or ())} of {target} as extra rows; they must be equally many"
        )
    counts: Iterable[int] = [extra] if extra is not None else sorted(stated) or EXTRA_ROWS
    found = [
        Grids(before, after, count)
        for count in counts
        if (before := window or _window(source - count))
        and (after := target_window or _window(target - count))
    ]
    return _only(
        found,
        f"{source} and {target} rows are no tables of square windows ((2w-1) * (2w-1) rows, with "
        f"{' or '.join(map(str, counts))} extra); give grid and target_grid as windows [rows, columns], "
        "and extra_rows",
        "extra_rows",
    )


def span(window: Grid) -> Grid:
    """The sides of the table of relative positions of a window: 2n - 1 each."""
    return tuple(2 * side - 1 for side in window)


def _only(found: list[Grids], none: str, name: str) -> Grids:
    if not found:
        raise PlanError(none)
    if len(found) > 1:
        choices = " or ".join(map(str, found))
        raise PlanError(f"{name} could be {choices}; give {name}")
    return found[0]


def _agree(name: str, count: int, grid: Grid | None, others: int | None, what: str) -> None:
    if grid is None:
        return
    left = count - prod(grid)
    if left < 0 or (others is not None and left != others):
        extra = "" if others is None else f" and {others} {what}"
        raise PlanError(f"{name} {shown(grid)} has {prod(grid)} positions, which{extra} do not make {count}")


def _like(other: Grid | None, count: int) -> Grid | None:
    """The grid of a count, of as many dimensions as the other one; None when it cannot be proved."""
    dims = 2 if other is None else len(other)
    if dims == 1:
        return (count,) if count > 0 else None
    return _square(count) if dims == 2 else None


def _square(count: int) -> Grid | None:
    side = isqrt(count) if count > 0 else 0
    return (side, side) if side and side * side == count else None


def _window(count: int) -> Grid | None:
    table = _square(count)
    return None if table is None or table[0] % 2 == 0 else ((table[0] + 1) // 2,) * 2
