"""Why a pickle was refused; turned into a `FormatError` with the file's name by `load_pickle`."""

from __future__ import annotations


class Refused(Exception):
    """The pickle breaks a law of the restricted reader; the text says which."""


class Truncated(Exception):
    """The pickle goes on beyond the given bytes.

    Args:
        need: number of bytes from the start of the buffer that are needed at least.
    """

    def __init__(self, need: int) -> None:
        super().__init__(need)
        self.need = need
