"""A polite end: signals become an exception, so that what is half done is cleaned up on the way out."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(KeyboardInterrupt):
    """The process was asked to end. Context managers clean up on its way out.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _in_foreign_hands(frame: FrameType | None) -> bool:
    """Whether a module is being imported, pydantic builds a class, or its compiled code checks values.

    Validators of ours that it calls back let exceptions through; what it does itself, as to show a value in an error,
    prints them and goes on.
    """
    if frame is not None and frame.f_globals.get("__name__") == "pydantic.main":
        return True  # the innermost frame: none of ours is at work
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        if str(frame.f_globals.get("__name__", "")).startswith("pydantic._internal"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def stop_politely() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Stopped`; the handlers before come back afterwards.

    A signal that the caller ignores (``nohup``, a background job) stays ignored.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if not _in_main_thread():
        yield
        return
    last = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if _in_foreign_hands(frame):
            # Compiled code turns an exception in what it calls back into an error of its own; ask again a little later.
            later = threading.Timer(0.02, os.kill, (os.getpid(), number))
            later.daemon = True
            later.start()
            return
        now = time.monotonic()
        # Shells and `timeout` signal the process and its group; the second must not stop the cleaning up.
        if not last or now - last > 1.0:
            last = now
            raise Stopped(number)

    before: dict[int, Any] = {}
    for number in numbers:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
