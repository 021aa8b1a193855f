"""Memory stays flat while the file grows: whole processes, peak memory beyond the imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ckptkit

CODE = """
import resource, sys
import ckptkit.api, ckptkit.formats.torch_zip, ckptkit.formats.torch_write, ckptkit.formats.sharded_write
if sys.argv[3] != "add_prefix":
    import torch
    torch.ones(1).to(torch.bfloat16)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rule = {"op": "add_prefix", "prefix": "m."} if sys.argv[3] == "add_prefix" else {"op": "cast", "dtype": "bfloat16"}
ckptkit.save(ckptkit.remap(sys.argv[1], [rule]), sys.argv[2], overwrite=True)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("rule", ["add_prefix", "cast"])
@pytest.mark.parametrize("source", ["a.safetensors", "a.pt"])
def test_peak_memory_does_not_grow_with_the_number_of_tensors(tmp_path: Path, source: str, rule: str) -> None:
    peaks = []
    ckptkit.save({str(i): torch.zeros(1 << 20) for i in range(64)}, tmp_path / source)
    for target in ("b.safetensors", "b.pt"):
        done = subprocess.run(
            [sys.executable, "-c", CODE, source, target, rule],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout))
    # 64 tensors are 256 MB. A mapped page counts as resident until the kernel wants it back, so casting, which
    # looks into the mapped file, is allowed the file once, and never a second copy of it.
    assert max(peaks) < (60 if rule == "add_prefix" else 256 + 100), peaks


DIFF = """
import resource, sys, torch
import ckptkit.comparison.comparing, ckptkit.formats.torch_zip
ckptkit.diff({"w": torch.ones(9)}, {"w": torch.zeros(9)}, values=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = ckptkit.diff(sys.argv[1], sys.argv[2], values=sys.argv[3] == "values")
assert not report.same
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("what", ["values", "renames"])
def test_peak_memory_of_a_diff_does_not_grow_with_the_size_of_a_tensor(tmp_path: Path, what: str) -> None:
    large = torch.zeros(1 << 25)
    ckptkit.save({"w": large}, tmp_path / "a.safetensors")
    large[-1] = 1 if what == "values" else 0
    ckptkit.save({"w" if what == "values" else "v": large}, tmp_path / "b.pt")
    done = subprocess.run(
        [sys.executable, "-c", DIFF, "a.safetensors", "b.pt", what],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 60  # each of the two files is 134 MB
