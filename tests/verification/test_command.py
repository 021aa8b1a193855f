"""``ckptkit verify`` as a user runs it: words, documents, exit codes, and what is not imported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ckptkit
from ckptkit.text import human_bytes
from ckptkit.verification.report import Damage, Verification

from ..cli.conftest import Shell, shell, state  # noqa: F401 - a fixture

DAMAGED = """\
damaged: 2 problems (1 file, 9 tensors, {size} read)
  run.pt, key module.layers.1.attn.q.weight, byte {first}
    entry 'data/3' is damaged: its bytes have CRC X, the archive declares X; get a fresh copy of the file
  run.pt, key module.step, byte {second}
    entry 'data/7' is damaged: its bytes have CRC X, the archive declares X; get a fresh copy of the file
note: root: state_dict, the only weights (9 tensors)
"""


def damage(path: Path, *keys: str) -> list[int]:
    """Flip a bit of some tensors; where their data begins."""
    blob = bytearray(path.read_bytes())
    places = []
    with ckptkit.open(path) as checkpoint:
        for key in keys:
            region = checkpoint.source.view(key).storage.region
            assert region is not None
            blob[region.offset] ^= 1
            places.append(region.offset)
    path.write_bytes(blob)
    return places


def test_a_whole_checkpoint_exits_0_in_one_line(shell: Shell) -> None:  # noqa: F811
    ran = shell("verify", "model.safetensors")
    assert (ran.code, ran.out, ran.err) == (0, "whole: 1 file, 9 tensors, 1.2 kB read\n", "")
    ckptkit.save(state(), shell.folder / "m", max_shard_size=200)
    ran = shell("verify", "m", "--hash")
    assert ran.code == 0
    assert ran.out.startswith("whole: 4 files, 9 tensors, ")
    digest = ckptkit.verify(shell.folder / "model.safetensors", hash=True).hash
    assert ran.out.endswith(f"\nhash: {digest}\n")
    assert shell("verify", "m/model.safetensors.index.json", "--finite").code == 0


def test_damage_exits_1_with_file_key_and_place(shell: Shell) -> None:  # noqa: F811
    first, second = damage(shell.folder / "run.pt", "module.layers.1.attn.q.weight", "module.step")
    ran = shell("verify", "run.pt")
    assert ran.code == 1
    size = human_bytes(ckptkit.verify(shell.folder / "run.pt").nbytes)
    shown = re.sub(r"\b[0-9a-f]{8}\b", "X", ran.out)
    assert shown == DAMAGED.format(first=first, second=second, size=size)


def test_the_document_is_the_contract_to_the_letter(shell: Shell) -> None:  # noqa: F811
    (place,) = damage(shell.folder / "run.pt", "module.step")
    ran = shell("verify", "run.pt", "--hash", "--json")
    assert ran.code == 1
    document = ran.document
    (problem,) = document["problems"]
    assert problem.pop("problem").startswith("run.pt: entry 'data/7' is damaged: its bytes have CRC ")
    assert document == {
        "format": "ckptkit.verification",
        "version": 1,
        "ok": False,
        "outcome": "damaged",
        "problems": [{"file": "run.pt", "key": "module.step", "offset": place}],
        "hash": None,
        "notes": [
            "root: state_dict, the only weights (9 tensors)",
            "values were not looked at, since the checkpoint is damaged",
        ],
        "checked": {"files": 1, "tensors": 9, "bytes": ckptkit.verify(shell.folder / "run.pt").nbytes},
    }
    ran = shell("verify", "model.safetensors", "--hash", "--json")
    size = os.path.getsize(shell.folder / "model.safetensors")
    assert (ran.document["ok"], ran.document["problems"]) == (True, [])
    assert ran.document["hash"] == ckptkit.verify(shell.folder / "model.safetensors", hash=True).hash
    assert ran.document["checked"] == {"files": 1, "tensors": 9, "bytes": size}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("page.pt", b"<!DOCTYPE html><html></html>", "is an HTML page"),
        ("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("empty.bin", b"", "is an empty file"),
        ("zeros.ckpt", bytes(99), "is a file of zeros"),
        ("unknown.pt", b"\x07\x03\x01\xff" * 9, "of no format that ckptkit knows"),
        ("sig.json", b'{"format": "ckptkit.signature"', "no valid JSON"),
    ],
)
def test_what_is_no_checkpoint_was_read_and_is_not_whole(
    name: str, content: bytes, words: str, shell: Shell  # noqa: F811
) -> None:  # fmt: skip
    (shell.folder / name).write_bytes(content)
    ran = shell("verify", name, "--finite", "--hash", "--json")
    assert ran.code == 1
    (problem,) = ran.document["problems"]
    assert (problem["file"], problem["key"]) == (name, None)
    assert words in problem["problem"]


def test_what_cannot_be_looked_at_exits_2(shell: Shell) -> None:  # noqa: F811
    os.mkfifo(shell.folder / "fifo.pt")
    os.mkfifo(shell.folder / "fifo.index.json")
    (shell.folder / "empty").mkdir()
    for words in (
        ["none.pt"], ["none.safetensors.index.json"], ["fifo.pt"], ["fifo.index.json"], ["empty"], [],
        ["run.pt", "--root", "nowhere", "--hash"], ["model.safetensors", "--frob"],
    ):  # fmt: skip
        ran = shell("verify", *words)
        assert (ran.code, ran.out) == (2, ""), words
        assert ran.err.startswith("error: ")
        assert ran.err.count("\n") == 1
    if os.geteuid():
        (shell.folder / "model.safetensors").chmod(0)
        assert shell("verify", "model.safetensors").code == 2


def test_a_file_is_whole_whatever_its_root(shell: Shell) -> None:  # noqa: F811
    for root in ("auto", "none", "state_dict", "nowhere"):
        ran = shell("verify", "run.pt", "--root", root)
        assert ran.code == 0
        assert ("note: the file is whole, but there is no root 'nowhere'" in ran.out) is (root == "nowhere")


@pytest.mark.parametrize("flags", [[], ["--hash"], ["--hash", "--json"]])
def test_torch_is_not_imported_without_finite(flags: list[str], shell: Shell) -> None:  # noqa: F811
    ckptkit.save(state(), shell.folder / "m", max_shard_size=200)
    code = "import sys; from ckptkit.__main__ import main; sys.exit(main(sys.argv[1:]) or 'torch' in sys.modules)"
    for name in ("model.safetensors", "run.pt", "m"):
        words = [sys.executable, "-c", code, "verify", name, *flags]
        subprocess.run(words, cwd=shell.folder, check=True, capture_output=True)


def test_many_problems_are_counted_in_words_and_listed_in_the_document() -> None:
    report = Verification(tuple(Damage("f", f"f: bad {i}", "k\n\x1b[2J", i) for i in range(70)))
    text = str(report)
    assert "damaged: 70 problems" in text
    assert "  f, key k\\n\\x1b[2J, byte 49\n    bad 49\n  and 20 more; --json lists all" in text
    assert len(report.to_json()["problems"]) == 70
    assert "bad 49" in report._repr_html_()
    assert "\x1b" not in text
