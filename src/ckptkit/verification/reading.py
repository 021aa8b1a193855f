"""Every byte of a file is read, for formats without checksums: what the disk does not give back is found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..files.positions import pread
from ..formats.base import CHUNK, Progress

PAGE = 4096  # the smallest run that is tried by itself


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of bytes that could not be read.

    Args:
        start, stop: where it lies in the file.
        reason: the system's words.
    """

    start: int
    stop: int
    reason: str


def unreadable(fd: int, size: int, progress: Progress) -> list[Gap]:
    """Read a file to its end.

    Args:
        fd: open for reading.
        size: its length when it was opened.
        progress: called with the number of bytes just passed.

    Returns:
        What could not be read, neighbours joined.
    """
    gaps: list[Gap] = []
    for start in range(0, size, CHUNK):
        stop = min(start + CHUNK, size)
        for gap in _within(fd, start, stop):
            if gaps and (gaps[-1].stop, gaps[-1].reason) == (gap.start, gap.reason):
                gaps[-1] = replace(gaps[-1], stop=gap.stop)
            else:
                gaps.append(gap)
        progress(stop - start)
    return gaps


def _within(fd: int, start: int, stop: int) -> Iterator[Gap]:
    at, step = start, stop - start
    while at < stop:
        try:
            data = pread(fd, min(step, stop - at), at)
        except OSError as error:
            if step > PAGE:  # look closer: the rest of the chunk may be good
                step = PAGE
                continue
            end = min(at + step, stop)
            yield Gap(at, end, error.strerror or os.strerror(error.errno or 0))
            at = end
            continue
        if not data:
            yield Gap(at, stop, "the file became shorter while it was read")
            return
        at += len(data)
