"""Sharded checkpoints: everything that is wrong with any of their files, or between them, is listed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import ckptkit
from ckptkit.verification.report import Verification

from ..formats.test_sharded import INDEX, ONE, TWO, folder

THREE = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]


def by_file(report: Verification) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for damage in report.problems:
        found.setdefault(os.path.basename(damage.file), []).append(damage.problem)
    return found


def of(report: Verification) -> set[tuple[str | None, str]]:
    """Key and words about it, without the index's path."""
    return {(d.key, d.problem.removeprefix(f"{d.file}: ")) for d in report.problems}


def test_all_damaged_and_missing_shards_are_listed(tmp_path: Path) -> None:
    names = [f"pytorch_model-0000{i}-of-00006.bin" for i in range(1, 7)]
    for number, name in enumerate(names):
        torch.save({str(number): torch.full((64,), 1.0 + number)}, tmp_path / name)
    weight_map = {str(number): name for number, name in enumerate(names)}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert ckptkit.verify(tmp_path, finite=True, hash=True).problems == ()
    flipped = bytearray((tmp_path / names[0]).read_bytes())
    flipped[flipped.index(torch.ones(64).numpy().tobytes())] ^= 1
    (tmp_path / names[0]).write_bytes(flipped)
    os.truncate(tmp_path / names[1], 100)
    for name in names[2:5]:
        os.unlink(tmp_path / name)
    os.mkfifo(tmp_path / names[3])
    (tmp_path / names[4]).mkdir()
    report = ckptkit.verify(tmp_path, finite=True, hash=True)
    found = by_file(report)
    words = ["its bytes have CRC", "no end record", "does not exist", "is a FIFO", "is a directory"]
    assert list(found) == names[:5]
    assert all(
        len(problems) == 1 and word in problems[0]
        for problems, word in zip(found.values(), words, strict=True)
    )
    assert report.problems[0].key == "0"
    assert report.hash is None
    assert "values were not looked at, since the checkpoint is damaged" in report.notes
    assert (report.files, report.tensors) == (1 + 3, 2)


def test_every_disagreement_of_index_and_shards_is_listed(tmp_path: Path) -> None:
    weight_map = {"a": ONE, "lost": ONE, "gone": TWO, "moved": ONE, "b": TWO, "twice": ONE}
    folder(tmp_path, weight_map, {ONE: ["a", "twice", "new"], TWO: ["b", "twice", "moved", "other"]})
    assert of(ckptkit.verify(tmp_path)) == {
        ("lost", f"'lost' is not in the shard that the index names, {ONE!r}; fetch index and shards again"),
        ("gone", f"'gone' is not in the shard that the index names, {TWO!r}; fetch index and shards again"),
        (
            "moved",
            f"'moved' is not in the shard that the index names, {ONE!r}, but in {TWO!r}; fetch index and shards again",
        ),
        ("twice", f"'twice' is in {ONE!r} and also in {TWO!r}; which of them counts is not known"),
        ("new", f"the shard {ONE!r} holds 'new', which the index does not list; fetch both again"),
        ("other", f"the shard {TWO!r} holds 'other', which the index does not list; fetch both again"),
    }
    with pytest.raises(
        ckptkit.FormatError, match="'lost' is not in .* 5 more disagreements, which verify lists"
    ):
        ckptkit.open(tmp_path)


def test_a_shard_that_cannot_be_read_hides_no_disagreement_of_the_others(tmp_path: Path) -> None:
    folder(
        tmp_path, dict(zip("abc", THREE, strict=True)), {THREE[0]: ["a"], THREE[1]: ["x"], THREE[2]: ["c"]}
    )
    os.truncate(tmp_path / THREE[0], 5)
    report = ckptkit.verify(tmp_path)
    assert {(os.path.basename(d.file), d.key) for d in report.problems} == {
        (THREE[0], None), (INDEX, "b"), (INDEX, "x"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no valid JSON"),
        ("{}", "needs a weight_map"),
        ('{"weight_map": {"a": "../a.bin"}}', "no plain file name"),
        (json.dumps({"weight_map": {"a": ONE}}), "call themselves 2, and the index lists 1"),
    ],
)
def test_a_broken_index_is_a_problem_of_the_index(text: str, words: str, tmp_path: Path) -> None:
    folder(tmp_path, text, {ONE: ["a"]})
    for path in (tmp_path, tmp_path / INDEX):
        (damage,) = ckptkit.verify(path).problems
        assert damage.file == str(tmp_path / INDEX)
        assert words in damage.problem


@pytest.mark.parametrize(("stated", "notes"), [(16, 0), (17, 1), (16.0, 0), (None, 0)])
def test_a_total_size_that_is_another_is_noted(stated: float | None, notes: int, tmp_path: Path) -> None:
    document = {"metadata": {"total_size": stated}, "weight_map": {"a": ONE, "b": TWO}}
    folder(tmp_path, json.dumps(document), {ONE: ["a"], TWO: ["b"]})
    report = ckptkit.verify(tmp_path)
    assert report.ok
    words = f"the index states total_size {stated}, the tensors of its shards have 16 bytes"
    assert report.notes == (words,) * notes


def test_other_weight_files_beside_the_checkpoint_are_noted(tmp_path: Path) -> None:
    folder(tmp_path, {"a": ONE, "b": TWO}, {ONE: ["a"], TWO: ["b"], THREE[0]: ["a"]})
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    note = f"{INDEX} was taken; the folder also holds {THREE[0]!r}, 'pytorch_model.bin'"
    for path in (tmp_path, tmp_path / INDEX):
        report = ckptkit.verify(path)
        assert (report.ok, report.notes) == (True, (note,))
    single = tmp_path / "single"
    single.mkdir()
    for name in ("model.safetensors", "adapter.safetensors"):
        ckptkit.save({"a": torch.ones(2)}, single / name)
    assert ckptkit.verify(single).notes == (
        "model.safetensors was taken; the folder also holds 'adapter.safetensors'",
    )
    assert ckptkit.verify(single / "model.safetensors").notes == ()


def test_a_root_of_a_sharded_checkpoint_is_noted_and_refused_for_values(tmp_path: Path) -> None:
    folder(tmp_path, {"a": ONE, "b": TWO}, {ONE: ["a"], TWO: ["b"]})
    report = ckptkit.verify(tmp_path, root="model")
    assert report.ok
    assert report.notes == (
        "the root 'model' was asked for, and a sharded checkpoint has only its top level",
    )
    with pytest.raises(ckptkit.RootError):
        ckptkit.verify(tmp_path, root="model", hash=True)
