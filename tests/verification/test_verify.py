"""`verify` finds every damage there is a trace of, says where it is, and calls whole what is whole."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit

from ..cli.conftest import Shell, shell  # noqa: F401 - a fixture


def state() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(16.0).reshape(4, 4), "b": torch.tensor([1.0, 2.0]), "c": torch.arange(5)}


def write(folder: Path) -> dict[str, Path]:
    """The same state_dict in every format."""
    torch.save({"state_dict": state(), "epoch": 3}, folder / "a.pt")
    torch.save(state(), folder / "l.pt", _use_new_zipfile_serialization=False)
    ckptkit.save(state(), folder / "a.safetensors")
    ckptkit.save(state(), folder / "sharded", max_shard_size=70)
    return {name: folder / name for name in ("a.pt", "l.pt", "a.safetensors", "sharded")}


def test_whole_files_are_whole_and_equal_content_has_one_hash(tmp_path: Path) -> None:
    reports = [ckptkit.verify(path, finite=True, hash=True) for path in write(tmp_path).values()]
    assert [report.problems for report in reports] == [()] * 4
    assert len({report.hash for report in reports}) == 1
    assert [report.tensors for report in reports] == [3] * 4
    ckptkit.save(dict(reversed(state().items())), tmp_path / "reversed.safetensors")
    assert ckptkit.verify(tmp_path / "reversed.safetensors", hash=True).hash == reports[0].hash
    ckptkit.save({**state(), "b": torch.tensor([1.0, 2.5])}, tmp_path / "other.safetensors")
    assert ckptkit.verify(tmp_path / "other.safetensors", hash=True).hash != reports[0].hash


@given(data=st.data())
def test_a_flipped_bit_in_any_entry_of_a_torch_file_is_found_and_located(
    data: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("flip") / "a.pt"
    torch.save(state(), path)
    blob = bytearray(path.read_bytes())
    with ckptkit.open(path) as checkpoint:
        key = data.draw(st.sampled_from(sorted(state())))
        region = checkpoint.source.view(key).storage.region
    assert region is not None
    at = data.draw(st.integers(0, region.nbytes - 1))
    blob[region.offset + at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(blob)
    (damage,) = ckptkit.verify(path).problems
    assert (damage.key, damage.offset) == (key, region.offset)
    assert "its bytes have CRC" in damage.problem


def test_every_damaged_entry_is_listed_also_when_the_pickle_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(state(), path)
    with ckptkit.open(path) as checkpoint:
        places = [checkpoint.source.view(key).storage.region for key in state()]
    blob = bytearray(path.read_bytes())
    for place in places:
        assert place is not None
        blob[place.offset] ^= 1
    blob[blob.index(b"weight")] ^= 1  # in data.pkl
    path.write_bytes(blob)
    problems = ckptkit.verify(path).problems
    assert sum("entry 'data/" in damage.problem for damage in problems) == 3
    assert sum("entry 'data.pkl'" in damage.problem for damage in problems) == 1


@pytest.mark.parametrize("name", ["a.pt", "l.pt", "a.safetensors"])
def test_a_file_cut_anywhere_is_not_whole(name: str, tmp_path: Path) -> None:
    blob = write(tmp_path)[name].read_bytes()
    cut = tmp_path / f"cut-{name}"
    for length in {*range(0, len(blob), 7), len(blob) - 1}:
        cut.write_bytes(blob[:length])
        assert not ckptkit.verify(cut).ok, length


def test_every_damaged_missing_or_disagreeing_shard_is_listed(tmp_path: Path) -> None:
    folder = write(tmp_path)["sharded"]
    index = folder / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["weight_map"]["ghost"] = document["weight_map"]["b"]
    index.write_text(json.dumps(document))
    (damage,) = ckptkit.verify(folder).problems
    assert (damage.file, damage.key) == (str(index), "ghost")
    first, second = sorted(set(document["weight_map"].values()))
    os.truncate(folder / first, 60)
    os.remove(folder / second)
    found = {os.path.basename(damage.file): damage.problem for damage in ckptkit.verify(folder).problems}
    assert "it was cut" in found[first]
    assert "does not exist" in found[second]


def test_what_is_no_number_is_counted_and_located(tmp_path: Path) -> None:
    weight = torch.ones(3, 4)
    weight[1, 2], weight[2, 0] = float("nan"), float("inf")
    ckptkit.save({"w": weight, "n": torch.arange(3)}, tmp_path / "a.safetensors")
    assert ckptkit.verify(tmp_path / "a.safetensors").ok
    (damage,) = ckptkit.verify(tmp_path / "a.safetensors", finite=True).problems
    assert damage.key == "w"
    assert damage.problem == "1 NaN and 1 infinite of 12 values, the first at index [1, 2]"
    blob = (tmp_path / "a.safetensors").read_bytes()
    assert damage.offset is not None
    assert blob[damage.offset : damage.offset + 4] == weight[1, 2:3].view(torch.uint8).numpy().tobytes()


def test_a_file_without_a_state_dict_is_read_and_not_understood(tmp_path: Path) -> None:
    torch.save([torch.ones(2), 3], tmp_path / "list.pt")
    report = ckptkit.verify(tmp_path / "list.pt", hash=True)
    assert (report.ok, report.outcome, report.hash, report.tensors) == (False, "not understood", None, 1)
    (problem,) = report.problems
    assert "it holds a list, not a dictionary of tensors" in problem.problem
    assert not problem.evident
    assert report.notes == ("values were not looked at, since the checkpoint is not understood",)


def test_several_networks_side_by_side_are_whole(tmp_path: Path) -> None:
    torch.save({"a": {"x": torch.ones(3)}, "b": {"x": torch.ones(3)}}, tmp_path / "gan.pt")
    report = ckptkit.verify(tmp_path / "gan.pt")
    assert (report.ok, report.outcome, report.tensors) == (True, "whole", 2)
    assert "the file is whole, but the weights could be in 'a', 'b'" in report.notes[0]


def test_a_sparse_tensor_and_a_call_that_runs_code_are_not_understood(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> object:
            return os.system, ("true",)

    torch.save({"w": torch.ones(2), "mask": torch.ones(2, 2).to_sparse()}, tmp_path / "sparse.pt")
    torch.save({"state_dict": {"w": torch.ones(2)}, "evil": Evil()}, tmp_path / "evil.pt")
    for name, key, words in (
        ("sparse.pt", "mask", "sparse"),
        ("evil.pt", "evil", "calls posix.system, which runs code where the file is unpickled"),
    ):
        report = ckptkit.verify(tmp_path / name)
        assert report.outcome == "not understood"
        assert (report.problems[0].key, report.problems[0].evident) == (key, False)
        assert words in report.problems[0].problem


def test_what_cannot_be_looked_at_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.pt")
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("none.pt", "does not exist"),
        ("fifo.pt", "is a FIFO"),
        ("empty", "holds no checkpoint"),
    ):
        with pytest.raises(ckptkit.FormatError, match=words):
            ckptkit.verify(tmp_path / name)
    with pytest.raises(ckptkit.UsageError, match="takes a path, not a value of type dict"):
        ckptkit.verify({})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["export", "gguf"])
def test_what_is_something_else_is_not_called_damaged(kind: str, shell: Shell, tmp_path: Path) -> None:  # noqa: F811
    """G17: an archive of another kind is named as such, by verify too."""
    path = tmp_path / "other.pt"
    if kind == "export":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("other/archive_format", "pt2")
            archive.writestr("other/models/model.json", "{}")
    else:
        path.write_bytes(b"GGUF" + bytes(60))
    words = {
        "export": "a torch.export (.pt2) archive",
        "gguf": "a GGUF file",
    }
    report = ckptkit.verify(path)
    assert report.outcome == "not understood"
    assert words[kind] in report.problems[0].problem
    answer = shell("verify", str(path))
    assert answer.code == 1
    assert answer.out.startswith("not understood: 1 problem")


def test_the_command_prints_where_and_exits_as_promised(shell: Shell) -> None:  # noqa: F811
    assert shell("verify", "model.safetensors").out == "whole: 1 file, 9 tensors, 1.2 kB read\n"
    (shell.folder / "page.pt").write_text("<!DOCTYPE html><html></html>")
    ran = shell("verify", "page.pt", "--json")
    assert ran.code == 1
    assert ran.document["ok"] is False
    assert ran.document["hash"] is None
    assert set(ran.document["problems"][0]) == {"file", "key", "offset", "problem"}
    assert shell("verify", "none.pt").code == 2
    ran = shell("verify", "run.pt", "--hash", "--json")
    assert ran.document["hash"] == shell("verify", "model.safetensors", "--hash", "--json").document["hash"]


def test_torch_is_not_imported_to_verify(shell: Shell) -> None:  # noqa: F811
    code = "import sys, ckptkit; assert ckptkit.verify(sys.argv[1], hash=True).ok; assert 'torch' not in sys.modules"
    import subprocess
    import sys

    for name in ("model.safetensors", "run.pt"):
        subprocess.run([sys.executable, "-c", code, name], cwd=shell.folder, check=True)
