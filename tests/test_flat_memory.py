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
