"""`--finite` and `--hash`: NaN and infinities are counted and located, equal content has one hash."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit

from ..strategies import IN_SAFETENSORS, IN_TORCH, state_dicts, tensors

FLOATING = [d for d in IN_TORCH if d.is_floating_point and d is not torch.float4_e2m1fn_x2]


@given(value=tensors([*FLOATING, torch.complex64, torch.complex128]), data=st.data())
def test_what_is_no_number_is_counted_and_its_first_byte_is_found(
    value: torch.Tensor, data: st.DataObject
) -> None:
    """Against numbers one by one, in Python."""
    if value.dim() > 1 and data.draw(st.booleans()):
        value = value.transpose(0, -1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pt")
        torch.save({"w": value, "tied": value}, path)
        report = ckptkit.verify(path, finite=True)
        flat = [
            complex(x) for x in value.to(torch.complex128 if value.is_complex() else torch.float64).flatten()
        ]
        nan = [x.real != x.real or x.imag != x.imag for x in flat]
        bad = [
            n or abs(x.real) == float("inf") or abs(x.imag) == float("inf")
            for n, x in zip(nan, flat, strict=True)
        ]
        assert report.ok is (not any(bad))
        if report.ok:
            return
        (damage,) = report.problems
        first = list(torch.unravel_index(torch.tensor(bad.index(True)), value.shape)) if value.dim() else []
        index = [int(i) for i in first]
        assert damage.problem == (
            f"{sum(nan)} NaN and {sum(bad) - sum(nan)} infinite of {len(flat)} values, the first at index {index}"
        )
        assert damage.key == "w"
        width = value.element_size()
        assert damage.offset is not None
        there = path.read_bytes()[damage.offset : damage.offset + width]
        assert there == bytes(value[tuple(index)].reshape(1).view(torch.uint8).tolist())


def test_large_tensors_are_looked_at_in_chunks_with_places_over_all(tmp_path: Path) -> None:
    weight = torch.zeros(3, 1_000_000, dtype=torch.bfloat16)
    weight[1, 999_999], weight[2, 7] = float("inf"), float("nan")
    ckptkit.save({"w": weight}, tmp_path / "a.safetensors")
    (damage,) = ckptkit.verify(tmp_path / "a.safetensors", finite=True).problems
    assert damage.problem == "1 NaN and 1 infinite of 3000000 values, the first at index [1, 999999]"


def test_a_conjugated_or_packed_value_has_no_place_in_the_file(tmp_path: Path) -> None:
    state = {"c": torch.tensor([1 + 2j, complex("nan")]).conj(), "h": torch.tensor([3e38 + 3e38j])}
    torch.save(state, tmp_path / "a.pt")
    (damage,) = ckptkit.verify(tmp_path / "a.pt", finite=True).problems
    assert (damage.key, damage.offset) == ("c", None)


def test_tensors_without_values_have_no_bad_ones(tmp_path: Path) -> None:
    state = {"m": torch.ones(3, device="meta"), "f": torch.tensor([1.0, float("inf")]), "n": torch.arange(3)}
    torch.save(state, tmp_path / "a.pt")
    assert [damage.key for damage in ckptkit.verify(tmp_path / "a.pt", finite=True).problems] == ["f"]
    with pytest.raises(ckptkit.FormatError, match="'m' is a meta tensor"):
        ckptkit.verify(tmp_path / "a.pt", hash=True)


def test_bad_values_of_shards_are_in_the_file_of_their_shard(tmp_path: Path) -> None:
    state = {"a": torch.ones(8), "b": torch.full((8,), float("nan"))}
    ckptkit.save(state, tmp_path / "m", max_shard_size=40)
    report = ckptkit.verify(tmp_path / "m", finite=True, hash=True)
    (damage,) = report.problems
    assert damage.file == str(tmp_path / "m" / "model-00002-of-00002.safetensors")
    assert report.hash is None


@given(state=state_dicts(dtypes=IN_SAFETENSORS), data=st.data())
def test_the_hash_is_that_of_the_content_and_of_nothing_else(
    state: dict[str, Any], data: st.DataObject
) -> None:
    def hash_of(path: Path, **more: Any) -> str:
        report = ckptkit.verify(path, hash=True, **more)
        assert report.ok, report
        assert report.hash is not None
        return report.hash

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        order = data.draw(st.permutations(sorted(state)))
        ckptkit.save(state, folder / "a.safetensors")
        ckptkit.save({key: state[key] for key in order}, folder / "order.safetensors")
        ckptkit.save(state, folder / "shards", max_shard_size=data.draw(st.integers(1, 99)))
        ckptkit.save(state, folder / "own.pt")
        torch.save({"nested": {"state_dict": state}, "epoch": 3}, folder / "torch.pt")
        torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
        nested = hash_of(folder / "torch.pt", root="nested.state_dict")
        paths = [folder / each for each in ("a.safetensors", "order.safetensors", "shards", "own.pt")]
        paths += [folder / "legacy.pt"]
        assert {hash_of(path, root="none" if path.suffix == ".pt" else "auto") for path in paths} == {nested}
        filled = [key for key in state if state[key].numel()]
        if not filled:
            return
        key = data.draw(st.sampled_from(filled))
        with ckptkit.open(folder / "order.safetensors") as checkpoint:
            region = checkpoint.source.view(key).storage.region
        assert region is not None
        blob = bytearray((folder / "order.safetensors").read_bytes())
        blob[region.offset + data.draw(st.integers(0, region.nbytes - 1))] ^= 1
        (folder / "order.safetensors").write_bytes(blob)
        assert hash_of(folder / "order.safetensors") != nested
