"""What people write first is understood, or the message says how to write it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from ckptkit.__main__ import main
from ckptkit.files.elsewhere import where_instead

NET = """
import torch
from dataclasses import dataclass
from beside import WIDTH

@dataclass
class Settings:
    width: int = WIDTH

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(Settings().width, 2)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "code").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "code" / "nets.py").write_text(NET)
    (tmp_path / "code" / "beside.py").write_text("WIDTH = 3\n")
    (tmp_path / "code" / "inner.py").write_text("from .beside import WIDTH\n")
    (tmp_path / "code" / "json.py").write_text(
        "import torch\ndef build():\n    return torch.nn.Linear(3, 2)\n"
    )
    save_file(torch.nn.Linear(3, 2).state_dict(), tmp_path / "work" / "a.safetensors")
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path
    for name in ("nets", "beside", "inner", "_model_in_json"):
        sys.modules.pop(name, None)


def error(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = main(list(words))
    assert code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.removeprefix("error: ").strip()


@pytest.mark.parametrize("spec", ["../code/nets.py:Net", "{}/code/nets.py:Net", "../code/json.py:build"])
def test_a_model_may_be_named_by_its_file(
    spec: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sys.modules.get("json")
    assert main(["check", "a.safetensors", "--model", spec.format(folder)]) == 0
    assert sys.modules.get("json") is before
    assert "fits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("../code/net.py:Net", "there is no file ../code/net.py"),
        ("../code/nets:Net", "there is no file ../code/nets; did you mean ../code/nets.py:Net?"),
        ("../code/nets.py:Nett", "../code/nets.py has no 'Nett'; check the name"),
        ("../code/inner.py:Net", "importing ../code/inner.py failed: ImportError: attempted relative import with no known "
         "parent package; it is part of a package: write PACKAGE.MODULE:FACTORY, from the folder that holds the package"),
    ],
)  # fmt: skip
def test_a_file_that_has_no_such_model_is_an_error_that_says_so(
    spec: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert error(capsys, "check", "a.safetensors", "--model", spec) == f"--model {spec}: {message}"


def test_a_model_without_a_factory_is_told_how_to_write_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert error(capsys, "check", "a.safetensors", "--model", "../code/nets.py") == (
        "--model '../code/nets.py': write it as PACKAGE.MODULE:FACTORY or FILE.py:FACTORY, e.g. my_project.models:build or "
        "../models.py:Net"
    )


WEB = "it is an address of the web, and ckptkit reads files; download it first: curl -L -O"
HUB = "it is an address of the Hugging Face hub; download it first: hf download"
GIVE = "and give the folder that it prints"
ELSEWHERE = {
    "https://example.org/a.pt?x=1&y=2": f"{WEB} 'https://example.org/a.pt?x=1&y=2'",
    "s3://bucket/a.pt": "it is an address (s3), and ckptkit reads files; download it first: aws s3 cp s3://bucket/a.pt .",
    "gs://bucket/a.pt": "it is an address (gs), and ckptkit reads files; download it first: gcloud storage cp "
    "gs://bucket/a.pt .",
    "az://bucket/a.pt": "it is an address (az), and ckptkit reads files; download it first",
    "hf://org/name": f"{HUB} org/name, {GIVE}",
    "hf://org/name@v2": f"{HUB} org/name --revision v2, {GIVE}",
    "https://huggingface.co/org/na.me": f"{HUB} org/na.me, {GIVE}",
    "https://huggingface.co/org/name/blob/main/model.safetensors": f"{HUB} org/name model.safetensors, and give the file "
    "that it prints",
    "https://huggingface.co/org/name/resolve/dev/sub/model.pt?download=true": f"{HUB} org/name sub/model.pt --revision dev, "
    "and give the file that it prints",
    "huggingface.co/org/name": f"{HUB} org/name, {GIVE}",
    "www.example.org/a.pt": "if an address of the web is meant, download it first: curl -L -O "
    "https://www.example.org/a.pt",
    "org/name": "if a repository of the Hugging Face hub is meant, download it first: hf download org/name, "
    "and give the folder that it prints",
}


@pytest.mark.parametrize("address", ELSEWHERE)
def test_an_address_that_is_no_file_says_how_to_get_it(
    address: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["inspect", address],
        ["remap", address, "x.pt"],
        ["check", "a.safetensors", "--like", address],
    ):
        wanted = f"{address}: does not exist; {ELSEWHERE[address]}"
        assert error(capsys, *words) == wanted


MISSING = {
    "a.pt": "; it was looked for in {here}",
    "a.safetensor": "; did you mean a.safetensors?",
    "work/a.safetensor": "; did you mean work/a.safetensors?",
    "work/part-1.pt": "",  # beside part-2.pt: another number is another file
    "work/name": "",
    "work/mini.safetensors": "",  # beside a.safetensors: a suffix in common is no likeness
    "work/part-2.ptt": "; did you mean work/part-2.pt?",
    "runs/a.pt": "; there is no folder runs either",
    "/tmp-no/such": "; there is no folder /tmp-no either",
    "./org/name": "; there is no folder ./org either",
    "a/b/c": "; there is no folder a/b either",
}


@pytest.mark.parametrize("path", MISSING)
def test_any_other_missing_path_is_told_with_what_is_there(
    path: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path.cwd() / "work").mkdir()
    for name in ("a.safetensors", "part-2.pt"):
        (Path.cwd() / "work" / name).write_bytes(b"")
    assert error(capsys, "inspect", path) == f"{path}: does not exist{MISSING[path].format(here=Path.cwd())}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a folder in use cannot be removed")
def test_a_folder_that_is_gone_is_no_other_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert where_instead("a.pt") is None


@given(st.text(max_size=80))
def test_any_text_gets_an_answer(text: str) -> None:
    answer = where_instead(text)
    told = ("did you mean ", "there is no folder ", "it was looked for in ")
    assert answer is None or "download it first" in answer or answer.startswith(told)


def test_what_is_written_to_an_address_is_told_to_be_uploaded(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert error(capsys, "convert", "a.safetensors", "s3://bucket/b.pt") == (
        "s3://bucket/b.pt: it is an address, and ckptkit writes files; write one here and upload it: aws s3 cp FILE "
        "s3://bucket/b.pt"
    )


OTHERS = [
    (("convert", "a.safetensors", "b.pt", "--cast", "bf16"),
     "unknown argument '--cast': convert does not take it, remap does: ckptkit remap SRC DST --cast DTYPE; see ckptkit "
     "convert --help"),
    (("convert", "a.safetensors", "b.pt", "--cast=bf16"),
     "unknown argument '--cast': convert does not take it, remap does: ckptkit remap SRC DST --cast DTYPE; see ckptkit "
     "convert --help"),
    (("convert", "a", "b", "--rename", "a", "b"),
     "unknown argument '--rename': convert does not take it, remap does: ckptkit remap SRC DST --rename PATTERN "
     "REPLACEMENT; see ckptkit convert --help"),
    (("diff", "a", "b", "--stats"),
     "unknown argument '--stats': diff does not take it, inspect does: ckptkit inspect CKPT --stats; see ckptkit diff "
     "--help"),
    (("verify", "a", "--finit"), "unknown argument '--finit' (did you mean --finite?); see ckptkit verify --help"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), OTHERS)
def test_an_option_of_another_command_names_that_command(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert error(capsys, *words) == message
