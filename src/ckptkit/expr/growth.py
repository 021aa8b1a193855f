"""Results that are larger than what they are made of: how much larger a plan may make them, and how they stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import CkptkitError, PlanError
from ..signatures import TensorInfo
from ..text import human_bytes, quoted
from ..threads import one_thread

if TYPE_CHECKING:
    import torch

FACTOR = 64  # times the bytes that it is made of
LIMIT = 1 << 30  # bytes; less is made whatever it is made of
STEP = 1 << 18  # elements that are made at a time


def check_growth(info: TensorInfo, reads: tuple[str, ...], source: Mapping[str, TensorInfo]) -> None:
    """Refuse a result that is out of all proportion to what it is made of.

    Args:
        info: shape and dtype of the result.
        reads: the source keys that it is made of.
        source: their shapes and dtypes.

    Raises:
        PlanError: it is; with both sizes.
    """
    read = sum(source[key].nbytes for key in reads)
    if info.nbytes > max(LIMIT, FACTOR * read):
        raise PlanError(
            f"the shape {list(info.shape)} of {info.dtype} takes {human_bytes(info.nbytes)}, and is made of "
            f"{human_bytes(read)}: more than {FACTOR} times as much; correct the shape, or write it in several "
            "steps, each made of the file before"
        )


@contextmanager
def room_for(key: str, info: TensorInfo) -> Iterator[None]:
    """Say which tensor it was that found no memory.

    Args:
        key: its name.
        info: its shape and dtype.

    Raises:
        PlanError: the system gave no memory; names the tensor, its shape and its bytes.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has no class for it on the CPU, and one below RuntimeError elsewhere.
        if isinstance(error, CkptkitError) or not (
            isinstance(error, MemoryError) or "allocate" in str(error) or "enough memory" in str(error)
        ):
            raise
        raise PlanError(
            f"{quoted(key)}: no memory to make {list(info.shape)} of {info.dtype}, which are "
            f"{human_bytes(info.nbytes)}; free some, or correct the shape",
            key=key,
        ) from error


def repeated(tensor: torch.Tensor, times: int) -> Iterator[torch.Tensor]:
    """A tensor again and again: small ones many at a time."""
    step = max(1, min(times, STEP // max(1, tensor.numel())))
    with one_thread(tensor):
        block = tensor.reshape(1, -1).expand(step, -1).reshape(-1) if step > 1 else tensor
    for _ in range(times // step):
        yield block
    if rest := times % step:
        yield block[: rest * tensor.numel()]
