"""Rename rules from pairs of keys: one regular expression for all blocks where it holds, else exact ones.

Every candidate is applied to all keys before it is taken, so an offered rule does what was seen and no more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, PlanError
from ..naming import strange
from ..regexes import MAX_LENGTH, compile_regex, read_template, required_literal

MOST_WORK = 1_000_000  # applications of candidates to keys; what is left then is renamed key by key
_UNNAMEABLE = ("", "__metadata__")  # names that no rule may give
Pair = tuple[str, str]
Segments = list[str]


@dataclass(frozen=True, slots=True, order=True)
class Rewrite:
    """A pattern and its replacement, as `re.sub` takes them."""

    pattern: str
    replacement: str

    def apply(self, key: str) -> str | None:
        """The new name of a key, None when the pattern does not match."""
        if required_literal(self.pattern) not in key:
            return None
        template = read_template(self.pattern, self.replacement)
        new, count = compile_regex(self.pattern).subn(template, key)
        return new if count else None


def rewrites(
    pairs: Sequence[Pair], removed: Sequence[str], added: Sequence[str], stay: Sequence[str] = ()
) -> tuple[Rewrite, ...]:
    """Rewrites that turn the first key of each pair into the second; for each key the first that matches counts.

    A key that has no pair stays as it is, or moves to a key of B's that has none either.

    Args:
        pairs: (old, new).
        removed: all the keys that only the old side has.
        added: all the keys that only the new side has.
        stay: the keys that both sides have.
    """
    wanted = {old: new for old, new in pairs if new not in _UNNAMEABLE}
    free = set(added) - set(wanted.values())
    loose = [key for key in removed if key not in wanted]
    budget = MOST_WORK
    chosen: list[Rewrite] = []
    left = dict(wanted)
    votes = Counter(candidate for pair in left.items() for candidate in _candidates(*pair))
    # The most general first; what only one pair proposes generalises nothing.
    ranked = sorted(
        (-count, len(each.pattern), each.pattern, each) for each, count in votes.items() if count > 1
    )
    waiting = [each for *_, each in ranked]
    at = 0
    while left and at < len(waiting):
        budget -= len(left) + len(loose) + len(stay)
        if budget < 0:
            break
        candidate = waiting[at]
        hit = _tried(candidate, left, loose, stay, free)
        at += 1
        if len(hit) < 2:
            continue
        chosen.append(candidate)
        moved = {key: result for key in loose if (result := candidate.apply(key)) is not None}
        free.difference_update(moved.values())
        loose = [key for key in loose if key not in moved]
        left = {old: new for old, new in left.items() if old not in hit}
        # A more general one that was wrong about these keys may be right about the others.
        waiting.remove(candidate)
        at = 0
    # `$` is the end that people know; it also matches before a last line feed, so such keys need the other.
    end = "\\Z" if any(key.endswith("\n") for key in (*removed, *stay)) else "$"
    exact = (Rewrite(f"^{re.escape(old)}{end}", _literal(new)) for old, new in left.items())
    return (*chosen, *(each for each in exact if len(each.pattern) <= MAX_LENGTH))


def as_rules(found: Sequence[Rewrite], names: Sequence[str] = ()) -> tuple[dict[str, Any], ...]:
    """Rewrites as one `rename` rule in plain data, in which all keys move at once; none for none.

    Args:
        found: the rewrites.
        names: what they may call keys.
    """
    if not found:
        return ()
    rule: dict[str, Any] = {
        "op": "rename",
        "pairs": [[rewrite.pattern, rewrite.replacement] for rewrite in found],
    }
    if len(found) == 1:
        rule = {"op": "rename", "pattern": found[0].pattern, "replacement": found[0].replacement}
    if any(strange(new) is not None for new in names):
        rule["allow_literal"] = True  # such a name is what the other side has
    return (rule,)


def _tried(
    candidate: Rewrite, left: Mapping[str, str], loose: Sequence[str], stay: Sequence[str], free: set[str]
) -> set[str]:
    """The keys that a candidate renames rightly; none when it does anything wrong."""
    try:
        if any(candidate.apply(key) is not None for key in stay):
            return set()
        hit = set()
        for old, new in left.items():
            result = candidate.apply(old)
            if result == new:
                hit.add(old)
            elif result is not None:
                return set()
        moved = [result for key in loose if (result := candidate.apply(key)) is not None]
    except (ConfigError, PlanError):  # too long, or more than the engine of rules takes
        return set()
    return hit if free.issuperset(moved) and len(set(moved)) == len(moved) else set()


def _candidates(old: str, new: str) -> Iterator[Rewrite]:
    """Rewrites that do one rename, from the most general to the most special; block numbers become groups."""
    a, b = old.split("."), new.split(".")
    end = 0
    while end < min(len(a), len(b)) and a[-1 - end] == b[-1 - end]:
        end += 1
    head_a, head_b = a[: len(a) - end], b[: len(b) - end]
    start = 0
    while start < min(len(head_a), len(head_b)) and head_a[start] == head_b[start]:
        start += 1
    middle_a, middle_b = head_a[start:], head_b[start:]
    if end:
        if not head_a:
            yield Rewrite("^", _literal(".".join(head_b)) + ".")
        elif not head_b:
            yield Rewrite(f"^{_template(head_a, [])[0]}\\.", "")
        else:
            pattern, replacement = _template(head_a, head_b)
            yield Rewrite(f"^{pattern}\\.", f"{replacement}.")
    if start and middle_a:
        # After a dot, and before one or at the end: whole segments only.
        pattern, replacement = _template(middle_a, middle_b)
        replacement = f".{replacement}" if middle_b else ""
        if end:
            yield Rewrite(f"\\.{pattern}\\.", f"{replacement}.")
        elif middle_b:
            yield Rewrite(f"\\.{pattern}$", replacement)
    pattern, replacement = _template(a, b)
    yield Rewrite(f"^{pattern}$", replacement)


def _template(old: Segments, new: Segments) -> tuple[str, str]:
    """A pattern for some segments and its replacement; numbers that come back in it become groups."""
    groups: dict[int, int] = {}
    taken: list[str] = []
    for segment in new:
        place = next(
            (i for i, each in enumerate(old) if each == segment and _is_number(each) and i not in groups),
            None,
        )
        if place is None:
            taken.append(_literal(segment))
        else:
            groups[place] = len(taken)
            taken.append("")
    order = {place: number for number, place in enumerate(sorted(groups), 1)}
    for place, position in groups.items():
        taken[position] = f"\\{order[place]}"
    pattern = "\\.".join(r"(\d+)" if i in groups else re.escape(segment) for i, segment in enumerate(old))
    return pattern, ".".join(taken)


def _is_number(segment: str) -> bool:
    return segment.isascii() and segment.isdigit()


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\")
