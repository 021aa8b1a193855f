"""A time limit that interrupts regular expressions: `re` looks for signals while it backtracks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from ..errors import ConfigError

SECONDS = 1.5


def _too_slow(_: int, __: FrameType | None) -> NoReturn:
    raise ConfigError(
        f"a regular expression was still at work after {SECONDS} s of processor time; "
        "it backtracks: make its parts unable to match the same text"
    )


@contextmanager
def regex_deadline(keys: int) -> Iterator[None]:
    """Interrupt what is inside after a time that no honest pattern needs.

    Args:
        keys: how many keys are matched; large checkpoints get proportionally longer.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGVTALRM, _too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS + keys / 20_000)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
