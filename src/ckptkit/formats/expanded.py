"""Views that repeat a few stored bytes many times: a file of a kilobyte can describe terabytes of values."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import FormatError
from .base import Source

LIMIT = 1 << 30  # bytes in all; less is written out and looked at whatever the strides
FACTOR = 64  # times the bytes that are stored


class Expansion:
    """Adds up what views repeat.

    Args:
        file: for messages; None where items of any source are counted.
    """

    def __init__(self, file: str | None = None) -> None:
        self.file = file
        self.total = 0

    def add(self, key: str, stored: int, nbytes: int) -> None:
        """Count a tensor.

        Args:
            key: for messages.
            stored: bytes of the storage that it looks into.
            nbytes: bytes of its values.

        Raises:
            FormatError: together they are too many.
        """
        if nbytes <= FACTOR * stored:
            return
        self.total += nbytes
        if self.total > LIMIT:
            where = "" if self.file is None else f"{self.file}: "
            more = "" if self.total == nbytes else f", and {self.total} with those of others"
            raise FormatError(
                f"{where}{key!r} is an expanded view: {stored} bytes in its storage would become {nbytes}{more}; "
                "drop it, or write a torch file (.pt), which keeps views",
                file=self.file,
                key=key,
            )


def check_expanded(source: Source, keys: Iterable[str]) -> None:
    """Refuse to look at the values of tensors that repeat a few bytes without end.

    Args:
        source: where they lie.
        keys: of kind ``tensor`` or not; those that are computed count as what they are.

    Raises:
        FormatError: named.
    """
    found = Expansion(source.path)
    for key in keys:
        info = source.signature[key]
        stored = source.storage_size(key) if info.kind == "tensor" else None
        if stored is not None:
            found.add(key, stored, info.nbytes)
