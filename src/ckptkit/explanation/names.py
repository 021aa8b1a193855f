"""The field's words: wrappers, buffers that models compute, roots of training files, heads. No names of models."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..vetoes import STATISTICS

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
HEADS = re.compile(
    r"(?i)head|classif|logit|score|pred|norm|(?:^|[._])(?:cls|fc|output|proposal|linear)"
    r"|(?:^|[._])(?:out_proj|pooler|decoder)(?:$|[._])"
)

# What diffusers called the projections of its attention before, and what it calls them now.
ATTENTION = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))

_ASIDE = re.compile(r"(?i)criterion$|discriminator$|loss|step|.*?(?:ema|queue|head)")


def leaf(key: str) -> str:
    """The last part of a key."""
    return key.rpartition(".")[2]


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
