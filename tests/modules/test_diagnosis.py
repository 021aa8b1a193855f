"""The causes behind shapes that differ, on real modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import ckptkit


class Vision(nn.Module):
    def __init__(
        self, width: int = 16, classes: int = 10, channels: int = 3, side: int = 4, depth: int = 2
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 4)
        self.pos_embed = nn.Parameter(torch.zeros(1, side * side + 1, width))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.LayerNorm(4 * width)) for _ in range(depth)
        )
        self.head = nn.Linear(width, classes)


class Text(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, 8)
        self.norm = nn.LayerNorm(8)
        self.lm_head = nn.Linear(8, vocabulary, bias=False)


def shard(model: nn.Module) -> dict[str, torch.Tensor]:
    """Rows of the first projection, columns of the second, as tensor parallelism cuts them."""
    state = dict(model.state_dict())
    state["0.weight"], state["0.bias"] = state["0.weight"][:8], state["0.bias"][:8]
    state["1.weight"] = state["1.weight"][:, :8]
    return state


MLP = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 8))

CASES: dict[str, tuple[nn.Module, Any, str, str]] = {
    "classes": (Vision(classes=5), Vision(), "head_mismatch", "head has 10 classes in the checkpoint and 5 in the model"),
    "channels": (Vision(channels=1), Vision(), "input_channels", "takes 1 input channels, the checkpoint's took 3"),
    "positions": (Vision(side=6), Vision(), "pos_embed", "has 17 positions in the checkpoint and 37 in the model"),
    "width": (Vision(width=32), Vision(), "arch_mismatch", "the model's sizes are 2 of the checkpoint's"),
    "depth": (Vision(depth=3), Vision(), "arch_mismatch", "the model has 3 blocks under 'blocks', the checkpoint has 2"),
    "vocabulary": (Text(128), Text(120), "vocab_resize", "the vocabulary has 120 entries in the checkpoint and 128 in"),
    "conv1d": (
        nn.Linear(6, 4), {"weight": torch.ones(6, 4), "bias": torch.ones(4)}, "layout", "one weight is transposed",
    ),
    "flat": (nn.Conv2d(3, 2, 1, bias=False), {"weight": torch.ones(2, 3)}, "layout", "same number of elements"),
    "shard": (MLP, shard(MLP), "sharding", "a tensor-parallel shard of 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_named(name: str) -> None:
    model, source, cause, words = CASES[name]
    report = ckptkit.check(model, source)
    assert not report.ok
    causes = [f.cause for f in report.findings]
    assert cause in causes
    (finding,) = [f for f in report.findings if f.cause == cause][:1]
    assert words in finding.title
    assert set(finding.keys) <= {m.key for m in report.mismatched} | set(report.missing) | set(
        report.unexpected
    )
    with pytest.raises(ckptkit.IncompatibleKeysError) as caught:
        report.raise_for_errors()
    assert caught.value.findings[causes.index(cause)].cause == cause


@pytest.mark.parametrize("name", CASES)
def test_every_proposed_load_setting_makes_the_checkpoint_load(name: str) -> None:
    model, source, *_ = CASES[name]
    report = ckptkit.check(model, source)
    fields: dict[str, Any] = {"adapt": []}
    for finding in report.findings:
        if finding.fix is not None:
            fields["adapt"] += finding.fix.load.get("adapt", [])
            new = any(entry["method"] == "reinit" for entry in finding.fix.load.get("adapt", []))
            assert ("stay new" in finding.fix.advice) == new
    covered = {key for entry in fields["adapt"] for key in entry["keys"]}
    allowed = {**fields, "allow_missing": sorted(covered)}
    if covered == {m.key for m in report.mismatched} and not report.missing:
        assert ckptkit.check(model, source, allowed).ok


@pytest.mark.parametrize("side", ["source", "target"])
def test_prefixes_of_either_side_are_found_and_their_rules_repair(side: str) -> None:
    plain = dict(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)).state_dict())
    wrapped = {"backbone.net." + k: v for k, v in plain.items()}
    source, target = (wrapped, plain) if side == "source" else (plain, wrapped)
    report = ckptkit.check(ckptkit.signature(target), source)
    (finding,) = report.findings
    assert (finding.cause, finding.confidence) == (
        "prefix_strip" if side == "source" else "prefix_add",
        "certain",
    )
    assert finding.fix is not None
    assert ckptkit.check(ckptkit.signature(target), source, {"rules": list(finding.fix.remap)}).ok
