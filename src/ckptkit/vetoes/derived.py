"""Entries that a model computes itself: nothing that was trained is lost with them."""

from __future__ import annotations

import re

BUFFERS = {
    "position_ids", "inv_freq", "masked_bias", "num_batches_tracked", "relative_position_index", "relative_coords_table",
    "attn_mask", "causal_mask", "token_type_ids", "freqs_cis", "cos_cached", "sin_cached", "cached_cos", "cached_sin",
    "running_mean", "running_var", "bos_token_id", "rope_freqs", "anchors", "anchor_grid", "stride", "freqs", "mask",
    "pixel_mean", "pixel_std", "triu_mask", "version", "_float_tensor",
}  # fmt: skip
STATISTICS = {"running_mean", "running_var"}
_COMPUTED = BUFFERS - STATISTICS
_ATTENTION_BIAS = re.compile(r"(?:^|\.)attn(?:ention)?\.(?:masked_)?bias$")


def is_buffer(key: str) -> bool:
    """Whether a model computes the entry itself: ids, masks, frequencies, counters.

    A norm's running statistics are none of these: they come from the data of the training.

    Args:
        key: in full.
    """
    leaf = key.rpartition(".")[2]
    return leaf in _COMPUTED or (leaf.endswith("bias") and _ATTENTION_BIAS.search(key) is not None)
