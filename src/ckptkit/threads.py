"""How much of torch's work is shared out to its threads: nothing that is too short to be worth a wait.

torch's threads meet at a barrier after every operation, and whoever comes last holds up all others. Where another
process has one of the processors, that is a time slice of some milliseconds for an operation of some microseconds,
and a command takes ten times as long as on one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BLOCK = (
    1 << 14
)  # elements: torch shares out more than 2**15 (ATen's GRAIN_SIZE), and complex numbers count twice
LONG = 1 << 24  # elements: an operation on so many outlasts what a processor may be away for


class _Contexts:
    """Those that are open, in any thread, and what the first of them found."""

    lock = threading.Lock()
    here = threading.local()
    count = 0
    found = 1


@contextmanager
def one_thread(*tensors: torch.Tensor) -> Iterator[None]:
    """Let torch work in the calling thread alone, unless there is much to do; what the user had set returns after it.

    torch's setting is the process's for threads that begin later. Contexts that overlap in several threads are
    counted, so that the last one to end leaves what the first one found.

    Args:
        tensors: those that are worked on.
    """
    every = _Contexts
    if getattr(every.here, "open", False) or sum(tensor.numel() for tensor in tensors) >= LONG:
        yield
        return
    import torch

    with every.lock:
        before = torch.get_num_threads()
        if not every.count:
            every.found = before
        every.count += 1
        every.here.open = True
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with every.lock:
            every.count -= 1
            every.here.open = False
            # A thread that began meanwhile has learnt the setting of this context, not the user's.
            torch.set_num_threads(before if before > 1 else every.found)
