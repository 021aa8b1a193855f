"""The names of tensors that are stored in parts: the one table of schemes and their parts.

A part's name says three things: the tensor that it is a part of (its base), the scheme, and the part's role in it.
Names that also mean something else (a ``scale`` may be a norm's weight) are marked as doubtful; what stands beside
them decides, in `parts`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PRUNING, WEIGHT_NORM, SPECTRAL = "pruning", "weight normalisation", "spectral normalisation"
PARAMETRIZED, ADAPTER, QUANTISED = "a parametrization", "an adapter", "quantisation"
UNKNOWN = "parts of its own"


@dataclass(frozen=True, slots=True)
class Part:
    """What a key's name says.

    Args:
        base: the key of the whole tensor.
        scheme: one of this module's.
        role: what the part is in the scheme, the same however it is spelled.
        spelled: how the name ends, from the base's module on.
        sure: whether the name alone says it.
    """

    base: str
    scheme: str
    role: str
    spelled: str
    sure: bool = True


# What a scheme needs to be whole. A part may be called otherwise where both sides have all of them.
WHOLE = {
    WEIGHT_NORM: {"g", "v"},
    SPECTRAL: {"orig", "u", "v"},
    ADAPTER: {"A", "B"},
}

_PARAMETRIZED = re.compile(r"(?P<stem>(?:.*\.)?)parametrizations\.(?P<name>\w+)\.(?P<tail>[\w.]+)$")
_MARKED = re.compile(r"(?P<stem>(?:.*\.)?)(?P<name>\w+?)_(?P<role>orig|mask|g|v|u)$")
_CERTAIN_NAMES = {"weight", "bias", "in_proj_weight"}

_ADAPTER = re.compile(
    r"(?P<stem>(?:.*?[._])??)(?P<mark>lora_(?:embedding_)?(?:A|B|E)(?:_\d+)?|lora_(?:up|down|mid|magnitude_vector)"
    r"|lora\.(?:up|down|mid)|ia3_l|vera_(?:A|B|lambda_[bd])|b?oft_[rRsS]|hada_(?:w1|w2|t1|t2)(?:_[ab])?"
    r"|lokr_(?:w1|w2|t2)(?:_[ab])?|hra_u|fourierft_spectrum|dora_scale|randlora_(?:A|B|lambda|gamma)|bone_block"
    r"|base_layer|original_module|modules_to_save)(?P<tail>\.[\w.-]+)?$"
)
_ADAPTS = re.compile(
    r"lora|ia3_l|vera_|oft_|hada_|lokr_|hra_u|fourierft|bone_|base_layer|original_module|modules_to_save"
)
_ROLES = {"lora_A": "A", "lora_embedding_A": "A", "lora_down": "A", "lora.down": "A",
          "lora_B": "B", "lora_embedding_B": "B", "lora_up": "B", "lora.up": "B"}  # fmt: skip

_QUANTISED = re.compile(
    r"(?P<stem>(?:.*?\.)?)(?P<role>qweight|qzeros|g_idx|SCB|absmax|quant_map|nested_absmax|nested_quant_map"
    r"|quant_state(?:\.\w+)?|bitsandbytes__\w+|weight_format|quant_weight|W_q|codebooks|qscales|scales|zeros|zero_points?"
    r"|_packed_params(?:\.\w+)?)$"
)
_QUANTISED_NAME = re.compile(
    r"(?P<stem>(?:.*\.)?)(?P<name>weight)(?:_(?P<role>scale(?:s|_inv|_2)?|zero_point|packed|global_scale|shape|int8|q|quantized"
    r"|fake_quant\.[\w.]+)|\.(?P<inner>_data|_scale|_shift|_zero_point))$"
)
_SCALE_FIRST = re.compile(
    r"(?P<stem>(?:.*\.)?)(?P<role>scale_weight|input_scale|output_scale|activation_scale)$"
)
_BLOCKS = re.compile(r"(?P<stem>(?:.*\.)?)(?P<name>\w+)_(?P<role>blocks|scales)$")
_DOUBTFUL = re.compile(r"(?P<stem>(?:.*\.)?)(?P<role>scale|zero|zp|alpha|codes|meta|act_scale)$")


LONGEST = 500  # characters; the patterns cost the square of a key's length, and no module's key is longer


def named(key: str) -> Part | None:
    """What a key's name says of it; None for the name of a whole tensor.

    Args:
        key: in full.
    """
    if len(key) > LONGEST:
        return None
    if key.endswith((".weight", ".bias")):  # most keys; a part that ends so is an adapter's
        return _adapter(key) if _ADAPTS.search(key) else None
    return _parametrized(key) or _adapter(key) or _quantised(key) or _marked(key)


def _parametrized(key: str) -> Part | None:
    match = _PARAMETRIZED.match(key)
    if match is None:
        return None
    stem, name, tail = match["stem"], match["name"], match["tail"]
    scheme, role = {
        "original0": (WEIGHT_NORM, "g"),
        "original1": (WEIGHT_NORM, "v"),
        "0._u": (SPECTRAL, "u"),
        "0._v": (SPECTRAL, "v"),
        "original": (PARAMETRIZED, "orig"),
    }.get(tail, (PARAMETRIZED, tail))
    return Part(stem + name, scheme, role, key[len(stem) :])


def _adapter(key: str) -> Part | None:
    match = _ADAPTER.match(key)
    if match is None:
        return None
    stem, mark, tail = match["stem"], match["mark"], match["tail"] or ""
    leaf = (
        tail.rpartition(".")[2] if mark in ("base_layer", "original_module", "modules_to_save") else "weight"
    )
    role = _ROLES.get(re.sub(r"_\d+$", "", mark), mark)
    if mark in ("base_layer", "original_module", "modules_to_save"):
        role = f"{mark} {leaf}"
    return Part(f"{stem.rstrip('._')}.{leaf}".lstrip("."), ADAPTER, role, key[len(stem) :])


def _quantised(key: str) -> Part | None:
    for pattern in (_QUANTISED_NAME, _QUANTISED, _SCALE_FIRST):
        match = pattern.match(key)
        if match is None:
            continue
        found = match.groupdict()
        stem, role = match["stem"], found.get("role") or str(found.get("inner"))
        # Parts lie beside the weight, or below it: ``weight.absmax``.
        base = stem[:-1] if stem.endswith("weight.") else f"{stem}weight"
        return Part(base, QUANTISED, role, key[len(base.rpartition(".")[0]) :].removeprefix("."))
    match = _BLOCKS.match(key)
    if match is not None:
        return Part(match["stem"] + match["name"], QUANTISED, match["role"], key[len(match["stem"]) :], False)
    match = _DOUBTFUL.match(key)
    if match is not None:
        return Part(f"{match['stem']}weight", QUANTISED, match["role"], match["role"], False)
    return None


def _marked(key: str) -> Part | None:
    """``weight_orig`` and ``weight_mask`` of pruning; ``weight_g``, ``_v``, ``_u`` of the older normalisations."""
    match = _MARKED.match(key)
    if match is None:
        return None
    stem, name, role = match["stem"], match["name"], match["role"]
    scheme = {"mask": PRUNING, "orig": PRUNING, "u": SPECTRAL}.get(role, WEIGHT_NORM)
    return Part(stem + name, scheme, role, key[len(stem) :], name in _CERTAIN_NAMES)
