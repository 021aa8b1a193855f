"""The field's words: wrappers, buffers that models compute, roots of training files, heads. No names of models."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Segments that training code puts around modules, anywhere in a key.
WRAPPERS = (
    "module",
    "_orig_mod",
    "_checkpoint_wrapped_module",
    "_fsdp_wrapped_module",
    "_fpw_module",
    "_module",
)
# First segments under which whole models are kept by frameworks.
HOLDERS = (
    *WRAPPERS,
    "model",
    "net",
    "network",
    "backbone",
    "student",
    "teacher",
    "base_model",
    "ema",
    "generator",
)
TOP_NAMES = {
    "state_dict", "model", "model_state_dict", "model_state", "net", "weights", "params", "params_ema", "ema",
    "state_dict_ema",
    "model_ema", "network", "generator", "teacher", "student", "optimizer", "optimizer_state_dict", "optimizer_states",
    "lr_scheduler", "lr_schedulers", "scheduler", "epoch", "step", "global_step", "iteration", "args", "config",
    "hyper_parameters",
    "best_acc", "best_acc1", "arch", "loss", "callbacks", "loops", "amp", "scaler", "rng_state", "meta", "hparams",
    "pytorch-lightning_version",
}  # fmt: skip
ROOTS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "generator", "student",
    "teacher", "state_dict_ema", "model_ema", "params_ema", "ema",
)  # fmt: skip
BUFFERS = {
    "position_ids", "inv_freq", "masked_bias", "num_batches_tracked", "relative_position_index", "relative_coords_table",
    "attn_mask", "causal_mask", "token_type_ids", "freqs_cis", "cos_cached", "sin_cached", "cached_cos", "cached_sin",
    "running_mean", "running_var", "bos_token_id", "rope_freqs", "anchors", "anchor_grid", "stride", "freqs", "mask",
    "pixel_mean", "pixel_std", "triu_mask", "version", "_float_tensor",
}  # fmt: skip
STATISTICS = {"running_mean", "running_var"}
_COMPUTED = BUFFERS - STATISTICS
_ATTENTION_BIAS = re.compile(r"(?:^|\.)attn(?:ention)?\.(?:masked_)?bias$")
QUANTISED = re.compile(
    r"(?:^|[._])(?:qweight|qzeros|g_idx|absmax|quant_map|nested_absmax|nested_quant_map|quant_state\w*|SCB|quant_weight|weight_format"
    r"|bitsandbytes__\w+|weight_scale|scale_weight|zero_point)(?:$|[._])|\.scales$|\.zeros$|\.quant_state\."
)
HEADS = re.compile(
    r"(?i)head|classif|logit|score|pred|norm|(?:^|[._])(?:cls|fc|output|proposal|linear)"
    r"|(?:^|[._])(?:out_proj|pooler|decoder)(?:$|[._])"
)

_ASIDE = re.compile(r"(?i)criterion$|discriminator$|loss|step|.*?(?:ema|queue|head)")


def leaf(key: str) -> str:
    """The last part of a key."""
    return key.rpartition(".")[2]


def is_buffer(key: str) -> bool:
    """Whether a model computes the entry itself: ids, masks, frequencies, counters."""
    return leaf(key) in _COMPUTED or (key.endswith("bias") and _ATTENTION_BIAS.search(key) is not None)


def is_parameter(key: str) -> bool:
    """Whether it is named like something that is learned, or like a norm's statistics."""
    return leaf(key) in {"weight", "bias", "gamma", "beta"} | STATISTICS or leaf(key).startswith(
        ("weight_", "bias_")
    )


def patterns(keys: Iterable[str]) -> list[str]:
    """Key patterns for entries of the same name in many places: ``*.attn.masked_bias``, never ``*.bias``."""
    found: dict[str, None] = {}
    for key in keys:
        parts = key.split(".")
        if len(parts) == 1:
            found[key] = None
        elif parts[-1] in ("weight", "bias"):
            tail = [part for part in parts[-2:] if not part.isdecimal()]
            found[f"*.{'.'.join(tail)}" if len(tail) == 2 and len(parts) > 2 else key] = None
        else:
            found[f"*.{parts[-1]}"] = None
    return list(found)


def common_wrapper(keys: Iterable[str]) -> str:
    """The wrapper segments with which all keys begin, with their dots."""
    every = [key.split(".") for key in keys]
    prefix = ""
    depth = 0
    while every and all(len(parts) > depth + 1 and parts[depth] == every[0][depth] for parts in every):
        if every[0][depth] not in HOLDERS:
            break
        prefix += every[0][depth] + "."
        depth += 1
    return prefix


def aside(tops: Iterable[str]) -> bool:
    """Modules that training keeps beside the network."""
    return all(_ASIDE.match(top.partition(".")[0]) for top in tops)
