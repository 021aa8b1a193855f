"""Writing commands under kills, polite signals, full and read-only disks and a closed stdout: G20 to G26.

The harness lives in the shared folder; a fast part of it runs here, all of it with ``make reliability``. What it
checks: the input is untouched, the output is absent, complete old or complete new, exit 0 means new, no temporary
file is left by what can be caught, and a second run succeeds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit

from .corpus import SHARED, TESTS, available

pytestmark = pytest.mark.skipif(not available(), reason="the shared harness is not here")

FULL = "CKPTKIT_FULL" in os.environ
RENAME = ["--rename", "^old", "new"]
# The rule may touch nothing, so that the second run of an in-place rename is one too.
AGAIN = {"rules": [{"op": "rename", "pattern": "^old", "replacement": "new", "required": False}]}
# name: options, the faults of the fast part (None: all), command
CASES: dict[str, tuple[list[str], str | None, list[str]]] = {
    "rename to safetensors": (
        ["--output", "out.safetensors"], None, ["remap", "{in}", "{out}", "--overwrite", *RENAME]),
    "rename to torch": (
        ["--output", "out.pt"], "sigkill,fsize,sigterm", ["remap", "{in}", "{out}", "--overwrite", *RENAME]),
    "convert to shards": (
        ["--output", "out", "--output-is-dir", "--index-name", "model.safetensors.index.json"],
        "sigkill,fsize,rename", ["convert", "{in}", "{out}/", "--overwrite", "--max-shard-size", "700KB"]),
    "rename in place": (
        ["--output", "in.safetensors", "--inplace"], "sigkill,growth,sigint,fsize,nofile",
        ["remap", "{in}", "--in-place", "--config", "again.json"]),
    "cast": (
        ["--output", "out.safetensors"], "", ["remap", "{in}", "{out}", "--overwrite", "--cast", "float16"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_whatever_stops_a_write_nothing_is_lost(name: str, tmp_path: Path) -> None:
    options, faults, command = CASES[name]
    if faults == "" and not FULL:
        pytest.skip("imports torch in every run; make reliability runs it")
    if faults and (not FULL or "in place" in name):
        options = [*options, "--faults", faults]
    source = tmp_path / "in.safetensors"
    state = {f"old.{i}": torch.full((100, 500), float(i)) for i in range(10)}
    ckptkit.save(state, source)
    config = tmp_path / "again.json"
    config.write_text(json.dumps(AGAIN))
    command = [str(config) if word == "again.json" else word for word in command]
    effort = ["--kills", "40", "--growth", "8"] if FULL else ["--kills", "2", "--growth", "1"]
    paths = [str(TESTS.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(SHARED / "crash_harness.py"), "--input", str(source), *effort, *options,
         "--json", str(tmp_path / "runs.json"), "--", sys.executable, "-m", "ckptkit", *command],
        capture_output=True,
        text=True,
        timeout=900 if FULL else 200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
    )  # fmt: skip
    runs: list[dict[str, Any]] = json.loads((tmp_path / "runs.json").read_text())
    bad = [(run["fault"], run["state"], run["bad"]) for run in runs if run["bad"]]
    print(f"\n{name}: runs {len(runs)} violations {len(bad)}")
    assert done.returncode == 0, (bad, done.stdout[-2000:], done.stderr[-2000:])
    # A signal within the first milliseconds meets Python, not us.
    assert not [run for run in runs if run["traceback"] and not run["fault"].startswith("sig")]
    assert len(runs) > 10
