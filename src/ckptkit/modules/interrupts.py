"""Ctrl-C and other signals while a model is half filled: answered before, after, or where all can be undone.

CPython runs handlers of signals between any two bytecodes of the main thread, and what they raise comes out
there. Blocking signals with `pthread_sigmask` does not keep them away: another thread (torch has some) takes
the signal, and the handler runs in the main thread all the same. So for the time of a load the handlers that
are Python functions are exchanged for one that either calls them or remembers to.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

_Handler = Callable[[int, FrameType | None], Any]


class Held:
    """Signals wait while this is entered, except inside `opened`; what waited is answered at the end.

    The user's handlers are called, each once, and stand again afterwards. In other threads than the main one
    there is nothing to do: no handler runs there.
    """

    def __init__(self) -> None:
        self._before: dict[int, _Handler] = {}
        self._waiting: dict[int, None] = {}
        self._open = True
        self._handler: _Handler = self._note  # one object, to be known again

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        try:
            for number in signal.valid_signals():
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._handler)
            self._open = False
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._give_back(list(self._before))
        finally:
            self._answer_each()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """A stretch in which handlers run at once; the first that raises ends it, and others wait again."""
        self._open = True
        try:
            self.answer()
            yield
        finally:
            self._open = False

    def answer(self) -> None:
        """Call the handlers of the signals that wait; the first that raises leaves the others waiting."""
        while self._waiting:
            number = next(iter(self._waiting))
            del self._waiting[number]
            self._before[number](number, sys._getframe())  # where it is heard; some handlers look at it

    def _answer_each(self) -> None:
        try:
            self.answer()
        finally:
            if self._waiting:
                self._answer_each()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._open:
            self._waiting[number] = None
            return
        self._open = False
        self._before[number](number, frame)
        self._open = True
        self.answer()

    def _give_back(self, numbers: list[int]) -> None:
        """Set the handlers again, all of them, whatever one that is set again raises meanwhile."""
        while numbers:
            number = numbers.pop()
            try:
                if signal.getsignal(number) is self._handler:
                    signal.signal(number, self._before[number])
            finally:
                if numbers:
                    self._give_back(numbers)
        # Should one have been left over after all, it passes on what it gets.
        self._open = True
