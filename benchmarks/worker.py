"""The process that does one job: ``python -m benchmarks.worker JOB ARGUMENTS``.

With ``--memory REPORT WARM WORK`` (two jobs as JSON lists) it does WARM first, so that all modules are
imported, and writes to REPORT what was resident then (VmRSS), and the peak during WORK (VmHWM, reset before),
and the same of anonymous memory, which is watched.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self


def run(job: Sequence[str]) -> None:
    """Do a job: a function of `peers` or `loaders`, ``make`` for a fixture, or ``ckptkit`` with its arguments.

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
        home = "benchmarks.loaders" if name.startswith("load_") else "benchmarks.peers"
        getattr(importlib.import_module(home), name)(*arguments)


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")


class Anonymous:
    """Watches the peak of this process's anonymous memory, which pages of mapped files are not; a context manager."""

    def __init__(self) -> None:
        self.peak = resident("RssAnon")
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.peak = max(self.peak, resident("RssAnon"))

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()


def measure(report: Path, warm: Sequence[str], work: Sequence[str]) -> None:
    """Write ``{"before", "peak"}``: bytes resident after the imports, and at the peak during the work."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        run(warm)
        gc.collect()
        before = {"before": resident("VmRSS"), "anonymous_before": resident("RssAnon")}
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
        with Anonymous() as anonymous:
            run(work)
    found = {**before, "peak": resident("VmHWM"), "anonymous_peak": anonymous.peak}
    report.write_text(json.dumps(found), encoding="ascii")


if __name__ == "__main__":
    if sys.argv[1] == "--memory":
        measure(Path(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4]))
    else:
        run(sys.argv[1:])
