"""Whole modules that only one side has: parts that training kept beside, other heads, another network."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from ..findings import Confidence, Finding, Fix
from ..text import counted, folded
from ..vetoes import STATISTICS, is_buffer
from .module_patterns import modules
from .names import HEADS, HOLDERS, aside, common_wrapper, leaf, patterns
from .parsed import Parsed


def surplus_modules(parsed: Parsed, fitting: Sequence[str] = ()) -> Iterator[Finding]:
    """Whole modules that the model does not have, or does not get."""
    if parsed.unexpected and parsed.missing:
        yield from _heads_differ(parsed)
        return
    kind = one_kind(parsed)
    if kind is not None:
        yield kind
        return
    if parsed.unexpected and not parsed.mismatched:
        depth = None
        if not parsed.truncated and parsed.class_name:
            depth = _another_depth(parsed.unexpected, "checkpoint", "model")
        if depth is not None:
            yield depth
            return
        tops = {key.split(".")[0] for key in parsed.unexpected}
        wrapper = common_wrapper(parsed.unexpected)
        backbone = _looks_whole([key.removeprefix(wrapper) for key in parsed.unexpected])
        drop = modules(parsed.unexpected)
        if (
            wrapper
            and (backbone or len(parsed.unexpected) <= 2)
            and wrapper.split(".")[0] in HOLDERS
            and not aside(drop)
        ):
            yield Finding(
                "prefix_strip",
                f"the checkpoint's keys carry the prefix {wrapper!r}",
                "all unexpected keys begin with it; the other list is not in the text",
                tuple(parsed.unexpected),
                "likely" if wrapper.split(".")[0] in ("module", "_orig_mod") else "guess",
                Fix(
                    f"strip {wrapper!r}, and check against the model",
                    ({"op": "strip_prefix", "prefix": wrapper},),
                ),
            )
        elif backbone and not aside(drop):
            yield Finding(
                "arch_mismatch",
                f"the checkpoint has a whole network that the model does not: {folded(sorted(tops), 3)}",
                "the other list is not in the text, so the two may also differ in a prefix only",
                tuple(parsed.unexpected),
                "guess",
                Fix("compare class and options with what trained the checkpoint; paste the missing keys too"),
            )
        else:
            yield extra_modules(parsed)
    elif parsed.missing and not parsed.mismatched:
        yield from _only_missing(parsed, fitting)


def extra_modules(parsed: Parsed, fitting: Sequence[str] = ()) -> Finding:
    """Whole modules that the model does not have are left out; `fitting` keys must stay."""
    drop = modules(parsed.unexpected, fitting)
    count, named = len(parsed.unexpected), ", ".join(drop[:3])
    return Finding(
        "extra_modules",
        f"the checkpoint has modules that the model does not: {named}",
        f"{count} unexpected keys, none missing",
        tuple(parsed.unexpected),
        "likely",
        Fix(
            "leave them out, where the model does without them; nothing of the model stays new",
            ({"op": "drop", "keys": drop},),
        ),
    )


def _looks_whole(keys: Sequence[str]) -> bool:
    """Whether keys are those of a network's body: many modules, or numbered layers."""
    tops = {key.split(".")[0] for key in keys}
    numbered = sum(bool(re.search(r"\d", key)) for key in keys)
    return len(keys) >= 4 and (len(tops) >= 3 or 2 * numbered >= len(keys))


_INNER = re.compile(r"(\.?\d+\.\w+)\.(\d{1,18})\.")


def _deeper(keys: Sequence[str]) -> tuple[str, int] | None:
    """Paths and the first number of blocks that follow others which are not in the list."""
    numbers: dict[str, set[int]] = {}
    for key in keys:
        found = re.match(r"(.*?)\.?(?<!\w)(\d{1,18})\.", key)
        if found is None:
            return None
        inner = _INNER.match(key, found.end(1)) if found[2] == "0" else None
        stem, number = (key[: inner.end(1)], inner[2]) if inner else (found[1], found[2])
        numbers.setdefault(stem, set()).add(int(number))
    for several in numbers.values():
        if min(several) == 0 or len(several) != max(several) - min(several) + 1:
            return None
    return (", ".join(list(numbers)[:4]) or "the top", min(map(min, numbers.values())))


def one_kind(parsed: Parsed) -> Finding | None:
    """Only one list, and in it one kind of entry that recurs from block to block: the blocks are built otherwise."""
    if bool(parsed.missing) == bool(parsed.unexpected) or parsed.mismatched:
        return None
    keys = parsed.missing or parsed.unexpected
    side, other = ("model", "checkpoint") if parsed.missing else ("checkpoint", "model")
    kinds = {".".join("*" if part.isdecimal() else part for part in key.split(".")) for key in keys}
    leaves = {leaf(key) for key in keys}
    if len(keys) >= 2 and leaves <= STATISTICS and parsed.missing:
        return Finding(
            "missing_buffers",
            f"only running statistics are missing: {folded(keys, 2)}",
            f"all {len(keys)} missing keys are a norm's running_mean or running_var",
            tuple(keys),
            "likely",
            Fix(
                "they start as new: the norm must see data in training mode before it is evaluated; or build the "
                "checkpoint's "
                "norm (track_running_stats)",
                load={"allow_missing": sorted(f"*.{each}" for each in leaves)},
            ),
        )
    suffixed = all(re.search(r"_(?:l[1-9]\d*(?:_reverse)?|l0_reverse)$", each) for each in leaves)
    biases = leaves == {"bias"} and len(keys) >= 3
    numbered = sum(bool(re.search(r"\.\d+\.\w+\.\w+", key)) for key in keys)
    parts = {kind.rpartition("*.")[2].split(".")[0] for kind in kinds if "*" in kind}
    inside = 5 * numbered >= 4 * len(keys) and len(keys) > len(kinds) and 0 < len(parts) <= 2
    if not (suffixed or biases or inside) or any(
        common_wrapper([key]) in ("module.", "_orig_mod.") for key in keys
    ):
        return None
    what = (
        "further layers or directions of the recurrent network" if suffixed
        else "biases" if biases
        else ", ".join(sorted(parts)) + " in its blocks"
    )  # fmt: skip
    return Finding(
        "arch_mismatch",
        f"the {side} has {what}, the {other} has not",
        f"{len(keys)} keys of one kind: {folded(keys, 2)}",
        tuple(keys),
        "likely",
        Fix(
            f"build the model as the checkpoint's was: look for the option that gives {what}; no rule makes up weights"
        ),
    )


def _another_depth(keys: Sequence[str], side: str, other: str) -> Finding | None:
    deeper = _deeper(keys)
    if deeper is None:
        return None
    path, first = deeper
    return Finding(
        "arch_mismatch",
        f"the {side} has more blocks under {path!r}: the {other}'s end before number {first}",
        f"{len(keys)} keys, all in blocks from number {first} on",
        tuple(keys),
        "likely",
        Fix(
            f"build the model with the checkpoint's depth ({first if side == 'model' else 'more than ' + str(first)} blocks)"
        ),
    )


def _only_missing(parsed: Parsed, fitting: Sequence[str]) -> Iterator[Finding]:
    keys = parsed.missing
    depth = (
        _another_depth(keys, "model", "checkpoint") if not parsed.truncated and parsed.class_name else None
    )
    if depth is not None:
        yield depth
        return
    wrapper = common_wrapper(keys)
    first = wrapper.split(".")[0]
    body = [key.removeprefix(wrapper) for key in keys]
    if first in ("module", "_orig_mod") and len(keys) >= 2 and any(key.endswith(".weight") for key in keys):
        yield Finding(
            "prefix_add",
            f"the model's keys carry the prefix {wrapper!r}, which a wrapper adds",
            "all missing keys begin with it; the other list is not in the text",
            tuple(keys),
            "likely",
            Fix(
                f"add {wrapper!r}, or load into the module inside the wrapper",
                ({"op": "add_prefix", "prefix": wrapper},),
            ),
        )
        return
    heads = [key for key in keys if _is_head(key)]
    if (
        len(heads) == len(keys)
        or not _looks_whole(body)
        or len({key.split(".")[0] for key in body}) == 1 < len(keys) < 9
    ):
        allow = modules(keys, fitting)
        yield Finding(
            "partial_model",
            f"the checkpoint has no {', '.join(allow[:3])}: these stay new",
            f"{len(keys)} missing keys, nothing unexpected",
            tuple(keys),
            "likely" if heads else "guess",
            Fix(
                f"they stay as the model initialised them ({counted(len(keys), 'tensor')}) and must be trained",
                load={"allow_missing": allow},
            ),
        )
        return
    yield Finding(
        "prefix_strip",
        "nothing of the checkpoint has the model's names: a wrapper's prefix, or the weights lie one level deeper",
        f"{len(keys)} missing keys of a whole network; the unexpected ones are not in the text",
        tuple(keys),
        "guess",
        Fix(
            "strip what a wrapper added (_orig_mod. of torch.compile, module. of DDP); ckptkit inspect shows it",
            ({"op": "rename", "pattern": r"^(_orig_mod\.|module\.)+", "replacement": "", "required": False},),
        ),
    )


def _is_head(key: str) -> bool:
    """Whether a key lies in an output layer: named like one, and not inside a numbered block."""
    path = key.rpartition(".")[0]
    return bool(HEADS.search(path)) and "norm" not in path.lower() and not re.search(r"\.\d+\.\w+", path)


def _heads_differ(parsed: Parsed) -> Iterator[Finding]:
    wrapper = common_wrapper([*parsed.missing, *parsed.unexpected])
    ours = [key.removeprefix(wrapper) for key in parsed.missing]
    theirs = [key.removeprefix(wrapper) for key in parsed.unexpected]
    drop, allow = modules(parsed.unexpected, parsed.missing), modules(parsed.missing, parsed.unexpected)
    weights = [key for key in (*ours, *theirs) if not is_buffer(key)]
    heads = all(HEADS.search(key) or "embedding" in key for key in weights)
    tops = ({key.split(".")[0] for key in ours}, {key.split(".")[0] for key in theirs})
    apart = not (tops[0] & tops[1]) and max(map(len, tops)) <= 6
    confidence: Confidence = "likely" if heads and apart else "guess"
    if (heads and not _numbered_inside(theirs)) or (
        apart
        and len(parsed.missing) + len(parsed.unexpected) <= 8
        and any(map(HEADS.search, [*ours, *theirs]))
    ):
        buffers_too = [
            each for each in patterns(key for key in parsed.unexpected if is_buffer(key)) if each not in drop
        ]
        computed = sorted(key for key in parsed.unexpected if is_buffer(key))
        kept = [each for each in drop if not _any_begins(computed, each[:-1])]
        yield Finding(
            "partial_model",
            f"the bodies agree, the ends differ: the checkpoint has {', '.join(kept[:3])}, the model {', '.join(allow[:3])}",
            f"{len(parsed.unexpected)} unexpected and {len(parsed.missing)} missing keys, all in these modules",
            (*parsed.unexpected, *parsed.missing),
            confidence,
            Fix(
                f"load the body alone: {', '.join(allow[:3])} ({counted(len(parsed.missing), 'tensor')}) stay new "
                "and must be trained",
                ({"op": "drop", "keys": [*kept, *buffers_too]},),
                {"allow_missing": allow},
            ),
        )
    else:
        yield Finding(
            "arch_mismatch",
            f"checkpoint and model are built of different blocks: {folded(theirs, 2)} against {folded(ours, 2)}",
            f"{len(parsed.unexpected)} unexpected and {len(parsed.missing)} missing keys that no renaming brings together",
            (*parsed.unexpected, *parsed.missing),
            "likely",
            Fix(
                "build the model with the options (variant, depth, kind of blocks) that trained the checkpoint"
            ),
        )


def _any_begins(ordered: Sequence[str], start: str) -> bool:
    place = bisect_left(ordered, start)
    return place < len(ordered) and ordered[place].startswith(start)


def _numbered_inside(keys: Sequence[str]) -> bool:
    """Whether most keys lie in numbered blocks."""
    weights = [key for key in keys if not is_buffer(key)]
    return 2 * sum(bool(re.search(r"\.\d+\.\w+\.", key)) for key in weights) > len(weights)
