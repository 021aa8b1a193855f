"""A drop of what was trained is a guess that says what it costs."""

from __future__ import annotations

import re

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ckptkit
from ckptkit.findings import Finding, Fix
from ckptkit.patterns import escape
from ckptkit.vetoes import Sides, harmless, is_buffer

LEAVES = ["weight", "bias", "running_mean", "num_batches_tracked", "position_ids", "inv_freq", "gamma"]
KEYS = st.lists(
    st.builds("{}.{}".format, st.sampled_from("abcd"), st.sampled_from(LEAVES)), min_size=1, unique=True
)


@given(KEYS, KEYS, st.booleans())
def test_no_drop_of_a_trained_tensor_is_more_than_a_guess(
    keys: list[str], dropped: list[str], sized: bool
) -> None:
    sizes = {key: place + 1 for place, key in enumerate(keys)}
    fix = Fix("leave them out", ({"op": "drop", "keys": [escape(key) for key in dropped]},))
    sides = Sides(keys, (), (), keys, sizes=sizes if sized else None)
    moves = [(key, None) for key in keys if key in dropped]
    (finding,) = harmless(
        [Finding("extra_modules", "t", "", confidence="certain", fix=fix)], sides, lambda _: moves
    )
    lost = [key for key, _ in moves if not is_buffer(key)]
    assert (finding.confidence == "guess") == bool(lost)
    assert finding.fix is not None
    if not lost:
        assert finding.fix == fix
    elif sized:
        share = sum(sizes[key] for key in lost) / sum(sizes.values())
        assert f"{share:.2%} of the checkpoint's parameters are lost" in finding.fix.advice
    else:
        assert re.search(r"trained tensors? (?:is|are) lost then", finding.fix.advice)


def test_a_renamed_checkpoint_with_a_loss_beside_it_says_what_leaving_that_out_costs() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12), 2)
    state = {
        key.replace("self_attn", "attention").replace("linear", "fc"): tensor
        for key, tensor in model.state_dict().items()
    }
    state["loss.weight"] = torch.ones(12)
    report = ckptkit.check(model, state)
    (finding,) = [
        f for f in report.findings if f.fix is not None and any(r["op"] == "drop" for r in f.fix.remap)
    ]
    assert finding.confidence == "guess"
    assert finding.fix is not None
    total = sum(tensor.numel() for tensor in state.values())
    assert f"{12 / total:.2%} of the checkpoint's parameters are lost" in finding.fix.advice
    assert ckptkit.load(model, state, report.fix).ok
