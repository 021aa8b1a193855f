"""A deadline which proves that something ends; no measurement."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Interrupts what is still at work then: `re` looks for signals.

    Args:
        seconds: far more than it takes.

    Raises:
        TimeoutError: it is still at work.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not answered in {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
