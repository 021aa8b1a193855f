"""Blocks that tile a tensor: the proof that they do, and the order in which their bytes make the whole."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from math import prod

Shape = tuple[int, ...]
Block = tuple[Shape, Shape]  # offsets, sizes


def untiled(shape: Shape, blocks: Sequence[Block], most: int) -> tuple[str | None, int]:
    """Why blocks do not cover every element exactly once; None when they do.

    Args:
        shape: of the whole.
        blocks: offsets and sizes of blocks with elements.
        most: cells to look at before it is given up.

    Returns:
        The reason, and how many cells were looked at.
    """
    for offsets, sizes in blocks:
        if any(offset + size > extent for offset, size, extent in zip(offsets, sizes, shape, strict=True)):
            reason = (
                f"a piece of shape {list(sizes)} at {list(offsets)} reaches outside the shape {list(shape)}"
            )
            return reason, 0
    held, numel = sum(prod(sizes) for _, sizes in blocks), prod(shape)
    if held != numel:
        return f"its pieces hold {held} of the {numel} elements of the shape {list(shape)}", 0
    # The borders of all blocks cut the tensor into cells; equal volume and no cell twice is an exact cover.
    borders = [sorted({block[0][dim] for block in blocks}) for dim in range(len(shape))]
    cut = [dim for dim, border in enumerate(borders) if len(border) > 1]
    # Cells are numbered like elements of an array with these strides.
    steps = [prod(len(borders[below]) for below in cut[number + 1 :]) for number in range(len(cut))]
    seen: set[int] = set()
    for offsets, sizes in blocks:
        spans = []
        for dim, step in zip(cut, steps, strict=True):
            first = bisect_left(borders[dim], offsets[dim])
            last = bisect_left(borders[dim], offsets[dim] + sizes[dim])
            spans.append(range(first * step, last * step, step))
        if len(seen) + prod(map(len, spans)) > most:
            return f"its {len(blocks)} pieces lie too irregularly to be proved", len(seen)
        for cell in map(sum, product(*spans)):
            if cell in seen:
                return f"two pieces hold the element at {list(offsets)}, or one near it", len(seen)
            seen.add(cell)
    return None, len(seen)


def runs(
    shape: Shape, width: int, blocks: Sequence[Block], start: int, stop: int
) -> Iterator[tuple[int, int, int]]:
    """The bytes ``start:stop`` of the row-major whole, as runs of bytes of the row-major blocks.

    Args:
        shape: of the whole; it has elements.
        width: bytes of an element.
        blocks: an exact cover.
        start, stop: in bytes.

    Returns:
        (number of the block, first byte in it, number of bytes), in order.
    """
    cut = max(
        (dim for dim in range(len(shape)) for _, sizes in blocks if sizes[dim] != shape[dim]), default=-1
    )
    if cut < 0:
        yield 0, start, stop - start
        return
    # Bytes below one step of each dimension, in the whole and in each block.
    below = [prod(shape[dim + 1 :]) * width for dim in range(len(shape))]
    inner = [[prod(sizes[dim + 1 :]) * width for dim in range(len(shape))] for _, sizes in blocks]

    def walk(
        dim: int, among: list[int], position: int, within: dict[int, int]
    ) -> Iterator[tuple[int, int, int]]:
        ordered = sorted(among, key=lambda number: blocks[number][0][dim])
        if dim == cut:
            for number in ordered:
                offsets, sizes = blocks[number]
                first = position + offsets[dim] * below[dim]
                length = sizes[dim] * below[dim]
                low, high = max(start, first), min(stop, first + length)
                if low < high:
                    yield number, within[number] + low - first, high - low
            return
        edges = sorted(
            {blocks[n][0][dim] for n in among} | {blocks[n][0][dim] + blocks[n][1][dim] for n in among}
        )
        for low, high in pairwise(edges):
            here = [n for n in ordered if blocks[n][0][dim] <= low < blocks[n][0][dim] + blocks[n][1][dim]]
            # Whole steps before `start` and behind `stop` are passed over without a look.
            first = max(low, (start - position) // below[dim])
            last = min(high, -(-(stop - position) // below[dim]))
            for index in range(first, last):
                inside = {n: within[n] + (index - blocks[n][0][dim]) * inner[n][dim] for n in here}
                yield from walk(dim + 1, here, position + index * below[dim], inside)

    yield from walk(0, list(range(len(blocks))), 0, dict.fromkeys(range(len(blocks)), 0))
