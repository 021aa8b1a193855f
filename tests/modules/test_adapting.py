"""Adapters in a load: what timm's own loading gives, from one config."""

from __future__ import annotations

import pytest
import torch

import ckptkit

from real_models import import_timm

timm = import_timm()

PATTERNS = {
    "vit_tiny_patch16_224": ("patch_embed.proj.weight", "head.*", [{"keys": ["pos_embed"], "method": "interpolate"}]),
    "convnext_atto": ("stem.0.weight", "head.fc.*", []),
    "beit_base_patch16_224": (
        "patch_embed.proj.weight",
        "head.*",
        [{"keys": ["*.relative_position_bias_table"], "method": "rel_pos_table"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PATTERNS)
def test_a_model_of_another_size_gets_what_timms_own_functions_make(name: str) -> None:
    from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
    from timm.models._manipulate import adapt_input_conv

    stem, head, adapt = PATTERNS[name]
    sized = {} if name == "convnext_atto" else {"img_size": 96}
    more = {"depth": 1} if "patch16" in name else {}
    source = timm.create_model(name, **more).state_dict()
    model = timm.create_model(name, in_chans=1, num_classes=7, **sized, **more)
    new_head = {k: v.clone() for k, v in model.state_dict().items() if k.startswith(head[:-1])}
    report = ckptkit.load(
        model,
        source,
        {
            "adapt": [
                *adapt,
                {"keys": [stem], "method": "input_channels"},
                {"keys": [head], "method": "reinit"},
            ],
            "allow_missing": ["*.relative_position_index"],
            "allow_unexpected": ["*.relative_position_index"],
        },
    )
    got = model.state_dict()
    assert torch.equal(got[stem], adapt_input_conv(1, source[stem]))
    for key, value in got.items():
        if key in new_head:
            assert torch.equal(value, new_head[key])
        elif key == "pos_embed":
            assert torch.equal(value, resample_abs_pos_embed(source[key], [6, 6]))
        elif key.endswith("relative_position_bias_table"):
            wanted = resize_rel_pos_bias_table(source[key], (6, 6), tuple(value.shape))
            torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)
        elif key != stem:
            assert torch.equal(value, source[key]), key
    assert {a.key for a in report.adapted} >= {stem}
    assert set(report.missing) == set(new_head)


def test_conv1d_weights_are_transposed_square_ones_of_the_same_blocks_too() -> None:
    class Block(torch.nn.Module):
        def __init__(self, layout: type[torch.nn.Module]) -> None:
            super().__init__()
            self.attn, self.proj, self.fc = layout(24, 8), layout(8, 8), layout(32, 8)

    from transformers.pytorch_utils import Conv1D

    old = torch.nn.ModuleList(Block(Conv1D) for _ in range(2)).state_dict()
    model = torch.nn.ModuleList(Block(lambda out, size: torch.nn.Linear(size, out)) for _ in range(2))  # type: ignore[arg-type]
    (finding,) = ckptkit.check(model, old).findings
    assert finding.fix is not None
    ckptkit.load(model, old, {"rules": list(finding.fix.remap)})
    assert all(
        torch.equal(v, old[k].T if k.endswith("weight") else old[k]) for k, v in model.state_dict().items()
    )
