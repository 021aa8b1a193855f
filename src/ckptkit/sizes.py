"""Sizes as people write them: ``5GB``, ``500 MB``, ``2GiB``."""

from __future__ import annotations

import re

from .errors import UsageError

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}


def parse_size(text: str) -> int:
    """Bytes from a size with an optional unit; kB, MB, GB, TB are powers of 1000, KiB ... of 1024.

    Raises:
        UsageError: not a positive size.
    """
    match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]{0,3})\s*", text)
    unit = _UNITS.get(match[2].upper()) if match else None
    size = int(float(match[1]) * unit) if match and unit else 0
    if size <= 0:
        raise UsageError(
            f"{text!r} is no size; write a positive number with kB, MB, GB or KiB, MiB, GiB, e.g. 5GB"
        )
    return size
