"""Both lists are there: what changes one key into another, as rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..findings import Confidence, Finding, Fix
from ..vetoes import is_buffer
from .aligned import aligned
from .names import ATTENTION, WRAPPERS, common_wrapper
from .renaming import renamed

_MOST = 600  # keys of each list that are compared; the rest follows the same pattern
Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """A rule for names, and which unexpected keys it turns into missing ones."""

    cause: str
    rule: Rule
    pairs: tuple[tuple[str, str], ...]

    def apply(self, key: str) -> str:
        """A key after the rule."""
        return renamed([self.rule], key) or ""


def pairing_findings(missing: Sequence[str], unexpected: Sequence[str], truncated: bool) -> Iterator[Finding]:
    """Findings from keys that pair off under one change of names, or several after each other."""
    names, surplus = set(missing), list(unexpected)
    changes: list[Change] = []
    left = [key for key in surplus[:_MOST] if key not in names]
    least = min(len(names), len(left))
    doubtful = False
    for _ in range(8):
        change, believed = _best([key for key in missing if key in names], left)
        if change is None:
            break
        doubtful |= not believed
        change = _anchored(change)
        changes.append(change)
        done = {old for old, _ in change.pairs}
        names -= {new for _, new in change.pairs}
        # Rules follow each other: what one has renamed is what the next one meets.
        left = [change.apply(key) for key in left if key not in done]
        if not left or not names:
            break
    paired = sum(len(change.pairs) for change in changes)
    # Where names share no word, the order of the lists tells more than how many keys a name would pair off.
    usual = [rule for _, rule in _conventions([], [])]
    strange = any(
        change.cause == "rename" and change.rule not in usual and not _akin(change) for change in changes
    )
    rules = aligned(missing, unexpected, truncated) if strange or 2 * paired < least else []
    if rules:
        yield _in_order(rules, missing, unexpected, truncated)
        return
    if doubtful and 5 * paired < 4 * least:
        changes = []
    if not changes:
        yield from _wrapped(missing, unexpected, truncated)
        return
    by_cause: dict[str, list[Change]] = {}
    for change in changes:
        by_cause.setdefault(change.cause, []).append(change)
    for cause, group in by_cause.items():
        yield _finding(cause, group, len(missing), len(surplus), left, truncated)


def _in_order(
    rules: list[Rule], missing: Sequence[str], unexpected: Sequence[str], truncated: bool
) -> Finding:
    shown = "; ".join(_shown_names(rule) for rule in rules[:3])
    return Finding(
        "rename",
        f"the same modules have other names: {shown}",
        f"both lists have the same keys in the same order under other names, such as {unexpected[0]} and {missing[0]}"
        + (" (the text is cut)" if truncated else ""),
        tuple(unexpected),
        "likely",
        Fix("apply the rules to the checkpoint, then load again", tuple(rules)),
    )


def _shown_names(rule: Rule) -> str:
    old = re.sub(r"\\(.)", r"\1", rule["pattern"].partition(")")[2].removesuffix(r"(\.|$)"))
    return f"{old!r} is {rule['replacement'][2:-2]!r}"


def _wrapped(missing: Sequence[str], unexpected: Sequence[str], truncated: bool) -> Iterator[Finding]:
    """Lists that were cut at different places: every key of one begins with a wrapper's name, none of the other."""
    for cause, keys, others in (("prefix_strip", unexpected, missing), ("prefix_add", missing, unexpected)):
        prefix = common_wrapper(keys)
        first = prefix.split(".")[0]
        bare = {key.removeprefix(prefix).split(".")[0] for key in keys} & {
            key.split(".")[0] for key in others
        }
        if not prefix or any(key.startswith(prefix) for key in others) or not (first in WRAPPERS or bare):
            continue
        op = "strip_prefix" if cause == "prefix_strip" else "add_prefix"
        side = "checkpoint" if cause == "prefix_strip" else "model"
        yield Finding(
            cause,
            f"the {side}'s keys carry the prefix {prefix!r}, the other side's do not",
            f"all {len(keys)} keys of one list begin with it, none of the other",
            tuple(keys),
            "likely",
            Fix("apply the rule to the checkpoint, then load again", ({"op": op, "prefix": prefix},)),
        )
        return


def _finding(
    cause: str, group: list[Change], missing: int, unexpected: int, left: list[str], truncated: bool
) -> Finding:
    pairs = [pair for change in group for pair in change.pairs]
    old, new = pairs[0]
    rules = tuple(rule for change in group for rule in _counted(change.rule))
    words = {
        "prefix_strip": "the checkpoint's keys carry more than the model's: {}",
        "prefix_add": "the model's keys carry more than the checkpoint's: {}",
        "parametrization": "weight normalisation is written in two ways: {}",
        "lora_adapter": "the adapter's layers have other names: {}",
        "rename": "the same modules have other names: {}",
    }[cause]
    whole = len(pairs) >= max(2, min(missing, unexpected)) and not left
    # Keys that fit are not in the text: a rule that stands at no fixed place may meet them too.
    fixed = all(
        rule["op"] != "rename" or str(rule["pattern"])[0] in "^(" or rule["pattern"][-1:] == "$"
        for rule in rules
    )
    confidence: Confidence = "certain" if whole and fixed else "likely"
    return Finding(
        cause,
        words.format("; ".join(_shown(change) for change in group[:3])),
        f"{old} -> {new}, "
        + (
            f"and {len(pairs) - 1} more of {unexpected} unexpected keys"
            if len(pairs) > 1
            else "the only unexpected key"
            if unexpected == 1
            else f"one of {unexpected} unexpected keys"
        )
        + (" (the text is cut)" if truncated else ""),
        tuple(key for key, _ in pairs),
        confidence,
        Fix("apply the rules to the checkpoint, then load again", rules),
    )


_COUNT = re.compile(r"(.*\\\.)(\d{1,4})(\\\.)")
_MOST_BLOCKS = 200


def _counted(rule: Rule) -> list[Rule]:
    """A block number that moves: the blocks between the two are in both lists of the sides, and move by one, too.

    Where the checkpoint counts from 1 and the model from 0, only the first and the last block are in the text.
    """
    old = _COUNT.fullmatch(str(rule.get("pattern", "")))
    new = re.fullmatch(r"(.*\.)(\d{1,4})(\.)", str(rule.get("replacement", "")))
    if old is None or new is None or not 1 < abs(int(old[2]) - int(new[2])) <= _MOST_BLOCKS:
        return [rule]
    first, last = int(new[2]), int(old[2])
    step = 1 if last > first else -1
    return [
        _rename(f"{old[1]}{number + step}{old[3]}", f"{new[1]}{number}{new[3]}")
        for number in range(first, last, step)
    ]


def _shown(change: Change) -> str:
    rule = change.rule
    if rule["op"] == "rename":
        return f"'{rule['pattern']}' is '{rule['replacement']}'"
    return f"the prefix {rule['prefix']!r}"


def _best(missing: list[str], unexpected: list[str]) -> tuple[Change | None, bool]:
    """The change that pairs off the most keys, and whether it can be believed alone."""
    names = set(missing)
    found: list[Change] = []
    weak: list[Change] = []
    for candidates in (_prefixes, _wrappers, _conventions, _segments):
        for cause, rule in candidates(missing[:_MOST], unexpected):
            change = _tried(cause, rule, unexpected, names)
            if change is not None and (
                candidates is not _segments or _supported(change, missing[:_MOST], unexpected)
            ):
                found.append(change)
        best = max(found, key=lambda c: len(c.pairs), default=None)
        if best is not None and 2 * len(best.pairs) >= min(len(unexpected), len(missing)):
            return best, True
    best = max(found, key=lambda c: len(c.pairs), default=None)
    if best is not None:
        return best, True
    return max(weak, key=lambda c: len(c.pairs), default=None), False


def _supported(change: Change, missing: list[str], unexpected: list[str]) -> bool:
    """Whether a change of names nobody announced is more than a coincidence: it explains most of what is there."""
    count, least, most = (
        len(change.pairs),
        min(len(missing), len(unexpected)),
        max(len(missing), len(unexpected)),
    )
    modules = {old.rpartition(".")[0] for old, _ in change.pairs}
    if _akin(change):
        return count * 3 >= least and (len(modules) > 1 or count * 2 >= most)
    return count >= 3 and len(modules) > 1 and count * 2 >= least and count * 4 >= most


def _akin(change: Change) -> bool:
    """Whether the old and the new name share a word, or one holds the other."""
    old, new = (
        set(re.findall(r"[a-z]+", re.sub(r"\\[1-9dwbg]|\^|\$", " ", str(change.rule[name])).lower()))
        for name in ("pattern", "replacement")
    )
    return bool(old & new) or not old or not new


def _tried(cause: str, rule: Rule, unexpected: list[str], names: set[str]) -> Change | None:
    change = Change(cause, rule, ())
    pairs = [(key, new) for key in unexpected if (new := change.apply(key)) != key and new in names]
    if not pairs or (rule["op"] == "add_prefix" and len(pairs) * 2 < len(unexpected)):
        return None
    return Change(cause, rule, tuple(pairs))


Candidates = Iterator[tuple[str, Rule]]


def _prefixes(missing: list[str], unexpected: list[str]) -> Candidates:
    for cause, longer, shorter in (
        ("prefix_strip", unexpected, missing),
        ("prefix_add", missing, unexpected),
    ):
        names, votes = set(shorter), Counter[str]()
        for key in longer:
            at = key.find(".")
            while at >= 0:
                if key[at + 1 :] in names:
                    votes[key[: at + 1]] += 1
                    break
                at = key.find(".", at + 1)
        for prefix, _ in votes.most_common(2):
            yield (
                cause,
                {
                    "op": cause.replace("prefix_strip", "strip_prefix").replace("prefix_add", "add_prefix"),
                    "prefix": prefix,
                },
            )


def _wrappers(missing: list[str], unexpected: list[str]) -> Candidates:
    """Wrapper segments anywhere: ``layers.0._checkpoint_wrapped_module.attn``."""
    for cause, keys in (("prefix_strip", unexpected), ("prefix_add", missing)):
        seen = Counter(part for key in keys for part in set(key.split(".")) if part in WRAPPERS)
        for part, _ in seen.most_common():
            if cause == "prefix_strip":
                yield cause, _rename(rf"(^|\.){re.escape(part)}\.", r"\1")


_WEIGHT_NORM = (
    ("weight_g", "parametrizations.weight.original0"),
    ("weight_v", "parametrizations.weight.original1"),
)


def _conventions(missing: list[str], unexpected: list[str]) -> Candidates:
    """Names that changed once for everybody, and other separators."""
    for mark in ("/", "::"):
        if any(mark in key for key in unexpected):
            yield "rename", _rename(mark, ".")
    for old, new in (*_WEIGHT_NORM, *((new, old) for old, new in _WEIGHT_NORM)):
        yield "parametrization", _rename(rf"\.{re.escape(old)}$", f".{new}")
    for old, new in (("gamma", "weight"), ("beta", "bias")):
        yield "rename", _rename(rf"\.{old}$", f".{new}")
    for old, new in ATTENTION:
        yield "rename", _rename(rf"\.{old}\.", f".{new}.")
    yield "lora_adapter", _rename(r"\.lora_([AB])_\d+\.", r".lora_\1.")


def _segments(missing: list[str], unexpected: list[str]) -> Candidates:
    """One run of segments in the place of another, between a beginning and an end that are equal."""
    by_end: dict[str, list[str]] = {}
    for key in missing:
        by_end.setdefault(key.rpartition(".")[2], []).append(key)
    votes: Counter[tuple[str, str, str]] = Counter()
    for key in unexpected[:200]:
        if is_buffer(key):
            continue
        pairs = [_span(key, other) for other in by_end.get(key.rpartition(".")[2], missing)[:200]]
        closest = max((equal for equal, *_ in pairs), default=0)
        for equal, place, old, new in set(pairs):
            if equal == closest and (old or new):
                votes[place, old, new] += 1
    for (place, old, new), _ in votes.most_common(12):
        rule = _substitution(place, old, new)
        if rule is not None:
            yield ("lora_adapter" if "lora_" in old else "rename"), rule


def _span(key: str, other: str) -> tuple[int, str, str, str]:
    """(equal parts, where the difference lies, the parts here, the parts there)."""
    a, b = key.split("."), other.split(".")
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    equal = start + end
    if start and start == len(a) - end and not a[start - 1].isdecimal():
        start -= 1  # parts that are only inserted need the one before them as an anchor
    elif start == 1 and start == len(a) - end:
        start -= 1
    old, new = a[start : len(a) - end], b[start : len(b) - end]
    place = "start" if start == 0 else "end" if end == 0 else "middle"
    return equal, place, ".".join(old), ".".join(new)


def _anchored(change: Change) -> Change:
    """The change with the part before it in its pattern, so that keys which fit already stay as they are.

    Only the keys that differ are in a text; an unanchored ``.1.`` or ``.gate.`` would rename others too.
    """
    old_key, new_key = change.pairs[0]
    _, place, old, new = _span(old_key, new_key)
    if (
        change.rule["op"] != "rename"
        or change.rule["pattern"] != rf"\.{re.escape(old)}\."
        or place != "middle"
    ):
        return change
    before: dict[str, None] = {}
    for key, _ in change.pairs:
        for match in re.finditer(rf"(?<![^.])([^.]+)\.{re.escape(old)}(?=\.)", key):
            before[r"\d+" if match[1].isdecimal() else re.escape(match[1])] = None
    if not before or len(before) > 6:
        return change
    rule = _rename(rf"(^|\.)({'|'.join(before)})\.{re.escape(old)}\.", rf"\1\2.{new}." if new else r"\1\2.")
    if list(before) == [r"\d+"]:  # a number says nothing of where it stands: the part before it does
        parents = dict.fromkeys(
            re.escape(match[1])
            for key, _ in change.pairs
            for match in re.finditer(rf"(?<![^.])([^.]+)\.\d+\.{re.escape(old)}(?=\.)", key)
        )
        if 0 < len(parents) <= 6:
            middle = "|".join(parents)
            rule = _rename(
                rf"(^|\.)({middle})\.(\d+)\.{re.escape(old)}\.", rf"\1\2.\3.{new}." if new else r"\1\2.\3."
            )
    anchored = Change(change.cause, rule, change.pairs)
    return anchored if all(anchored.apply(key) == want for key, want in change.pairs) else change


def _substitution(place: str, old: str, new: str) -> Rule | None:
    if place == "start":
        return _rename(f"^{re.escape(old)}\\." if old else "^", f"{new}." if new else "")
    if not old:
        return None
    if place == "end":
        return _rename(rf"\.{re.escape(old)}$", f".{new}") if new else None
    return _rename(rf"\.{re.escape(old)}\.", f".{new}." if new else ".")


def _rename(pattern: str, replacement: str) -> Rule:
    return {"op": "rename", "pattern": pattern, "replacement": replacement, "required": False}
