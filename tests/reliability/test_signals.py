"""Ctrl-C and SIGTERM at any moment: an exit code, at most one line, and nothing left behind: G21, G26."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import ckptkit

from .corpus import TESTS

STARTED = 0.06  # seconds; before that a signal meets the interpreter, whose words are its own


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_ends_in_one_line_and_leaves_nothing(
    number: signal.Signals, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.pt"
    ckptkit.save({f"old.{i}": torch.full((100, 500), float(i)) for i in range(10)}, source)
    before = source.read_bytes()
    command = [sys.executable, "-m", "ckptkit", "remap", str(source), str(target), "--rename", "^old", "new"]
    paths = [str(TESTS.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    for step in range(12):
        target.unlink(missing_ok=True)
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        time.sleep(STARTED + step * 0.02)
        process.send_signal(number)
        words = process.communicate(timeout=60)[1]
        if "Traceback" not in words or "__main__.py" in words:
            assert process.returncode in (0, 128 + number, -number), words
            assert len(words.splitlines()) <= 1
        # else the machine is slow, and Python was still starting, or importing the package before its command
        assert source.read_bytes() == before
        assert {p.name for p in tmp_path.iterdir()} <= {"in.safetensors", "out.pt"}
        assert process.returncode or target.exists()
