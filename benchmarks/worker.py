"""The process that does one job: ``python -m benchmarks.worker JOB ARGUMENTS``.

With ``--memory REPORT WARM WORK`` (two jobs as JSON lists) it does WARM first, so that all modules are
imported, and writes to REPORT what was resident then (VmRSS), and the peak during WORK (VmHWM, reset before).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def run(job: Sequence[str]) -> None:
    """Do a job: a function of `benchmarks.peers`, ``make`` for a fixture, or ``ckptkit`` with its arguments.

    Raises:
        SystemExit: the command failed.
    """
    name, *arguments = job
    if name == "ckptkit":
        code = importlib.import_module("ckptkit.__main__").main(arguments)
        if code:
            raise SystemExit(code)
    elif name == "make":
        kind, path, size = arguments
        importlib.import_module("benchmarks.fixtures").make(kind, Path(path), int(size))
    else:
        getattr(importlib.import_module("benchmarks.peers"), name)(*arguments)


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")


def measure(report: Path, warm: Sequence[str], work: Sequence[str]) -> None:
    """Write ``{"before", "peak"}``: bytes resident after the imports, and at the peak during the work."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        run(warm)
        gc.collect()
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
        run(work)
    report.write_text(json.dumps({"before": before, "peak": resident("VmHWM")}), encoding="ascii")


if __name__ == "__main__":
    if sys.argv[1] == "--memory":
        measure(Path(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4]))
    else:
        run(sys.argv[1:])
