"""Mutated valid files against torch and safetensors: whatever is accepted they read equal, what they refuse is refused.

A part of the seeds runs here; ``make reliability`` runs ten minutes for each reader. Seeds that once found something
are kept below.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit

from .corpus import TESTS
from .mutations import READERS, valid

SECONDS = float(os.environ.get("CKPTKIT_FUZZ_SECONDS", "0"))
COUNT = 400


def fuzz(reader: str, first: int, count: int) -> dict[str, Any]:
    paths = [str(TESTS.parent / "src"), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    limit = [str(SECONDS)] if SECONDS else []
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "reliability.fuzz", reader, str(first), str(count), *limit],
        capture_output=True,
        text=True,
        timeout=SECONDS + 200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("reader", READERS)
def test_no_mutated_file_crashes_hangs_or_reads_otherwise(reader: str) -> None:
    result = fuzz(reader, 0, 10**9 if SECONDS else COUNT)
    print(f"\n{reader}: cases {result['cases']} {result['outcomes']} violations {len(result['violations'])}")
    assert result["violations"] == []
    assert {"ok", "error"} <= set(result["outcomes"])


def changed(blob: bytes, at: int, value: int) -> bytes:
    return blob[:at] + bytes([value]) + blob[at + 1 :]


def test_damage_in_an_entry_that_describes_the_file_is_damage(tmp_path: Path) -> None:
    blob = valid("zip")
    archive = zipfile.ZipFile(io.BytesIO(blob))
    for name in ("archive/.data/serialization_id", "archive/.storage_alignment"):
        info = archive.getinfo(name)
        content = archive.read(info)
        at = blob.index(content, info.header_offset)
        (tmp_path / "a.pt").write_bytes(changed(blob, at, 0xB9))
        with pytest.raises(ckptkit.FormatError, match="its bytes have CRC"):
            ckptkit.open(tmp_path / "a.pt")


CENTRAL = b"PK\1\2"


@pytest.mark.parametrize(
    ("field", "value", "words"), [(38, 0x10, "marked as a folder"), (34, 0xFF, "one part of several")]
)
def test_fields_of_the_directory_that_other_readers_believe_are_refused(
    field: int, value: int, words: str, tmp_path: Path
) -> None:
    # torch gives uninitialised memory for an entry that is marked as a folder.
    blob = valid("zip")
    at = blob.index(CENTRAL) + field
    (tmp_path / "a.pt").write_bytes(changed(changed(blob, at, value), at + (field == 34), value))
    with pytest.raises(ckptkit.FormatError, match=words):
        ckptkit.open(tmp_path / "a.pt")


def test_a_zip64_locator_that_counts_no_disks_is_refused_as_torch_refuses_it(tmp_path: Path) -> None:
    blob = valid("zip")
    (tmp_path / "a.pt").write_bytes(changed(blob, blob.index(b"PK\6\7") + 16, 0))
    with pytest.raises(RuntimeError, match="multidisk"):
        torch.load(tmp_path / "a.pt")
    with pytest.raises(ckptkit.FormatError, match="zip64 locator"):
        ckptkit.open(tmp_path / "a.pt")


def test_integers_that_require_gradients_are_refused_as_torch_refuses_them(tmp_path: Path) -> None:
    torch.save(
        {"n": torch.arange(3), "w": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False
    )
    blob = (tmp_path / "a.pt").read_bytes()
    # The opcode of False behind the stride of the first tensor.
    at = blob.index(b"\x89", blob.index(b"LongStorage"))
    (tmp_path / "a.pt").write_bytes(changed(blob, at, 0x88))
    with pytest.raises(RuntimeError, match="can require gradients"):
        torch.load(tmp_path / "a.pt")
    with pytest.raises(ckptkit.FormatError, match="requires a gradient and has the dtype int64"):
        ckptkit.open(tmp_path / "a.pt")
