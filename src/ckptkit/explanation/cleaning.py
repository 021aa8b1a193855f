r"""What was pasted without its dress: colours, e-mail quotes, prefixes of logs and ranks, long runs of white space.

Everything that reads the text afterwards may count on runs of white space being short: a pattern with ``\s*`` beside
``\s*`` costs their square.
"""

from __future__ import annotations

import re
from html import unescape

MAX_SPACE = 16  # characters of white space in a row

_ANSI = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]")
_LINE_PREFIX = re.compile(
    r"^(?:[ \t]*>[ \t]?|\[?rank ?\d{1,6}\]?:[ \t]?|E {3,}|\([\w. ]{1,100} pid=\d{1,10}(?!\d)[^)\n]{0,200}\)[ \t]?"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,\d]*[ \t]*(?:[-|][ \t]*\w{1,100}[ \t]*[-|][ \t]*)*(?:WARNING|ERROR|INFO)?"
    r"[ \t|:-]*"
    r"|\d{2}/\d{2}/\d{4} \d\d:\d\d:\d\d[ \t]*-[ \t]*\w{1,100}[ \t]*-[ \t]*[\w.]{1,200}[ \t]*-[ \t]*)+",
    re.MULTILINE,
)
_LOG_INSIDE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| \w{1,100} \| \w{1,100} \| ")
_ESCAPED = re.compile(r"&(?:quot|apos|lt|gt|amp|nbsp|#\d{1,6}|#x[0-9a-fA-F]{1,6});")
_NARROWEST, _WIDEST = 60, 240  # characters of a terminal's line
_SPACE = re.compile(r"\s+")
_QUOTES = {ord(c): '"' for c in "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2018\u2019"} | {
    0xFF1A: ": ",
    0xFF0C: ", ",
    0x3002: ".",
    0x00A0: " ",
}


def cleaned(text: str) -> str:
    """The text in which lists and shapes are looked for.

    Args:
        text: as pasted.
    """
    if _ESCAPED.search(text):
        text = unescape(text)
    text = _ANSI.sub("", text.replace("\r", "")).translate(_QUOTES)
    text = text.replace('\\"', '"').replace("\\'", "'").replace("\\t", "\t").replace("\\n", "\n")
    text = _unwrapped(_SPACE.sub(_shorter, text))
    text = _LOG_INSIDE.sub("", _LINE_PREFIX.sub("", text))
    return _SPACE.sub(_shorter, text)


def _unwrapped(text: str) -> str:
    """Lines that a terminal of a fixed width has cut, anywhere in a word: several are full, and none is longer."""
    lines = text.split("\n")
    width = max(map(len, lines))
    full = [len(line) == width for line in lines]
    if not _NARROWEST <= width <= _WIDEST or sum(full[:-1]) < 2:
        return text
    return "".join(line if cut else f"{line}\n" for line, cut in zip(lines, full, strict=True)).removesuffix(
        "\n"
    )


def _shorter(match: re.Match[str]) -> str:
    """Of a long run what it means: an empty line, a new line, or a gap."""
    run = match[0]
    if len(run) <= MAX_SPACE:
        return run
    lines = run.count("\n")
    return "\n\n" if lines > 1 else "\n\t" if lines else "  "
