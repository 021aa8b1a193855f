"""Conventions that one list alone gives away: weight normalisation, adapters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..findings import Finding, Fix
from ..vetoes import ADAPTER, named
from .parsed import Parsed

_OLD = re.compile(r"\.weight_[gv]$")
_NEW = re.compile(r"\.parametrizations\.weight\.original[01]$")


def special_findings(parsed: Parsed) -> Iterator[Finding]:
    """Findings from names that mean one thing wherever they stand."""
    spectral = list(_spectral_norm(parsed))
    yield from spectral
    if not spectral:
        yield from _weight_norm(parsed)
    yield from _adapters(parsed)
    yield from _flat(parsed)


def _flat(parsed: Parsed) -> Iterator[Finding]:
    """FSDP keeps all parameters of a module in one, which is no tensor of anybody else."""
    for keys, where in ((parsed.unexpected, "checkpoint"), (parsed.missing, "model")):
        flat = [key for key in keys if re.search(r"(?:^|\.)_?flat_param(?:_\d+)?$", key)]
        if flat:
            yield Finding(
                "sharding",
                f"the {where} is sharded by FSDP: its parameters lie flat in {flat[0]}",
                f"{len(flat)} flat of {len(keys)} keys",
                (*parsed.missing, *parsed.unexpected),
                "likely",
                Fix(
                    "save it with StateDictType.FULL_STATE_DICT, or load it into the model wrapped as it was; flat "
                    "parameters have no names"
                ),
            )
            return


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
    if 2 * len(keys) < min(len(parsed.missing), len(parsed.unexpected)):
        return  # a part of what differs; the names of the rest come first
    stems = {key.split(".weight_")[0].split(".parametrizations.")[0] for key in keys}
    plain = [
        key
        for key in (*parsed.missing, *parsed.unexpected)
        if key.removesuffix(".weight") in stems and key.endswith(".weight")
    ]
    if plain:
        without = "model" if plain[0] in parsed.missing else "checkpoint"
        yield Finding(
            "parametrization",
            f"weight normalisation stands on one side only: the {without} has the plain weights",
            f"{plain[0]} against {keys[0]}",
            (*keys, *plain),
            "certain",
            Fix(
                "call remove_weight_norm (or parametrize.remove_parametrizations) on the side that has it, or "
                "build the model "
                "as the checkpoint's was; no renaming folds two tensors into one"
            ),
        )
        return
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


_SPECTRAL = (("_orig", ".original"), ("_u", ".0._u"), ("_v", ".0._v"))


def _spectral_norm(parsed: Parsed) -> Iterator[Finding]:
    old = re.compile(r"\.weight_(?:orig|u)$")
    both = [*parsed.loose, *parsed.missing, *parsed.unexpected]
    keys = [key for key in both if old.search(key)]
    if not keys or any(key.endswith("_mask") for key in both):
        return
    new = [key for key in both if re.search(r"\.parametrizations\.weight\.(?:original|0\._u)$", key)]
    wrapped = keys[0].startswith("module.") and not parsed.unexpected
    rules: tuple[dict[str, Any], ...] = ()
    if wrapped:
        title = "a spectral norm asks for weight_orig, which the checkpoint does not have under that name"
        advice = "add the wrapper's prefix: the checkpoint was saved without it"
        rules = ({"op": "add_prefix", "prefix": "module."},)
    elif new:
        title = (
            "spectral normalisation has other names since torch 1.9: weight_orig, weight_u against "
            "parametrizations.weight"
        )
        advice = "rename them: the tensors are the same"
        forth = keys[0] in parsed.unexpected
        for short, long in _SPECTRAL:
            names = (rf"\.weight{short}$", f".parametrizations.weight{long}")
            if not forth:
                names = (rf"\.parametrizations\.weight{re.escape(long)}$", f".weight{short}")
            rules += ({"op": "rename", "pattern": names[0], "replacement": names[1], "required": False},)
    else:
        side = "checkpoint" if keys[0] in parsed.unexpected else "model"
        title = f"a spectral norm stands in the {side} only"
        advice = (
            "remove it there (remove_spectral_norm) before saving or loading, "
            "or build the model as the checkpoint's was"
        )
    every = tuple(dict.fromkeys([*keys, *new, *(k for k in both if k.endswith(".weight_v"))]))
    yield Finding("parametrization", title, keys[0], every, "likely", Fix(advice, rules))


def _adapters(parsed: Parsed) -> Iterator[Finding]:
    keys = [key for key in parsed.unexpected if re.search(r"\.lora_[AB]_\d+\.", key)]
    if not keys:
        yield from _adapter_alone(parsed)
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


def _adapted(key: str) -> bool:
    part = named(key)
    return part is not None and part.scheme == ADAPTER and ".base_layer." not in key


def _adapter_alone(parsed: Parsed) -> Iterator[Finding]:
    """All keys of one list are an adapter's, and the other list has none of them."""
    for keys, others, where in (
        (parsed.unexpected, parsed.missing, "checkpoint"),
        (parsed.missing, parsed.unexpected, "model"),
    ):
        own = [key for key in keys if _adapted(key)]
        based = [key for key in keys if ".base_layer." in key]
        if own and based and not any(".base_layer." in key or _adapted(key) for key in others):
            yield _wrapped_by_an_adapter([*own, *based], where)
            return
        if len(own) * 10 < len(keys) * 8 or not own or any(_adapted(key) for key in others):
            continue
        advice = (
            "load the base weights first, then the adapter with PeftModel.from_pretrained (or the pipeline's "
            "load_lora_weights)"
            if where == "checkpoint"
            else "load the base weights before get_peft_model wraps the model, or the adapter file into the wrapped one"
        )
        yield Finding(
            "lora_adapter",
            f"the {where} has an adapter's layers, the other side is the plain model",
            f"{len(own)} keys such as {own[0]}",
            tuple(own),
            "likely",
            Fix(advice),
        )
        return


def _wrapped_by_an_adapter(keys: list[str], where: str) -> Finding:
    """One side is a model inside its adapter, base weights included; the other is the plain model."""
    advice = (
        "merge the adapter into the base (merge_and_unload()) and save that; dropping the lora_ tensors would lose what was "
        "trained; or wrap the model with get_peft_model and the same config before loading"
        if where == "checkpoint"
        else "load the base weights before get_peft_model wraps the model"
    )
    return Finding(
        "lora_adapter",
        f"the {where} is a model inside its adapter, the other side is the plain model",
        f"{keys[0]} and {keys[-1]}",
        tuple(keys),
        "certain",
        Fix(advice),
    )
