"""What is set on an ordered dictionary beside its entries is proved, named and kept like everything else."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch

import ckptkit
from ckptkit.errors import FormatError

from .handmade import call, mapping, ordered, tensor, text, torch_file

NESTED = {"state_dict": mapping({"w": tensor()})}


@pytest.mark.parametrize("name", ["items", "keys", "values", "get", "update", "__class__", "__iter__"])
@pytest.mark.parametrize("place", ["root", "beside"])
def test_an_attribute_that_hides_what_a_dictionary_does_is_refused(
    tmp_path: Path, name: str, place: str
) -> None:
    """G3, G12: whoever loads the file and asks for the entries would get what it says."""
    odd = {name: text("x")}
    tree = {
        "root": ordered({"w": tensor()}, odd),
        "beside": mapping({**NESTED, "z": ordered({}, odd)}),
    }
    with pytest.raises(FormatError, match=f"an attribute '{name}' would hide what an OrderedDict does"):
        ckptkit.open(torch_file(tmp_path / "f.pt", tree[place]))


@pytest.mark.parametrize("place", ["root", "metadata", "beside", "value"])
def test_a_tensor_in_an_attribute_is_proved(tmp_path: Path, place: str) -> None:
    """G8: the whole file is, and `verify` says so."""
    odd = {"x": tensor((4000,))}
    tree = {
        "root": ordered({"w": tensor()}, odd),
        "metadata": ordered({"w": tensor()}, {"_metadata": mapping(odd)}),
        "beside": mapping({**NESTED, "z": ordered({}, odd)}),
        "value": mapping({"w": tensor(), "z": ordered({}, odd)}),
    }
    path = torch_file(tmp_path / "f.pt", tree[place])
    with pytest.raises(FormatError, match="needs 16000 bytes of a storage that has 16"):
        ckptkit.open(path)
    assert not ckptkit.verify(path).ok


@pytest.mark.parametrize("place", ["root", "metadata", "beside", "key"])
def test_an_opaque_value_in_an_attribute_or_a_tuple_is_named(tmp_path: Path, place: str) -> None:
    """G12: nothing is looked up, and nothing of it is silent."""
    opaque = call("os", "system", text("x"))
    odd = {"x": opaque}
    tree = {
        "root": ordered({"w": tensor()}, odd),
        "metadata": ordered({"w": tensor()}, {"_metadata": mapping(odd)}),
        "beside": mapping({**NESTED, "z": ordered({}, odd)}),
        "key": mapping({**NESTED, "z": b"}" + opaque + b"\x85" + text("x") + b"s"}),
    }
    path = torch_file(tmp_path / "f.pt", tree[place])
    notes = ckptkit.open(path).source.notes
    assert any("os.system is not on the allow-list" in note for note in notes)
    written = ckptkit.save(path, tmp_path / "o.pt")
    assert b"system" not in Path(tmp_path, "o.pt").read_bytes()
    assert place in ("root", "metadata") or "os.system" in written.left_out[0]


@pytest.mark.parametrize("metadata", [{"": tensor()}, {"": call("torch", "device", text("npu"))}])
def test_a_metadata_that_is_no_plain_data_is_named_and_not_kept(
    tmp_path: Path, metadata: dict[str, bytes]
) -> None:
    """G3, G12: opening reads no tensor."""
    path = torch_file(tmp_path / "f.pt", ordered({"w": tensor()}, {"_metadata": mapping(metadata)}))
    opened = ckptkit.open(path)
    assert opened.source.state_metadata is None
    assert "attributes of the root that are not kept: '_metadata'" in opened.source.notes
    assert opened["w"].tolist() == [1, 2, 3, 4]
    ckptkit.save(path, tmp_path / "o.pt")


def test_attributes_of_values_and_of_what_lies_beside_the_root_are_kept(tmp_path: Path) -> None:
    """G19."""
    inner = OrderedDict(a=1)
    vars(inner)["_metadata"] = OrderedDict({"": {"version": 2}})
    torch.save({"state_dict": {"w": torch.ones(2), "odd": inner}, "other": inner}, tmp_path / "f.pt")
    assert vars(ckptkit.open(tmp_path / "f.pt")["odd"]) == vars(inner)
    ckptkit.save(tmp_path / "f.pt", tmp_path / "o.pt")
    loaded = torch.load(tmp_path / "o.pt", weights_only=True)
    assert vars(loaded["other"]) == vars(inner) == vars(loaded["state_dict"]["odd"])


@pytest.mark.parametrize("place", ["w", "extra.w"])
def test_attributes_of_tensors_are_named_wherever_the_tensor_lies(tmp_path: Path, place: str) -> None:
    """G18: they are not kept."""
    odd = torch.nn.Parameter(torch.ones(2))
    vars(odd)["note"] = 1
    inside = place == "w"
    torch.save(
        {"state_dict": {"w": odd if inside else torch.ones(2)}, "extra": {} if inside else {"w": odd}},
        tmp_path / "f.pt",
    )
    words = f"1 tensors carry Python attributes, which are not kept; the first is {place!r} with note"
    assert words in ckptkit.open(tmp_path / "f.pt").source.notes
