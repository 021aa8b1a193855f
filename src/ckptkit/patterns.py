"""The one key matcher: globs over whole keys, or ``re:`` regular expressions.

A plain string is a case-sensitive glob: ``*`` any run of characters, dots included; ``?`` one
character; ``[abc]`` and ``[!abc]`` a set; ``[[]`` a literal bracket. ``re:EXPR`` is a regular
expression that must match the whole key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from .errors import ConfigError
from .regexes import MAX_LENGTH, Budget, KeyRegex, compile_regex, required_literal, shown


@dataclass(frozen=True, slots=True)
class KeyPattern:
    """A compiled key pattern.

    Args:
        text: as written.
        exact: the key itself when the pattern has no wildcard, else None.
        fullmatch: tells whether a whole key matches.
        literal, further: texts that every matching key contains.
        regex: the user's own expression, which is matched within a budget.
    """

    text: str
    exact: str | None
    fullmatch: Callable[[str], object]
    literal: str
    further: str = ""
    regex: KeyRegex | None = None

    def matches(self, key: str) -> bool:
        """Whether the pattern matches the whole key."""
        if self.exact is not None:
            return key == self.exact
        return self.literal in key and bool(self.fullmatch(key))

    def select(self, keys: Sequence[str], budget: Budget | None = None) -> list[str]:
        """The keys that match, in their order; without a budget a regular expression has one of its own."""
        if self.exact is not None:
            return [k for k in keys if k == self.exact]
        literal, further, fullmatch = self.literal, self.further, self.fullmatch
        if self.regex is None:
            return [k for k in keys if literal in k and further in k and fullmatch(k)]
        budget = budget or Budget()
        match = self.regex.fullmatch
        with budget.over(len(keys)):
            return [k for k in keys if literal in k and match(k, budget)]


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> KeyPattern:
    """Compile a key pattern.

    Raises:
        ConfigError: the pattern is empty, has an unclosed ``[``, or its regular expression is refused.
    """
    if not text:
        raise ConfigError("a key pattern must not be empty; '*' matches every key")
    if text.startswith("re:"):
        expression = text[3:]
        regex = compile_regex(expression)
        return KeyPattern(text, None, regex.fullmatch, required_literal(expression), regex=regex)
    pieces = _pieces(text)
    plain = "".join(each.plain or "" for each in pieces)
    if len(pieces) == 1 and pieces[0].plain is not None:
        return KeyPattern(text, plain, plain.__eq__, plain)
    if len(text) > MAX_LENGTH:
        raise ConfigError(
            f"the key pattern {shown(text)} has {len(text)} characters; {MAX_LENGTH} is the limit"
        )
    longest = sorted((run for each in pieces for run in each.runs), key=len, reverse=True)
    literal, further = [*longest, ""][:2]
    return KeyPattern(text, None, re.compile(_expression(pieces), re.DOTALL).fullmatch, literal, further)


def escape(key: str) -> str:
    """The pattern that selects exactly one key."""
    text = "".join(f"[{char}]" if char in "*?[" else char for char in key)
    return f"[r]{text[1:]}" if text.startswith("re:") else text


@dataclass(slots=True)
class _Piece:
    """What stands between two stars: as many characters as it has signs.

    Args:
        expression: as a regular expression.
        runs: the texts in it between wildcards.
        plain: the text that it is; None with a wildcard in it.
    """

    expression: str = ""
    runs: list[str] = field(default_factory=lambda: [""])
    plain: str | None = ""

    def add(self, expression: str, char: str | None) -> None:
        self.expression += expression
        if char is None:
            self.runs.append("")
            self.plain = None
        else:
            self.runs[-1] += char
            self.plain = None if self.plain is None else self.plain + char


def _expression(pieces: Sequence[_Piece]) -> str:
    """One regular expression that takes each piece between two stars where it first is, and never goes back."""
    first, *between = (piece.expression for piece in pieces)
    if not between:
        return first
    last = between.pop()
    return first + "".join(f"(?>.*?{piece})" for piece in between) + f".*{last}"


def _pieces(glob: str) -> list[_Piece]:
    """A glob cut at its stars; runs of stars mean one."""
    pieces = [_Piece()]
    i = 0
    while i < len(glob):
        char = glob[i]
        if char == "*":
            if len(pieces) == 1 or pieces[-1].expression:
                pieces.append(_Piece())
        elif char == "?":
            pieces[-1].add(".", None)
        elif char == "[":
            negated = glob[i + 1 : i + 2] == "!"
            start = i + 1 + negated
            end = glob.find("]", start + 1)
            if end < 0:
                raise ConfigError(
                    f"the key pattern {shown(glob)} has an unclosed '['; a literal bracket is '[[]'"
                )
            members = glob[start:end]
            single = not negated and len(members) == 1
            pieces[-1].add(_character_set(members, negated), members if single else None)
            i = end
        else:
            pieces[-1].add(re.escape(char), char)
        i += 1
    return pieces


def _character_set(members: str, negated: bool) -> str:
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", members)
    return f"[{'^' if negated else ''}{escaped}]"


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list of patterns selects.

    Args:
        keys: the selected keys in their own order.
        unmatched: patterns that match nothing, as written.
        by_name: selected keys that a pattern without wildcards names.
    """

    keys: list[str]
    unmatched: list[str]
    by_name: frozenset[str]


def select(patterns: Sequence[str], keys: Iterable[str]) -> Selection:
    """Select the keys that at least one pattern matches.

    Args:
        patterns: key patterns as written.
        keys: the keys to choose from.

    Raises:
        ConfigError: a pattern is malformed.
        PlanError: a regular expression takes too long on the keys.
    """
    every = list(keys)
    present: set[str] | None = None
    chosen: set[str] = set()
    unmatched: list[str] = []
    named: set[str] = set()
    budget = Budget()
    for text in patterns:
        pattern = compile_pattern(text)
        if pattern.exact is not None:
            if present is None:
                present = set(every)
            hits = [pattern.exact] if pattern.exact in present else []
            named.update(hits)
        else:
            hits = pattern.select(every, budget)
        if not hits:
            unmatched.append(text)
        chosen.update(hits)
    selected = every if len(chosen) == len(every) else [k for k in every if k in chosen]
    return Selection(selected, unmatched, frozenset(named))


_COMPARED = (
    199  # characters of a text that is compared with others; of 200, difflib leaves out the common ones
)
_STEPS = 8_000_000  # comparisons of two characters, of which difflib makes some millions in a second


def nearest(wanted: str, keys: Iterable[str], count: int = 3) -> list[str]:
    """The keys most like a pattern, a prefix or a key that was not found, best first.

    Args:
        wanted: what was looked for; wildcards and regular-expression signs are left out of the comparison.
        keys: the keys there are.
        count: how many at most.
    """
    text = wanted.removeprefix("re:").replace("\\.", ".")
    text = re.sub(r"[\^$*?()\[\]\\|+{}]|\\d", "", text)[:_COMPARED]
    every = list(keys)
    # Comparing with each of a hundred thousand keys takes seconds; one key per numbered block is enough.
    seen: dict[str, str] = {}
    for key in every:
        seen.setdefault(re.sub(r"\d+", "0", key), key)
    candidates = list(seen.values())[:2000]
    # Those of like letters first, which costs little, so that the budget is spent on them.
    letters = [_likeness(text, key[:_COMPARED], "quick_ratio") for key in candidates]
    scored: list[tuple[float, int, str]] = []
    left = _STEPS
    for n, i in enumerate(sorted(range(len(candidates)), key=lambda i: (-letters[i], i))):
        key = candidates[i]
        left -= (len(text) + 1) * min(len(key), _COMPARED)
        if left < 0 and n >= count:
            break
        scored.append((_likeness(text, key[:_COMPARED]), -i, key))
    scored.sort(reverse=True)
    return [key for score, _, key in scored[:count] if score > 0.3] or [key for _, _, key in scored[:count]]


def _likeness(text: str, key: str, how: str = "ratio") -> float:
    whole, head = (difflib.SequenceMatcher(None, text, each) for each in (key, key[: len(text)]))
    return float(max(getattr(whole, how)(), 0.95 * getattr(head, how)()))
