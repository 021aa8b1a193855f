"""Conventions that one list alone gives away: weight normalisation, adapters."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..findings import Finding, Fix
from .parsed import Parsed

_OLD = re.compile(r"\.weight_[gv]$")
_NEW = re.compile(r"\.parametrizations\.weight\.original[01]$")


def special_findings(parsed: Parsed) -> Iterator[Finding]:
    """Findings from names that mean one thing wherever they stand."""
    yield from _weight_norm(parsed)
    yield from _spectral_norm(parsed)
    yield from _adapters(parsed)


def _weight_norm(parsed: Parsed) -> Iterator[Finding]:
    squeezed = re.sub(r"[\s-]+", "", parsed.text) if "original0" in parsed.text else ""
    new_wanted = any(map(_NEW.search, parsed.missing)) or any(map(_OLD.search, parsed.unexpected))
    old_wanted = any(map(_OLD.search, parsed.missing)) or any(map(_NEW.search, parsed.unexpected))
    if not (new_wanted or old_wanted) and "parametrizations.weight.original0" in squeezed:
        new_wanted = "newlyinitialized" in squeezed or "Missing" in squeezed
        old_wanted = not new_wanted
    if not (new_wanted or old_wanted):
        return
    pairs = [
        (r"\.weight_g$", ".parametrizations.weight.original0"),
        (r"\.weight_v$", ".parametrizations.weight.original1"),
    ]
    if old_wanted and not new_wanted:
        pairs = [
            (r"\.parametrizations\.weight\.original0$", ".weight_g"),
            (r"\.parametrizations\.weight\.original1$", ".weight_v"),
        ]
    keys = [key for key in (*parsed.missing, *parsed.unexpected) if _OLD.search(key) or _NEW.search(key)]
    yield Finding(
        "parametrization",
        "weight normalisation has other names since torch 2.1: weight_g, weight_v against parametrizations.weight",
        keys[0] if keys else "parametrizations.weight.original0",
        tuple(keys),
        "certain" if keys else "likely",
        Fix(
            "rename them: the tensors are the same",
            tuple(
                {"op": "rename", "pattern": old, "replacement": new, "required": False} for old, new in pairs
            ),
        ),
    )


def _spectral_norm(parsed: Parsed) -> Iterator[Finding]:
    keys = [key for key in (*parsed.loose, *parsed.missing) if re.search(r"\.weight_(?:orig|u)$", key)]
    if not keys or parsed.unexpected:
        return
    wrapped = keys[0].startswith("module.")
    yield Finding(
        "parametrization",
        "a spectral norm asks for weight_orig, which the checkpoint does not have under that name",
        keys[0],
        tuple(keys),
        "likely",
        Fix(
            "add the wrapper's prefix: the checkpoint was saved without it"
            if wrapped
            else "save the checkpoint with the norm applied",
            ({"op": "add_prefix", "prefix": "module."},) if wrapped else (),
        ),
    )


def _adapters(parsed: Parsed) -> Iterator[Finding]:
    keys = [key for key in parsed.unexpected if re.search(r"\.lora_[AB]_\d+\.", key)]
    if not keys:
        return
    yield Finding(
        "lora_adapter",
        "the adapter's name got into the names of its layers",
        keys[0],
        tuple(keys),
        "likely",
        Fix(
            "take it out again",
            (
                {
                    "op": "rename",
                    "pattern": r"\.lora_([AB])_\d+\.",
                    "replacement": r".lora_\1.",
                    "required": False,
                },
            ),
        ),
    )
