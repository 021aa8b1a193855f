"""What opens and loses one of its files gives the same keys from elsewhere, or nothing: never some of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ckptkit
from ckptkit.__main__ import main

from .truth import Opens, every_case

ZOO = every_case()


@pytest.mark.parametrize("name", ZOO)
def test_without_one_of_its_files_a_checkpoint_gives_all_of_its_keys_or_none(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "f").mkdir()
    truth = ZOO[name].make(tmp_path / "f")
    if not isinstance(truth, Opens) or not truth.path.is_dir():
        return
    for number, lost in enumerate(sorted(path for path in truth.path.rglob("*") if path.is_file())):
        copy = tmp_path / str(number)
        shutil.copytree(tmp_path / "f", copy, symlinks=True)
        (copy / lost.relative_to(tmp_path / "f")).unlink()
        out = tmp_path / f"{number}.safetensors"
        code = main(["convert", str(copy / truth.path.relative_to(tmp_path / "f")), str(out), *truth.flags])
        assert code in (0, 2)
        if code == 0:
            with ckptkit.open(out) as written:
                # Another checkpoint may be the only one now; second names of ties may stand in an index alone.
                keys = set(truth.state) - {key for group in truth.ties for key in group[1:]}
                missing = keys - set(written)
                assert not missing or missing == keys, f"without {lost.relative_to(truth.path)}"
        shutil.rmtree(copy)
