"""What rules make larger is bounded by what it is made of, is made piece by piece where it can be, and names itself
when there is no memory for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ckptkit
from ckptkit.computed import computed_bytes
from ckptkit.errors import CkptkitError, FormatError, PlanError
from ckptkit.expr import evaluate, streams, values
from ckptkit.expr.growth import FACTOR, LIMIT, STEP
from ckptkit.formats.memory import MemorySource
from ckptkit.formats.tensor_bytes import tensor_bytes
from ckptkit.plan_file import load_plan, save_plan
from ckptkit.signatures import Signature, TensorInfo

Rules = list[dict[str, Any]]


def resized(shape: list[int], method: str, **more: Any) -> Rules:
    return [{"op": "resize", "keys": ["a"], "shape": shape, "method": method, **more}]


# The shape of `a`, and rules that make far more than FACTOR times as much of it.
GROWING: dict[str, tuple[tuple[int, ...], Rules]] = {
    "repeat": ((4, 4), resized([1 << 30, 4], "repeat")),
    "repeat in several": ((4, 4), resized([1 << 20, 1 << 20], "repeat", dims=[0, 1])),
    "pad": ((4, 4), resized([1 << 30, 4], "pad", fill="zero")),
    "interpolate": ((1, 4, 8), resized([1, 1 << 28, 8], "interpolate", grid=[2, 2], target_grid=[1 << 14, 1 << 14])),
    "rel_pos_table": ((2, 3, 3), resized([2, (1 << 15) - 1, (1 << 15) - 1], "rel_pos_table")),
    "input_channels": ((4, 3, 2, 2), resized([4, 1 << 28, 2, 2], "input_channels")),
    "inflate": ((4, 3, 2, 2), resized([4, 3, 1 << 28, 2, 2], "inflate")),
    "then cut": ((4, 4), [*resized([1 << 30, 4], "repeat"), {"op": "slice", "keys": ["a"], "stop": 1}]),
    "step by step": ((1 << 20,), [*resized([1 << 25], "repeat"), *resized([1 << 29], "pad", fill=1.0)]),
    "concat": ((1 << 18,), [{"op": "concat", "patterns": ["a"] * 32, "into": "a"}] * 3),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
def test_a_result_out_of_all_proportion_is_an_error_of_the_plan(name: str) -> None:
    shape, rules = GROWING[name]
    with pytest.raises(
        PlanError, match=r"^rules\.\d \(\w+\): 'a'.*: the shape .* takes .*B, and is made of .*B: more"
    ):
        ckptkit.plan(Signature({"a": TensorInfo(shape, "float32")}), rules)


def test_it_is_refused_in_a_plan_that_is_read_from_a_file(tmp_path: Path) -> None:
    plan = ckptkit.plan(Signature({"a": TensorInfo((4, 4), "float32")}), resized([8, 4], "repeat"))
    save_plan(plan, str(tmp_path / "plan.json"))
    text = json.loads((tmp_path / "plan.json").read_text("utf-8"))
    text["outputs"][0]["shape"][0] = text["outputs"][0]["expr"]["shape"][0] = 1 << 30
    (tmp_path / "plan.json").write_text(json.dumps(text), "utf-8")
    with pytest.raises(FormatError, match="more than 64 times as much"):
        load_plan(str(tmp_path / "plan.json"))


@given(st.integers(1, 20), st.integers(1, 200))
def test_what_is_small_or_in_proportion_is_planned(rows: int, times: int) -> None:
    width = LIMIT // 4 // 16  # so that the limit lies at 16 rows
    source = Signature({"a": TensorInfo((rows, width), "float32")})
    result = rows * times * width * 4
    allowed = result <= max(LIMIT, FACTOR * rows * width * 4)
    try:
        ckptkit.plan(source, resized([rows * times, -1], "repeat"))
    except PlanError:
        assert not allowed
    else:
        assert allowed


SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@given(SHAPES, st.data())
def test_more_of_the_same_is_made_piece_by_piece_and_is_what_it_is_made_of_at_once(
    shape: list[int], data: Any
) -> None:
    dim = data.draw(st.integers(0, len(shape) - 1))
    method = data.draw(st.sampled_from(["repeat", "pad"]))
    target = list(shape)
    target[dim] *= data.draw(st.integers(2, 9))
    more = {"dims": [dim]} | (
        {"fill": data.draw(st.sampled_from(["zero", "mean", 0.5]))} if method == "pad" else {}
    )
    tensor = torch.rand(shape, dtype=data.draw(st.sampled_from([torch.float32, torch.bfloat16])))
    source = MemorySource({"a": tensor})
    plan = ckptkit.plan(source.signature, resized(target, method, **more))
    expr = plan.outputs[0].expr
    whole = evaluate(expr, lambda _: tensor)
    streamed = all(size == 1 for size in shape[:dim])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ckptkit.expr.growth.STEP", 7)
        if streamed:
            patch.setattr(values, "resize", None)  # nothing makes it at once
        made = b"".join(bytes(chunk) for chunk in computed_bytes("a", expr, source, {}))
    assert made == b"".join(bytes(chunk) for chunk in tensor_bytes(whole))


def test_pieces_stay_small_however_large_the_result() -> None:
    signature = Signature({"a": TensorInfo((1, 512), "float32")})
    expr = ckptkit.plan(signature, resized([1 << 19, 512], "repeat")).outputs[0].expr
    sizes = [
        piece.numel()
        for piece in streams.pieces(expr, signature, lambda _: torch.rand(1, 512), None, lambda _: None)
    ]  # type: ignore[arg-type]
    assert max(sizes) <= STEP
    assert sum(sizes) == 1 << 28


def refused(*_: Any, **__: Any) -> torch.Tensor:
    return torch.empty(1 << 55, dtype=torch.uint8)  # torch's own words for it


def no_memory(*_: Any, **__: Any) -> torch.Tensor:
    raise MemoryError


@pytest.mark.parametrize("fail", [refused, no_memory])
@pytest.mark.parametrize("act", ["look", "save", "load"])
def test_without_memory_the_tensor_its_shape_and_its_bytes_are_named(
    fail: Any, act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "resize", fail)
    rules = resized([3, 8], "repeat", dims=[1])
    path = tmp_path / "a.safetensors"
    ckptkit.save({"a": torch.rand(3, 4)}, path)
    model = nn.Module()
    model.a = nn.Parameter(torch.zeros(3, 8))
    with pytest.raises(
        CkptkitError, match=r"'a': no memory to make \[3, 8\] of float32, which are 96 B; free some"
    ):
        if act == "look":
            ckptkit.remap(ckptkit.open(path), rules)["a"]
        elif act == "save":
            ckptkit.save(ckptkit.remap(ckptkit.open(path), rules), tmp_path / "b.safetensors")
        else:
            ckptkit.load(model, path, {"rules": rules})
    assert not (tmp_path / "b.safetensors").exists()
    assert not model.a.any()
