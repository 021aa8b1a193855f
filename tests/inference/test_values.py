"""With data on both sides, the data decide what names and shapes cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ckptkit
from ckptkit.errors import CkptkitError


def block(n: int) -> dict[str, torch.Tensor]:
    return {f"layers.{n}.{part}.weight": torch.randn(6, 6) for part in ("qa", "kb", "vc")}


def test_equal_shapes_with_unrelated_names_are_told_apart_by_their_data() -> None:
    source = {k: v for n in range(3) for k, v in block(n).items()}
    names = {"qa": "foo", "kb": "bar", "vc": "baz"}
    target = {}
    for key, value in source.items():
        _, n, part, _ = key.split(".")
        target[f"h.{n}.{names[part]}.weight"] = value.clone()
    blind = ckptkit.infer(source, target)
    assert not any(o.confidence == "certain" for o in blind.outputs)
    found = ckptkit.infer(source, target, values=True)
    assert found.complete
    assert {o.confidence for o in found.outputs} == {"certain"}
    for output in found.outputs:
        assert torch.equal(source[output.expr.reads()[0]], target[output.key])


def test_the_copy_that_has_the_data_is_taken() -> None:
    weights = {k: v for n in range(3) for k, v in block(n).items()}
    source = {f"net.{k}": torch.randn(6, 6) for k in weights} | {f"ema.{k}": v for k, v in weights.items()}
    found = ckptkit.infer(source, weights, values=True)
    assert {o.expr.reads()[0] for o in found.outputs} == {f"ema.{k}" for k in weights}
    assert {o.confidence for o in found.outputs} == {"certain"}


@pytest.mark.parametrize("gate_first", [True, False])
def test_the_order_of_fused_parts_is_seen(gate_first: bool) -> None:
    source, target = {}, {}
    for n in range(2):
        gate, up = torch.randn(8, 4), torch.randn(8, 4)
        source |= {f"h.{n}.mlp.gate_proj.weight": gate, f"h.{n}.mlp.up_proj.weight": up}
        target[f"h.{n}.mlp.fused.weight"] = torch.cat([gate, up] if gate_first else [up, gate])
    found = ckptkit.infer(source, target, values=True)
    assert ckptkit.remap(source, found.config).keys() >= target.keys()
    for key, value in ckptkit.remap(source, found.config).items():
        assert torch.equal(value, target[key])


def test_a_square_transpose_is_seen() -> None:
    source = {f"h.{n}.w.weight": torch.randn(5, 5) for n in range(2)}
    target = {key: value.T.clone() for key, value in source.items()}
    found = ckptkit.infer(source, target, values=True)
    assert {o.confidence for o in found.outputs} == {"certain"}
    assert all(torch.equal(v, target[k]) for k, v in ckptkit.remap(source, found.config).items())


def test_other_data_under_the_same_name_is_not_called_certain(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(4, 4)}, tmp_path / "a.safetensors")
    save_file({"a.weight": torch.randn(4, 4)}, tmp_path / "b.safetensors")
    found = ckptkit.infer(tmp_path / "a.safetensors", tmp_path / "b.safetensors", values=True)
    assert [o.confidence for o in found.outputs] == ["guess"]


def test_a_signature_has_no_values_to_compare(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(
        '{"format": "ckptkit.signature", "version": 1, "tensors": [{"key": "a", "shape": [2], "dtype": "float32"}]}'
    )
    with pytest.raises(CkptkitError):
        ckptkit.infer(tmp_path / "s.json", {"a": torch.ones(2)}, values=True)
