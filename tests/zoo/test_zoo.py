"""Every file and folder of the zoo gives the right answer, and none gives less than the whole with exit 0."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, safe_open

import ckptkit
from ckptkit.__main__ import main

from .truth import IsPart, Opens, Refused, State, every_case

ZOO = every_case()


def raw(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    flat = tensor.detach().contiguous().reshape(-1)
    return tensor.dtype, tensor.shape, flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def same(found: State, expected: State) -> bool:
    return found.keys() == expected.keys() and all(raw(found[key]) == raw(expected[key]) for key in expected)


def options(flags: tuple[str, ...]) -> dict[str, str]:
    return {name.removeprefix("--"): value for name, value in zip(flags[::2], flags[1::2], strict=True)}


def converted(path: Path, second: set[str]) -> dict[str, torch.Tensor]:
    """What is in a safetensors file, the second names of ties too, as huggingface_hub records them."""
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    return tensors | {name: tensors[metadata[name]] for name in second if name not in tensors}


def opens(truth: Opens, out: Path, told: pytest.CaptureFixture[str]) -> None:
    path, asked = str(truth.path), options(truth.flags)
    with ckptkit.open(path, **asked) as opened:
        ties = {key for group in truth.ties for key in group[1:]}
        order = [key for key in opened if key not in ties]
        assert not truth.ordered or order == [key for key in truth.state if key not in ties]
        assert same(dict(opened), truth.state)
        assert {frozenset(group) for group in opened.signature.tied} == {
            frozenset(group) for group in truth.ties
        }
        assert opened.signature.part_of is None
        notes = " ".join(opened.source.notes)
        assert all(words in notes for words in truth.says), notes
    assert main(["convert", path, str(out), *truth.flags]) == 0
    assert same(converted(out, ties), truth.state)
    assert main(["inspect", path, *truth.flags]) == 0
    report = ckptkit.verify(path, **asked)
    assert report.outcome == truth.verified, str(report)


def refused(truth: Refused, out: Path, told: pytest.CaptureFixture[str]) -> None:
    path, asked = str(truth.path), options(truth.flags)
    told.readouterr()
    assert main(["convert", path, str(out), *truth.flags]) == 2
    error = told.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(words in error for words in truth.says), error
    assert not out.exists()
    if truth.verified == "error":
        with pytest.raises(ckptkit.CkptkitError):
            ckptkit.verify(path, **asked)
    else:
        report = ckptkit.verify(path, **asked)
        assert report.outcome == truth.verified, str(report)


def is_part(truth: IsPart, out: Path, told: pytest.CaptureFixture[str]) -> None:
    path = str(truth.path)
    assert ckptkit.signature(path).to_json()["part_of"] == {
        "kind": truth.kind, "index": truth.index, "count": truth.count
    }  # fmt: skip
    assert main(["inspect", path]) == 0
    told.readouterr()
    assert main(["convert", path, str(out)]) == 2
    assert "does not hold all of its weights" in told.readouterr().err
    assert not out.exists()
    assert ckptkit.verify(path).outcome == "not understood"
    assert main(["convert", path, str(out), "--part"]) == 0


@pytest.mark.parametrize("name", ZOO)
def test_a_file_or_folder_of_the_zoo_is_taken_for_what_it_is(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    truth = ZOO[name].make(folder)
    check = {Opens: opens, Refused: refused, IsPart: is_part}[type(truth)]
    check(truth, tmp_path / "out.safetensors", capsys)  # type: ignore[operator]


def test_the_zoo_is_large() -> None:
    assert len(ZOO) >= 120
