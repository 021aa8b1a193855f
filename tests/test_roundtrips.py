"""Laws over generated state_dicts: what goes through files comes back bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit

from .strategies import IN_SAFETENSORS, IN_TORCH, content, state_dicts

TARGETS = ["a.safetensors", "a.pt", "folder", "small-shards"]


def save(state: Any, path: Path) -> Path:
    ckptkit.save(state, path, max_shard_size=40 if path.name == "small-shards" else None)
    return path


@pytest.mark.parametrize("first", TARGETS)
@pytest.mark.parametrize("second", TARGETS)
@given(state=state_dicts())
def test_every_pair_of_formats_is_bit_exact(first: str, second: str, state: dict[str, torch.Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one = save(state, Path(folder, "1" + first))
        two = save(ckptkit.open(one), Path(folder, "2" + second))
        with ckptkit.open(two) as back:
            assert content(back) == content(state)
            assert {frozenset(g) for g in back.signature.tied} == {
                frozenset(g) for g in ckptkit.signature(state).tied
            }


@given(state=state_dicts(dtypes=IN_TORCH))
def test_a_torch_file_holds_every_dtype_and_keeps_order_and_strides(state: dict[str, torch.Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = save(state, Path(folder, "a.pt"))
        with ckptkit.open(path) as back:
            assert list(back) == list(state)
            assert content(back) == content(state)
            for key, tensor in state.items():
                if tensor.numel():
                    assert back[key].stride() == tensor.stride()


@given(state=state_dicts(dtypes=IN_TORCH))
def test_torch_reads_what_we_write_and_we_read_what_torch_writes(state: dict[str, torch.Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours = save(state, Path(folder, "ours.pt"))
        assert content(torch.load(ours, weights_only=True)) == content(state)
        theirs = Path(folder, "theirs.pt")
        torch.save(state, theirs)
        with ckptkit.open(theirs, root="none") as back:
            assert content(back) == content(state)


@given(state=state_dicts(views=False))
def test_safetensors_reads_what_we_write_with_ties_written_once(state: dict[str, torch.Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = save(state, Path(folder, "a.safetensors"))
        dropped = {key for group in ckptkit.signature(state).tied for key in group[1:]}
        expected = {key: value for key, value in state.items() if key not in dropped}
        assert content(safetensors.torch.load_file(path)) == content(expected)


@given(state=state_dicts(), prefix=st.sampled_from(["model.", "x", "é."]))
def test_the_planned_signature_is_the_written_one(state: dict[str, torch.Tensor], prefix: str) -> None:
    rules = [{"op": "add_prefix", "prefix": prefix, "required": False}]
    plan = ckptkit.plan(state, rules)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.safetensors", "a.pt"):
            path = save(ckptkit.remap(ckptkit.open(state), rules), Path(folder, name))
            with ckptkit.open(path) as back:
                assert dict(back.signature.tensors) == dict(plan.signature.tensors)
                assert content(back) == {prefix + k: v for k, v in content(state).items()}


@given(state=state_dicts(dtypes=IN_SAFETENSORS))
def test_equal_state_dicts_give_equal_bytes(state: dict[str, torch.Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".safetensors", ".pt"):
            one, two = (save(state, Path(folder, n + suffix)) for n in "ab")
            assert one.read_bytes() == two.read_bytes()


@given(state=state_dicts(), nesting=st.sampled_from([("state_dict",), ("state", "model"), ("a.b", "c")]))
def test_what_surrounds_the_root_survives_from_torch_to_torch(
    state: dict[str, torch.Tensor], nesting: tuple[str, ...]
) -> None:
    tree: Any = state
    for name in reversed(nesting):
        tree = {name: tree, "epoch": 3, "note": ["x", None, (1, 2.5)]}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.pt"), Path(folder, "out.pt")
        torch.save(tree, source)
        ckptkit.save(ckptkit.open(source, root=".".join(nesting)), target)
        back = torch.load(target, weights_only=True)
        for name in nesting:
            assert back["epoch"] == 3
            assert back["note"] == ["x", None, (1, 2.5)]
            back = back[name]
        assert content(back) == content(state)


@given(state=state_dicts())
def test_two_keys_that_end_on_one_name_always_raise_and_leave_nothing(state: dict[str, torch.Tensor]) -> None:
    rules = [{"op": "rename", "pattern": "(?s)^.*$", "replacement": "same"}]
    with tempfile.TemporaryDirectory() as folder:
        source = save(state, Path(folder, "in.safetensors"))
        if len(state) < 2:
            return
        with pytest.raises(ckptkit.PlanError, match=r"would (both )?become 'same'"):
            ckptkit.save(ckptkit.remap(source, rules), Path(folder, "out.safetensors"))
        assert [p.name for p in Path(folder).iterdir()] == ["in.safetensors"]
