"""Strict JSON, as headers, indices, signatures and plans hold it: nothing that two readers could read differently.

The text is read step by step, so that a file of zeros costs one step, and its lists and objects are counted before
they are built: the three bytes of an empty one take eighty in memory.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import FormatError
from ..files.regular import open_regular, read_exactly

STEP = 1 << 24  # most documents are read at once
MAX_BYTES = 1 << 30  # of a signature or a plan; a million keys take a tenth of it

MIN_CONTAINERS = 1_000_000
BYTES_PER_CONTAINER = 16  # the shortest tensor of a header has three of them in fifty bytes
MAX_NUMBER = 1.797e308  # some readers round the last digits of the largest double to infinity


class BadJson(Exception):
    """Why a text is no valid JSON, before the file's name is known.

    Args:
        reason: in words.
        offset: of the byte in the file, where it is known.
    """

    def __init__(self, reason: str, offset: int | None = None) -> None:
        super().__init__(reason)
        self.offset = offset


def read_json(path: str, most: int = MAX_BYTES) -> Any:
    """The JSON document that fills a file.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        FormatError: it is no such file, longer, or no valid JSON.
    """
    with open_regular(path) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        if size > most:
            raise FormatError(f"{path}: JSON of {size} bytes; {most} are the most", file=path)
        try:
            return parse(read_text(lambda at, count: read_exactly(fd, at, count, path), 0, size))
        except BadJson as bad:
            raise FormatError(f"{path}: no valid JSON: {bad}", file=path, offset=bad.offset) from None


def read_text(read: Callable[[int, int], bytes], start: int, length: int) -> str:
    """The text of a document.

    Args:
        read: gives the bytes at an offset, as many as asked for.
        start: the document's first byte.
        length: how many bytes it has.

    Raises:
        BadJson: it is no UTF-8, or has a zero byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    parts: list[str] = []
    stop = start + length
    for at in range(start, stop, STEP):
        chunk = read(at, min(STEP, stop - at))
        zero = chunk.find(0)
        if zero >= 0:
            raise BadJson(f"a zero byte at byte {at + zero}", at + zero)
        waiting = len(decoder.getstate()[0])
        try:
            parts.append(decoder.decode(chunk, at + STEP >= stop))
        except UnicodeDecodeError as error:
            place = at - waiting + error.start
            raise BadJson(f"not UTF-8 at byte {place}", place) from None
    return "".join(parts)


def parse(text: str, start: int = 0) -> Any:
    """What a text holds. ``-0`` is a float, as other readers take it: it is no size.

    Args:
        text: the document.
        start: its first byte in the file.

    Raises:
        BadJson: malformed, a name twice in one object, NaN, a number beyond any double, a lone surrogate, nested
            too deeply, or more lists and objects than a document of this length has.
    """
    _check_containers(text)
    integer = _integer if "-" in text and "-0" in text else None
    try:
        document = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_float=_finite,
            parse_int=integer,
        )
    except json.JSONDecodeError as error:
        at = start + len(text[: error.pos].encode())
        raise BadJson(f"{error.msg} at byte {at}", at) from None
    except RecursionError:
        raise BadJson("nested too deeply") from None
    except ValueError:  # int() refuses thousands of digits
        raise BadJson("a number with too many digits") from None
    if "\\" in text and ("\\ud" in text or "\\uD" in text):
        # An escaped surrogate without its partner makes a str that no file can hold.
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BadJson("a lone surrogate, which is no text") from None
    return document


def _check_containers(text: str) -> None:
    most = MIN_CONTAINERS + len(text) // BYTES_PER_CONTAINER
    if len(text) <= 2 * most:  # each takes two characters
        return
    # Brackets inside of strings count as well at first: that is fast, and enough for nearly every document.
    if text.count("[") + text.count("{") > most and _containers(text, most) > most:
        raise BadJson(f"more than {most} lists and objects in {len(text)} characters")


def _containers(text: str, most: int) -> int:
    """How many lists and objects begin outside of strings, or any number over `most`."""
    plain = text.replace("\\\\", "").replace('\\"', "")
    inside, count = 0, 0
    for at in range(0, len(plain), STEP):
        pieces = plain[at : at + STEP].split('"')
        outside = "".join(pieces[inside::2])
        count += outside.count("[") + outside.count("{")
        if count > most:
            break
        inside ^= (len(pieces) - 1) & 1
    return count


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadJson(f"{key[:120]!r} stands twice in one object")
            seen.add(key)
    return fields


def _constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if abs(number) > MAX_NUMBER:
        raise BadJson(f"the number {digits[:40]} is beyond any double")
    return number


def _integer(digits: str) -> int | float:
    return -0.0 if digits == "-0" else int(digits)
