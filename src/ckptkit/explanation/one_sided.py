"""Keys that only one side has: a root, buffers, whole modules, a tied output, a quantised or a wrapped file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..findings import Finding, Fix
from ..text import folded
from ..vetoes import QUANTISED, is_buffer, named
from .module_patterns import modules
from .names import (
    ATTENTION,
    HOLDERS,
    ROOTS,
    TOP_NAMES,
    aside,
    is_parameter,
    leaf,
    patterns,
)
from .parsed import Parsed

_OUTPUTS = re.compile(
    r"(?:^|\.)(?:lm_head|output|output_projection|embed_out|proj_out|predictions\.decoder|cls\.predictions\.decoder)\.weight$"
)


def nesting(parsed: Parsed) -> Iterator[Finding]:
    """The weights lie one level deeper."""
    tops = [key for key in parsed.unexpected if "." not in key and key in TOP_NAMES]
    if {"state", "param_groups"} <= set(parsed.unexpected):
        yield Finding(
            "wrong_object",
            "this is an optimizer's state_dict, not a model's",
            "its keys are 'state' and 'param_groups'",
            ("state", "param_groups"),
            "certain",
            Fix("load the file, or the part of it, that holds the model"),
        )
        return
    loose = [key for key in parsed.loose if key in TOP_NAMES or key.endswith("state_dict")]
    if tops:
        root = next((name for name in ROOTS if name in tops), None)
        fix = Fix("open the part that holds the weights", load={"root": root}) if root else None
        yield Finding(
            "nesting",
            f"a whole training file was loaded: the weights lie under {root!r}"
            if root
            else "a whole training file was loaded",
            f"unexpected: {folded(tops, 6)}",
            tuple(tops),
            "certain" if root else "likely",
            fix,
        )
    elif _parts_of_a_run(parsed):
        name = (parsed.class_name or "").lower()
        root = next((key for key in parsed.unexpected if key.lower() == name), "auto")
        yield Finding(
            "nesting",
            "the file holds several things by name, and the weights are one of them",
            f"unexpected: {folded(parsed.unexpected, 6)}; the model's keys have dots",
            tuple(parsed.unexpected),
            "likely",
            Fix(
                "open the part that holds the weights; python -m ckptkit inspect FILE lists them",
                load={"root": root},
            ),
        )
    elif loose:
        yield Finding(
            "nesting",
            f"the file has nothing under {loose[0]!r}, where the script looks for the weights",
            f"KeyError: {loose[0]!r}",
            tuple(loose),
            "likely",
            Fix(
                "let ckptkit find the weights; python -m ckptkit inspect FILE shows what there is",
                load={"root": "auto"},
            ),
        )


def _parts_of_a_run(parsed: Parsed) -> bool:
    """Whether the file's keys are names without dots where the model's have them."""
    keys = parsed.unexpected
    return (
        len(keys) >= 2
        and not any("." in key or "/" in key or is_parameter(key) or is_buffer(key) for key in keys)
        and len(parsed.missing) >= 2
        and all("." in key for key in parsed.missing)
        and not parsed.mismatched
    )


def quantised(parsed: Parsed) -> Iterator[Finding]:
    """Packed weights and their scales on one side only."""
    keys = [key for key in (*parsed.unexpected, *parsed.missing) if _packed(key)]
    if not keys:
        return
    where = "checkpoint" if set(keys) & set(parsed.unexpected) else "model"
    yield Finding(
        "quantized",
        f"the {where} is quantised, the other side is not",
        f"{len(keys)} entries such as {keys[0]}",
        tuple(keys),
        "certain",
        Fix(
            "build the model with the same quantisation, or take the weights before it; renaming cannot unpack them"
        ),
    )


def _packed(key: str) -> bool:
    part = named(key)
    return part is not None and part.scheme == QUANTISED and part.sure


def old_names(parsed: Parsed) -> Iterator[Finding]:
    """Only missing keys, all of a kind that had another name before: norms, attention projections."""
    keys = parsed.missing
    if not keys or parsed.unexpected or parsed.mismatched:
        return
    norms = all(re.search(r"(?i)(?:layer_?norm|\.ln_?\w*)\.(?:weight|bias)$", key) for key in keys)
    attention = all(re.search(r"\.to_(?:q|k|v|out\.0)\.(?:weight|bias)$", key) for key in keys)
    if len(keys) < 2 or not (norms or attention):
        return
    if norms:
        pairs = [
            (r"(?i)(layer_?norm\w*|ln_?\w*)\.gamma$", r"\1.weight"),
            (r"(?i)(layer_?norm\w*|ln_?\w*)\.beta$", r"\1.bias"),
        ]
        title = "only norms are missing: old checkpoints call their weight and bias gamma and beta"
    else:
        pairs = [(rf"\.{old}\.", f".{new}.") for old, new in ATTENTION]
        title = "only attention projections are missing: older checkpoints call them query, key, value and proj_attn"
    yield Finding(
        "rename",
        title,
        f"{folded(keys, 2)}; the unexpected keys are not in the text",
        tuple(keys),
        "guess",
        Fix(
            "rename them, and look whether the checkpoint has those names (python -m ckptkit inspect FILE)",
            tuple(
                {"op": "rename", "pattern": old, "replacement": new, "required": False} for old, new in pairs
            ),
        ),
    )


def cut_keys(parsed: Parsed) -> Iterator[Finding]:
    """The text breaks off inside its first key, and that begins with a wrapper's name."""
    if parsed.missing or parsed.unexpected or not parsed.cut or not parsed.headed:
        return
    first = parsed.cut[0].split(".")[0]
    if first in HOLDERS and "." in parsed.cut[0]:
        yield Finding(
            "prefix_strip",
            f"the checkpoint's keys carry the prefix {first + '.'!r}",
            f"the text breaks off in {parsed.cut[0]!r}",
            (),
            "likely" if first in ("module", "_orig_mod") else "guess",
            Fix(
                f"strip {first + '.'!r}, and check against the model",
                ({"op": "strip_prefix", "prefix": f"{first}."},),
            ),
        )


def tied(parsed: Parsed) -> Iterator[Finding]:
    """One output weight that is the embedding."""
    for keys, surplus in ((parsed.missing, False), (parsed.unexpected, True), (parsed.loose, True)):
        weights = [key for key in keys if _OUTPUTS.search(key)]
        if not weights or len(keys) > len(weights) or (parsed.missing and parsed.unexpected):
            continue
        fix = (
            Fix(
                f"leave it out: the model uses its embedding for {weights[0]}",
                ({"op": "drop", "keys": weights},),
            )
            if surplus
            else Fix(
                f"{weights[0]} is the embedding where the model ties them: call tie_weights() after loading; else "
                "that one tensor stays new and must be trained",
                load={"allow_missing": weights},
            )
        )
        yield Finding(
            "tied_weights",
            "the output weight is tied to the embedding on one side and written out on the other",
            f"only {weights[0]}",
            tuple(weights),
            "likely",
            fix,
        )
        return


def buffers(parsed: Parsed) -> Iterator[Finding]:
    """Entries that the model computes itself."""
    running = "running stats buffer" in parsed.text
    surplus = [key for key in parsed.unexpected if is_buffer(key) or running or not is_parameter(key)]
    left_over = set(surplus)
    rest = [key for key in parsed.unexpected if key not in left_over]
    odd = [key for key in parsed.mismatched if is_buffer(key.key)]
    if odd and len(odd) == len(parsed.mismatched) and not parsed.missing:
        keys = [m.key for m in odd]
        yield Finding(
            "extra_buffers",
            f"only derived buffers differ in their shape: {folded(keys, 2)}",
            f"{odd[0].key}: the model computes it for its own size",
            tuple(keys),
            "likely",
            Fix(
                "leave them out and let the model compute its own: no learned weight stays new",
                ({"op": "drop", "keys": patterns(keys)},),
                {"allow_missing": patterns(keys)},
            ),
        )
    known = [key for key in surplus if is_buffer(key) or running]
    if (
        surplus
        and not parsed.missing
        and not parsed.mismatched
        and (known or len(surplus) == len(parsed.unexpected))
    ):
        whole = _named_modules(rest)
        apart = not known and (_looks_like_training(surplus) or aside(modules(surplus)))
        if len(surplus) >= len(rest) and not apart:
            drop = [*patterns(surplus), *whole]
            yield Finding(
                "extra_buffers",
                f"the checkpoint has buffers that the model computes itself or no longer has: {folded(surplus, 2)}",
                f"{len(surplus)} of {len(parsed.unexpected)} unexpected keys are no weights",
                tuple(surplus),
                "certain" if known else "likely",
                Fix(
                    f"leave them out, with {', '.join(whole)}" if whole else "leave them out",
                    ({"op": "drop", "keys": drop},),
                ),
            )
    absent = [key for key in parsed.missing if is_buffer(key)]
    if absent and len(absent) == len(parsed.missing) and not parsed.unexpected:
        yield Finding(
            "missing_buffers",
            f"only buffers are missing, which the model computes itself: {folded(absent, 2)}",
            f"all {len(absent)} missing keys are ids, masks or frequencies",
            tuple(absent),
            "certain",
            Fix("let them be missing: no learned weight stays new", load={"allow_missing": patterns(absent)}),
        )


def _looks_like_training(keys: Sequence[str]) -> bool:
    """Counters and decays under a module of their own (an EMA's) are that module, not buffers of the model."""
    return len({key.split(".")[0] for key in keys}) == 1 and all(
        leaf(key) in ("decay", "num_updates", "step") for key in keys
    )


def _named_modules(keys: Sequence[str]) -> list[str]:
    return modules(keys) if keys else []
