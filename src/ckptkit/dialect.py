"""The dialect of `re` for the package `regex`, which matches with a time limit and knows more signs than `re`.

What `re` takes as text and `regex` as a sign (``a{e<=1}``, ``[[:alpha:]]``) is escaped, and what ``(?x)`` leaves out is
left out. On the way it is learnt what an expression grows to where its counted repeats are written out, which is how
`regex` keeps them, and which text every match must contain. Expressions are expected to be valid for `re`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

_TOKENS = (
    r"(?P<comment>\(\?\#[^)]*\))"
    r"|(?P<flags>\(\?[aiLmsux]+\))"
    r"|(?P<back>\(\?P=[^)]*\))"
    r"|(?P<open>\((?:\?(?:P<(?P<name>[^>]*)>|\([^)]*\)|<[=!]|[:>=!]|(?P<on>[aiLmsux]*)(?:-(?P<off>[imsx]+))?:))?)"
    r"|(?P<close>\))"
    r"|(?P<escape>\\(?:[0-9]{1,3}|x..|u.{4}|U.{8}|N\{[^}]*\}|.))"
    r"|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*+\])"
    r"|(?P<count>\{(?!\})(?P<least>[0-9]*)(?:,(?P<most>[0-9]*))?\})"
    r"|(?P<repeat>[*+?])"
    r"|(?P<bar>\|)"
    r"|(?P<anchor>[\^$])"
    r"|(?P<other>.)"
)
_TOKEN = re.compile(_TOKENS, re.DOTALL)
_VERBOSE_TOKEN = re.compile(r"(?P<blank>[ \t\n\r\v\f]+|\#[^\n]*)|" + _TOKENS, re.DOTALL)
_KINDS = ("flags", "back", "open", "close", "escape", "set", "count", "repeat", "bar", "anchor", "other")
_ANY = 1000
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]|\\[uUN]")


@dataclass(slots=True)
class Part:
    """One part of a sequence.

    Args:
        text: the text it is; None for anything else.
        group: the number of the group it is; 0 for none.
        anchor: the sign of a place, which takes no text; "" for none.
    """

    text: str | None = None
    group: int = 0
    anchor: str = ""


@dataclass(slots=True)
class _Group:
    """A group that is being read; the outermost is the expression itself.

    Args:
        part: what it will be.
        verbose: whether blanks are left out in it.
        parts: what is in it so far, of one alternative after the other.
        size: of all its parts.
        last: the size of the last one.
        closed: whether the last one is a group.
    """

    part: Part
    verbose: bool
    parts: list[Part] = field(default_factory=list)
    size: int = 1
    last: int = 0
    closed: bool = False

    def add(self, part: Part, size: int = 1) -> None:
        self.closed = False
        self.parts.append(part)
        self.size += size
        self.last = size


@dataclass(frozen=True, slots=True)
class Expression:
    """A valid expression as it was read.

    Args:
        translated: what `regex` matches as `re` matches the original.
        size: its parts, those in a counted repeat as often as they must match.
        parts: at the top level; empty where there are alternatives, or where text is not compared as it stands.
        multiline: whether ``^`` may stand for the start of a line.
        choices: its repeats and alternatives, each of which can be matched in several ways; one that holds others, or a
            reference to a group, counts for any number.
    """

    translated: str
    size: int
    parts: tuple[Part, ...]
    multiline: bool
    choices: int

    @property
    def literal(self) -> str:
        """The longest text that every match must contain; "" when none is known."""
        best, run = "", ""
        for part in self.parts:
            if part.text is not None:
                run += part.text
                best = max(best, run, key=len)
            elif not part.anchor:
                run = ""
        return best

    @property
    def start(self) -> str:
        """The text that every match starts a key with; "" when none is known."""
        if self.multiline or not self.parts or self.parts[0].anchor != "^":
            return ""
        start = ""
        for part in self.parts[1:]:
            if part.text is None:
                break
            start += part.text
        return start

    def with_groups(self, groups: Sequence[str | None]) -> str | None:
        """The text that a match is when its groups are given.

        Args:
            groups: the text of group 1, 2, ...; those of a similar expression's match.

        Returns:
            None when the expression is not made of literals and these groups only.
        """
        if not self.parts:
            return None
        text = ""
        for part in self.parts:
            if part.text is not None:
                text += part.text
            elif 0 < part.group <= len(groups):
                text += groups[part.group - 1] or ""
            elif not part.anchor:
                return None
        return text


def wide_ranges(pattern: str) -> int:
    """How many ranges of characters may reach beyond ASCII; `re` walks through the characters of each to compile it."""
    return pattern.count("-") if _BEYOND_ASCII.search(pattern) else 0


@lru_cache(maxsize=4096)
def read_expression(pattern: str) -> Expression:
    """Read an expression that `re` takes."""
    reader = _Reader()
    at = 0
    while at < len(pattern):
        found = (_VERBOSE_TOKEN if reader.open[-1].verbose else _TOKEN).match(pattern, at)
        assert found is not None
        reader.take(found)
        at = found.end()
    outer = reader.open[0]
    plain = not reader.bars and not reader.ignoring
    parts = tuple(outer.parts) if plain else ()
    return Expression("".join(reader.text), outer.size, parts, reader.multiline, reader.choices)


class _Reader:
    """Goes through an expression token by token."""

    def __init__(self) -> None:
        self.open = [_Group(Part(), verbose=False)]
        self.text: list[str] = []
        self.groups = self.choices = 0
        self.bars = self.ignoring = self.multiline = False
        self.skipped = False  # blanks just before, between which a number and a digit are two

    def take(self, found: re.Match[str]) -> None:
        here = self.open[-1]
        token = found.groupdict()
        if token["comment"] or token.get("blank"):
            self.skipped = True
            return
        kind = next(name for name in _KINDS if token[name] is not None)
        self.text.append(getattr(self, f"_{kind}")(found, here))
        self.skipped = False

    def _other(self, found: re.Match[str], here: _Group) -> str:
        char = found[0]
        here.add(Part(None if char == "." else char))
        if char == "{":
            return "\\{"
        return f"[{char}]" if self.skipped and char.isdigit() else char

    def _flags(self, found: re.Match[str], here: _Group) -> str:
        flags = found[0][2:-1]
        self.ignoring |= "i" in flags
        self.multiline |= "m" in flags
        here.verbose |= "x" in flags
        rest = flags.replace("x", "")
        return f"(?{rest})" if rest else ""

    def _back(self, found: re.Match[str], here: _Group) -> str:
        here.add(Part())
        self.choices += _ANY
        return found[0]

    def _open(self, found: re.Match[str], here: _Group) -> str:
        on, off = found["on"] or "", found["off"] or ""
        verbose = ("x" in on or here.verbose) and "x" not in off
        part = Part()
        if found["name"] or found[0] == "(":
            self.groups += 1
            part = Part(group=self.groups)
        self.open.append(_Group(part, verbose))
        if not on and not off:
            return found[0]
        on, off = on.replace("x", ""), off.replace("x", "")
        return f"(?{on}{'-' if off else ''}{off}:"

    def _close(self, found: re.Match[str], here: _Group) -> str:
        self.open.pop()
        self.open[-1].add(here.part, here.size)
        self.open[-1].closed = True
        return ")"

    def _escape(self, found: re.Match[str], here: _Group) -> str:
        char = found[0][1]
        if char.isdigit() and char != "0":
            self.choices += _ANY
        if char in "AZbB":
            here.add(Part(anchor=found[0]))
        else:
            here.add(Part(None if char.isalnum() and char.isascii() else char))
        return found[0]

    def _set(self, found: re.Match[str], here: _Group) -> str:
        here.add(Part())
        head = "[^" if found[0].startswith("[^") else "["
        return head + re.sub(
            r"(\\.)|\[", lambda each: each[1] or "\\[", found[0][len(head) :], flags=re.DOTALL
        )

    def _count(self, found: re.Match[str], here: _Group) -> str:
        least = int(found["least"] or 0)
        self.choices += _ANY if here.closed else 0 if found["most"] is None else 1
        here.size += here.last * max(least - 1, 0)
        here.last *= max(least, 1)
        here.parts[-1] = Part()
        return found[0]

    def _repeat(self, found: re.Match[str], here: _Group) -> str:
        here.parts[-1] = Part()
        self.choices += _ANY if here.closed else 1  # a sign that makes a repeat lazy counts as well
        return found[0]

    def _bar(self, found: re.Match[str], here: _Group) -> str:
        self.bars |= len(self.open) == 1
        self.choices += 1
        return "|"

    def _anchor(self, found: re.Match[str], here: _Group) -> str:
        here.add(Part(anchor=found[0]))
        return found[0]
