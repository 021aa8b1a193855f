"""Something that happens at a chosen line of the code that loads."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Self

from torch import nn

from ckptkit.modules import filling

WATCHED = (str(Path(filling.__file__).parent), str(Path(nn.__file__).parent / "modules" / "module.py"))


class Stop:
    """Acts at one line of ckptkit's loading or of torch's: the nth that is reached.

    Args:
        line: its number.
        act: what happens there; None to count lines only.
        undoing: whether the lines that undo a load count.
        since: a function; lines count from its first call on.
    """

    def __init__(self, line: int, act: Callable[[], None] | None, undoing: bool, since: str = "") -> None:
        self.line, self.act, self.undoing, self.since, self.count = line, act, undoing, since, 0

    def __enter__(self) -> Self:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(WATCHED):
            return None
        if self.since and frame.f_code.co_name != self.since:
            return None
        self.since = ""
        if not self.undoing and (
            name.endswith(("keeping.py", "interrupts.py")) or frame.f_code.co_name == "_undo"
        ):
            return None
        return self._look

    def _look(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.count += 1
            if self.count == self.line and self.act is not None:
                act, self.act = self.act, None
                act()
        return self._look


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)
