"""A checkpoint as a lazy mapping, whatever it was opened from."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit

from .strategies import content


def net() -> torch.nn.Module:
    model = torch.nn.Sequential(
        torch.nn.Embedding(7, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 7, bias=False)
    )
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ""])
def test_load_state_dict_takes_an_opened_checkpoint(tmp_path: Path, suffix: str) -> None:
    one, two = net(), net()
    path = tmp_path / f"m{suffix}"
    ckptkit.save(one, path)
    two.load_state_dict(ckptkit.open(path))
    assert content(two.state_dict()) == content(one.state_dict())


def test_the_versions_of_modules_reach_load_state_dict(tmp_path: Path) -> None:
    """Without `_metadata`, BatchNorm would take the file for one of before version 2 and invent a counter."""
    ckptkit.save(net(), tmp_path / "a.pt")
    checkpoint = ckptkit.remap(tmp_path / "a.pt", [{"op": "add_prefix", "prefix": "net."}])
    assert checkpoint._metadata is not None
    assert checkpoint._metadata["net.1"] == {"version": 2}
    assert torch.load(tmp_path / "a.pt", weights_only=True)._metadata["1"] == {"version": 2}


def test_tied_parameters_show_on_the_meta_device_and_on_the_cpu() -> None:
    assert ckptkit.signature(net()).tied == (("0.weight", "2.weight"),)
    with torch.device("meta"):
        assert ckptkit.signature(net()).tied == (("0.weight", "2.weight"),)
    assert ckptkit.signature(net().state_dict()).tied == (("0.weight", "2.weight"),)


def test_a_checkpoint_is_read_only_and_names_the_nearest_keys(tmp_path: Path) -> None:
    ckptkit.save({"encoder.weight": torch.ones(2)}, tmp_path / "a.safetensors")
    checkpoint = ckptkit.open(tmp_path / "a.safetensors")
    with pytest.raises(KeyError, match=r"has no tensor 'encoder.wieght'; the nearest are 'encoder.weight'"):
        checkpoint["encoder.wieght"]
    with pytest.raises(TypeError):
        checkpoint["x"] = torch.ones(1)  # type: ignore[index]
    assert "encoder.weight" in checkpoint
    assert repr(checkpoint).endswith("a.safetensors (safetensors): 1 keys, 2 parameters, 8 B>")


def test_a_slice_reads_a_part(tmp_path: Path) -> None:
    ckptkit.save({"w": torch.arange(12.0).reshape(3, 4)}, tmp_path / "a.safetensors")
    part = ckptkit.open(tmp_path / "a.safetensors").get_slice("w")
    assert (part.get_shape(), part.get_dtype()) == ([3, 4], "float32")
    assert torch.equal(part[1:, ::2], torch.tensor([[4.0, 6.0], [8.0, 10.0]]))


def test_an_opened_file_can_be_pickled_and_closed(tmp_path: Path) -> None:
    ckptkit.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    with ckptkit.open(tmp_path / "a.pt") as checkpoint:
        again = pickle.loads(pickle.dumps(checkpoint))
        tensor = checkpoint["w"]
    assert content(again) == {"w": content({"w": tensor})["w"]}
    with pytest.raises(ckptkit.FormatError, match="it was closed; open it again"):
        checkpoint["w"]
    assert tensor.tolist() == [1, 1]
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(ckptkit.open({"w": tensor}))


MEMORY = {
    "meta": (torch.empty(2, device="meta"), "'w' is a meta tensor: it has a shape but no data"),
    "sparse": (torch.eye(2).to_sparse(), "'w' is sparse_coo, and ckptkit holds strided tensors only"),
    "quantised": (torch.quantize_per_tensor(torch.ones(2), 0.5, 1, torch.qint8), "'w' is quantised"),
}


@pytest.mark.parametrize("name", MEMORY)
def test_tensors_without_plain_bytes_are_refused_by_name(name: str, tmp_path: Path) -> None:
    tensor, words = MEMORY[name]
    with pytest.raises(ckptkit.FormatError) as caught:
        ckptkit.save({"w": tensor}, tmp_path / "a.pt")
    assert words in caught.value.message


@pytest.mark.parametrize("target", ["a.pt", "a.safetensors"])
def test_conjugated_and_negated_tensors_are_written_as_the_values_they_show(
    tmp_path: Path, target: str
) -> None:
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    ckptkit.save({"c": tensor.conj(), "n": tensor.conj().imag}, tmp_path / target)
    with ckptkit.open(tmp_path / target) as back:
        assert torch.equal(back["c"], tensor.conj())
        assert torch.equal(back["n"], tensor.conj().imag)


@pytest.mark.parametrize("target", ["b.pt", "b.safetensors"])
def test_lazily_conjugated_tensors_of_a_torch_file_are_rewritten_as_their_values(
    tmp_path: Path, target: str
) -> None:
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    torch.save({"c": tensor.conj(), "n": tensor.clone().conj().imag, "plain": tensor}, tmp_path / "a.pt")
    ckptkit.save(ckptkit.remap(tmp_path / "a.pt", [{"op": "add_prefix", "prefix": "m."}]), tmp_path / target)
    with ckptkit.open(tmp_path / target) as back:
        assert content(back) == content(
            {"m.c": tensor.conj().resolve_conj(), "m.n": tensor.conj().imag.clone(), "m.plain": tensor}
        )


WRONG: dict[str, tuple[Any, str]] = {
    "list": ([1], "not a value of type list"),
    "key": ({3: torch.ones(1)}, "a state_dict has string keys; this one has '3' of int"),
    "lazy": (torch.nn.LazyLinear(3), "is lazily initialised and has no shape yet; run the model once before"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_checkpoint_is_refused(name: str) -> None:
    value, words = WRONG[name]
    with pytest.raises(ckptkit.UsageError) as caught:
        ckptkit.open(value)
    assert words in caught.value.message


def test_a_signature_file_is_planned_with_but_never_read(tmp_path: Path) -> None:
    ckptkit.save({"a": torch.ones(2), "b._extra_state": {"x": 1}}, tmp_path / "a.json")
    checkpoint = ckptkit.open(tmp_path / "a.json")
    assert (
        checkpoint.signature.tensors == ckptkit.signature({"a": torch.ones(2), "b._extra_state": 1}).tensors
    )
    plan = ckptkit.plan(checkpoint, [{"op": "add_prefix", "prefix": "m."}])
    assert list(plan.signature) == ["m.a", "m.b._extra_state"]
    with pytest.raises(
        ckptkit.FormatError, match="a signature file has keys, shapes and dtypes only, so 'a' cannot be"
    ):
        checkpoint["a"]


def test_extra_state_goes_through_torch_files_and_modules(tmp_path: Path) -> None:
    class Counter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.count = {"steps": 3, "names": ["a", ("b", None)]}

        def get_extra_state(self) -> Any:
            return self.count

        def set_extra_state(self, state: Any) -> None:
            self.count = state

    one, two = Counter(), Counter()
    two.count = {}
    ckptkit.save(ckptkit.remap(ckptkit.open(one), [{"op": "add_prefix", "prefix": "m."}]), tmp_path / "a.pt")
    two.load_state_dict(ckptkit.remap(tmp_path / "a.pt", [{"op": "strip_prefix", "prefix": "m."}]))
    assert two.count == one.count


def test_a_pickled_checkpoint_opens_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a worker process that was started elsewhere."""
    ckptkit.save({"w": torch.ones(2)}, tmp_path / "a.safetensors")
    monkeypatch.chdir(tmp_path)
    raw = pickle.dumps(ckptkit.open("a.safetensors"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(raw)["w"].tolist() == [1, 1]


def test_checkpoints_compare_by_identity_and_can_be_kept_in_sets(tmp_path: Path) -> None:
    ckptkit.save({"w": torch.ones(2)}, tmp_path / "a.safetensors")
    one, two = (ckptkit.open(tmp_path / "a.safetensors") for _ in range(2))
    assert one == one
    assert one != two
    assert len({one, two}) == 2


def test_a_copy_is_a_plain_dict_with_the_versions_of_modules(tmp_path: Path) -> None:
    ckptkit.save(net(), tmp_path / "a.pt")
    copied: Any = ckptkit.open(tmp_path / "a.pt").copy()
    assert isinstance(copied, dict)
    assert copied._metadata["1"] == {"version": 2}
    del copied["1.running_mean"]
    assert "1.running_mean" in ckptkit.open(tmp_path / "a.pt")


def test_shapes_that_torch_cannot_hold_are_listed_but_not_opened(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    checkpoint = ckptkit.open(tmp_path / "a.safetensors")
    assert checkpoint.signature["a"].shape == (0, 1 << 63)
    with pytest.raises(
        ckptkit.FormatError, match=r"'a' has the shape \[0, 9223372036854775808\], which torch cannot"
    ):
        checkpoint["a"]
