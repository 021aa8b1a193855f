"""Regular expressions from configs: checked by `re` when the config is read, matched by `regex`, which has a time limit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from time import thread_time
from typing import TYPE_CHECKING, Protocol, TypeVar

from .dialect import read_expression, wide_ranges
from .errors import ConfigError, PlanError
from .text import counted, single_quoted

if TYPE_CHECKING:
    from regex import Match, Pattern

MAX_LENGTH = 10_000
MAX_SIZE = 20_000  # parts, those in counted repeats as often as they must match: about a kilobyte each
MAX_WIDE = 40  # ranges whose characters `re` walks through: some milliseconds each
SECONDS = 1.0  # of processor time for one rule and all keys, beyond what every match has
PER_KEY = 0.000_001  # seconds for looking at a key without matching it: twenty times what that takes
PER_MATCH = 0.000_05  # seconds that every match has: twenty times what an honest one takes
MAX_CHOICES = 2  # with which a short expression tries at most the cube of a short key's length
SHORT = 200  # characters
_TOGETHER = 64  # short matches
_KEPT_SIZE = 1000
Found = TypeVar("Found")


class Budget:
    """What matching all patterns of a rule with all keys may take.

    Each match adds a little to it, so that honest expressions may be matched with any number of keys.
    """

    __slots__ = ("_first", "_matches", "_start", "_whole", "left")

    def __init__(self) -> None:
        self._first = self._matches = 0
        self._whole = self.left = SECONDS
        self._start = thread_time()

    @contextmanager
    def over(self, keys: int) -> Iterator[None]:
        """Charge what is done inside, for one pattern of several; what is done between them is free.

        Args:
            keys: how many are looked at.
        """
        self._first, self._whole = self._matches, min(self.left, SECONDS) + keys * PER_KEY
        self._start = thread_time()
        yield
        self._charge()

    def run(self, match: Callable[[float], Found], pattern: str, key: str) -> Found:
        """Match within what is left.

        Args:
            match: takes the seconds that it may take, and raises TimeoutError.
            pattern, key: for the message.

        Raises:
            PlanError: nothing is left; names the expression and the key, and says what to do.
        """
        self._matches += 1
        while True:
            try:
                found = match(self.left)
            except TimeoutError:
                # `regex` counts the time of all threads, of which this one may have had a small part: then again.
                self._charge()
                if self.left < SECONDS / 100:
                    raise _too_slow(pattern, key, self._matches) from None
            else:
                self._charge()
                if self.left <= 0:
                    raise _too_slow(pattern, key, self._matches)
                return found

    def note(self, pattern: str, key: str) -> None:
        """Charge for a match that ends soon by itself, together with those before it; errors as for `run`."""
        self._matches += 1
        if not self._matches % _TOGETHER:
            self._charge()
            if self.left <= 0:
                raise _too_slow(pattern, key, self._matches)

    def _charge(self) -> None:
        self.left = self._whole + (self._matches - self._first) * PER_MATCH - (thread_time() - self._start)


def _too_slow(pattern: str, key: str, matches: int) -> PlanError:
    where = (
        f"on the key {shown(key)}"
        if matches == 1
        else f"in {matches} matches, the last with the key {shown(key)}"
    )
    return PlanError(
        f"the regular expression {shown(pattern)} was still at work after {SECONDS:g} s of processor time {where} "
        f"({len(key)} characters): parts of it can match the same text, and it tries all ways to share it out; put text "
        "between them that they cannot match, e.g. '[^.]*' for '.*', or begin it with '^'",
        key=key,
    )


class KeyRegex:
    """A regular expression in the dialect of `re`, which is matched within a budget.

    Args:
        pattern: as written.
        compiled: the expression as `regex` takes it.
    """

    __slots__ = ("_compiled", "_short", "groupindex", "groups", "pattern")

    def __init__(self, pattern: str, compiled: Pattern[str]) -> None:
        self.pattern = pattern
        self.groups: int = compiled.groups
        self.groupindex: Mapping[str, int] = compiled.groupindex
        self._compiled = compiled
        self._short = (
            SHORT if read_expression(pattern).choices <= MAX_CHOICES and len(pattern) <= SHORT else -1
        )

    def search(self, key: str, budget: Budget | None = None) -> Match[str] | None:
        """The first match in a key; without a budget it has one of its own.

        Raises:
            PlanError: it takes longer than the budget allows.
        """
        return self._run(self._compiled.search, key, budget)

    def fullmatch(self, key: str, budget: Budget | None = None) -> Match[str] | None:
        """The match of a whole key; budget and errors as for `search`."""
        return self._run(self._compiled.fullmatch, key, budget)

    def findall(self, key: str, budget: Budget | None = None) -> list[Match[str]]:
        """All matches in a key; budget and errors as for `search`."""
        finditer = self._compiled.finditer
        return self._run(lambda key, timeout=None: list(finditer(key, timeout=timeout)), key, budget)

    def subn(self, template: Template, key: str, budget: Budget | None = None) -> tuple[str, int]:
        """A key with all matches replaced, and their number; budget and errors as for `search`."""
        if budget is None:
            budget = Budget()
        if len(key) <= self._short:
            budget.note(self.pattern, key)
            return self._compiled.subn(template.text, key)
        return budget.run(
            lambda left: self._compiled.subn(template.text, key, timeout=left), self.pattern, key
        )

    def _run(self, match: Callable[..., Found], key: str, budget: Budget | None) -> Found:
        if budget is None:
            budget = Budget()
        if len(key) <= self._short:  # the limit costs as much as the match itself
            budget.note(self.pattern, key)
            return match(key)
        return budget.run(lambda left: match(key, timeout=left), self.pattern, key)


class Groups(Protocol):
    """What a template needs of a match."""

    def __getitem__(self, number: int, /) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Template:
    r"""A replacement template that was read.

    Args:
        parts: literal texts and the numbers of groups.
        text: the template for `regex`, which takes some escapes otherwise than `re`.
    """

    parts: tuple[str | int, ...]
    text: str

    def fill(self, match: Groups) -> str:
        """The text with the groups of a match; groups that took no part are empty."""
        return "".join(part if isinstance(part, str) else match[part] or "" for part in self.parts)

    def length(self, match: Groups) -> int:
        """How long `fill` would be."""
        return sum(len(part) if isinstance(part, str) else len(match[part] or "") for part in self.parts)


def shown(text: str) -> str:
    """An expression or a key in quotes, cut where it is long, with its backslashes as they are written."""
    return single_quoted(text if len(text) <= 80 else text[:77] + "...")


def _brief(error: Exception) -> str:
    """What `re` says, which quotes names of any length."""
    text = str(error)
    return text if len(text) <= 200 else f"{text[:150]}...{text[-40:]}"


def _mend(error: re.error) -> str:
    """What to write instead, for the slips of who thinks of globs and names."""
    if "nothing to repeat" in error.msg or "multiple repeat" in error.msg:
        return "; any run of characters is '.*' in a regular expression, not '*'"
    if "missing )" in error.msg or "unbalanced parenthesis" in error.msg:
        return r"; close what is open, and write '\(' for a bracket that is a part of the name"
    if "unterminated character set" in error.msg:
        return r"; close what is open, and write '\[' for a bracket that is a part of the name"
    return ""


def compile_regex(pattern: str) -> KeyRegex:
    """Compile a regular expression from a config.

    Args:
        pattern: in the syntax of Python's `re`, matched case-sensitively unless it says otherwise.

    Raises:
        ConfigError: it is malformed, longer than 10,000 characters, too deeply nested, or takes much time or memory to
            compile.
    """
    large = len(pattern) <= MAX_LENGTH and _checked(pattern) > _KEPT_SIZE
    return _compile(pattern) if large else _kept(pattern)


@lru_cache(maxsize=4096)
def _checked(pattern: str) -> int:
    """The size of an expression that `re` takes; errors as for `compile_regex`."""
    if len(pattern) > MAX_LENGTH:
        raise ConfigError(
            f"the regular expression is {len(pattern)} characters long; {MAX_LENGTH} is the limit"
        )
    if wide_ranges(pattern) > MAX_WIDE:
        raise ConfigError(
            f"the regular expression {shown(pattern)} has {wide_ranges(pattern)} ranges, which take long to compile "
            rf"where they reach beyond ASCII; {MAX_WIDE} is the limit; '[^\x00-\x7f]' is all beyond ASCII"
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"the regular expression {shown(pattern)} is malformed: {_brief(error)}{_mend(error)}"
        ) from None
    except ValueError:  # Python's own words would tell to raise its limit
        raise ConfigError(
            f"the regular expression {shown(pattern)} is malformed: a number is too long"
        ) from None
    except (OverflowError, RecursionError, MemoryError) as error:
        raise _too_large(pattern, type(error).__name__) from None
    size = read_expression(pattern).size
    if size > MAX_SIZE:
        raise _too_large(
            pattern, f"its counted repeats come to more than {MAX_SIZE} parts; write '+' for a high count"
        )
    return size


def _too_large(pattern: str, reason: str) -> ConfigError:
    return ConfigError(f"the regular expression {shown(pattern)} is too large or too deeply nested: {reason}")


def _compile(pattern: str) -> KeyRegex:
    import regex

    _checked(pattern)
    try:
        return KeyRegex(
            pattern, regex.compile(read_expression(pattern).translated, regex.V0, cache_pattern=False)
        )
    except (OverflowError, RecursionError, MemoryError) as error:
        raise _too_large(pattern, type(error).__name__) from None
    except regex.error as error:
        raise ConfigError(f"the regular expression {shown(pattern)} is refused: {_brief(error)}") from None


_kept = lru_cache(maxsize=4096)(_compile)  # others would fill the memory


@lru_cache(maxsize=4096)
def read_template(pattern: str, replacement: str) -> Template:
    """A replacement template that suits a pattern, as `re.sub` takes it.

    Raises:
        ConfigError: it refers to a group that the pattern lacks, or has a bad escape.
    """
    if "\\" not in replacement:
        return Template((replacement,), replacement)
    regex = compile_regex(pattern)
    names = {number: name for name, number in regex.groupindex.items()}
    # `re` itself fills in a pattern of the same groups, each of which is two lone surrogates: no template has any.
    marks = [chr(0xD800 + n // 1024) + chr(0xDC00 + n % 1024) for n in range(regex.groups + 1)]
    groups = [
        f"(?P<{names[n]}>{marks[n]})" if n in names else f"({marks[n]})" for n in range(1, regex.groups + 1)
    ]
    text = "".join(marks[1:]) or marks[0]
    try:
        match = re.match("".join(groups) or marks[0], text)
        assert match is not None
        # The whole match is no group of it.
        own = re.sub(r"(\\\\)|\\g<0+>", lambda found: found[1] or marks[0], replacement)
        filled = match.expand(own)
    except (re.error, IndexError, ValueError) as error:
        raise _unsuited(regex, replacement, error) from None
    number = {mark: n for n, mark in enumerate(marks)}
    pieces = re.split("([\ud800-\udbff][\udc00-\udfff])", filled)
    parts = tuple(number.get(piece, piece) for piece in pieces if piece)
    escaped = (part.replace("\\", "\\\\") if isinstance(part, str) else f"\\g<{part}>" for part in parts)
    return Template(parts, "".join(escaped))


def _unsuited(pattern: KeyRegex, replacement: str, error: Exception) -> ConfigError:
    reason = (
        _brief(error)
        if isinstance(error, re.error)
        else "a number is too long"
        if isinstance(error, ValueError)
        else _brief(error)
    )
    names = sorted(pattern.groupindex)
    return ConfigError(
        f"the replacement {shown(replacement)} does not suit the pattern {shown(pattern.pattern)}: {reason}; "
        f"the pattern has {counted(pattern.groups, 'group') if pattern.groups else 'no groups'}"
        + (f" named {', '.join(name[:80] for name in names[:8])}" if names else "")
        + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    )


def required_literal(pattern: str) -> str:
    """The longest text that every match of an expression must contain, for skipping keys; "" when none is known."""
    return read_expression(pattern).literal


def with_groups(pattern: str, groups: Sequence[str | None]) -> str | None:
    """The text that a pattern matches when its groups are given, as for `Expression.with_groups`."""
    return read_expression(pattern).with_groups(groups)


def literal_start(pattern: str) -> str:
    """The text that every match of a regular expression starts a key with; "" when none is known."""
    return read_expression(pattern).start
