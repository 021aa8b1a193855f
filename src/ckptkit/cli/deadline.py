"""A time limit that interrupts regular expressions: `re` looks for signals while it backtracks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import ConfigError

SECONDS = 1.5
_AGAIN = 0.1  # seconds until it is looked again
_MATCHING = ("ckptkit.patterns", "ckptkit.regexes", "ckptkit.rewriting")
_REPORTING = ("ckptkit.diagnosis", "ckptkit.inference")  # their expressions are ours, and so is their time


def _at_work(frame: FrameType | None) -> bool:
    """Whether an expression of the user is being matched: nothing of a report, nor of a model's own code."""
    innermost = True
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if (innermost and name not in _MATCHING) or name.startswith(_REPORTING):
            return False
        frame, innermost = frame.f_back, False
    return True


@contextmanager
def regex_deadline(keys: int) -> Iterator[None]:
    """Interrupt regular expressions of the user inside after a time that no honest pattern needs.

    Args:
        keys: how many keys are matched; large checkpoints get proportionally longer.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    over = False

    def look(_: int, frame: FrameType | None) -> None:
        if over:
            return
        if not _at_work(frame):
            signal.setitimer(signal.ITIMER_VIRTUAL, _AGAIN)
            return
        raise ConfigError(
            f"a regular expression was still at work after {SECONDS} s of processor time; "
            "it backtracks: make its parts unable to match the same text"
        )

    previous = signal.signal(signal.SIGVTALRM, look)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS + keys / 20_000)
    try:
        yield
    finally:
        over = True
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
