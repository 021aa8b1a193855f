"""Runs the contestants of a case in turn, each as a whole process, and collects seconds and memory."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .model import DST, WORKER, Case, Contestant

MB = 1e6
BUSY = 0.15


@dataclass
class Result:
    """What was measured: seconds and ratio of each round, memory in MB beyond the imports."""

    contestant: Contestant
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    memory: float | None = None
    imports_torch: bool | None = None

    def missed(self) -> list[str]:
        """The targets that were not reached, in words."""
        aim, words = self.contestant, []
        ratio, seconds = statistics.median(self.ratios), statistics.median(self.seconds)
        if aim.most_ratio is not None and ratio > aim.most_ratio:
            words.append(f"{ratio:.2f}x of at most {aim.most_ratio}x")
        if aim.most_seconds is not None and seconds > aim.most_seconds:
            words.append(f"{seconds:.3f} s of at most {aim.most_seconds} s")
        if aim.most_memory is not None and self.memory is not None and self.memory > aim.most_memory:
            words.append(f"{self.memory:.0f} MB of at most {aim.most_memory:.0f} MB")
        if aim.without_torch and self.imports_torch:
            words.append("imports torch")
        return words


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def filled(command: tuple[str, ...], output: Path) -> list[str]:
    return [str(output) if part == DST else part for part in command]


def timed(command: list[str]) -> float:
    """Seconds from start to end of a process.

    Raises:
        SystemExit: it failed; with what it wrote to stderr.
    """
    start = time.perf_counter()
    ran = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False
    )
    seconds = time.perf_counter() - start
    if ran.returncode:
        tail = ran.stderr.decode(errors="replace").strip()[-2000:]
        raise SystemExit(f"{' '.join(command)}\nended with {ran.returncode}:\n{tail}")
    return seconds


def settle(output: Path, patience: float = 0.0) -> None:
    """Remove what the last run wrote and let the disk finish, so that nobody pays for another's writes.

    Args:
        output: what to remove.
        patience: how many seconds to wait at most for other work on the machine to pause.
    """
    remove(output)
    os.sync()
    end = time.monotonic() + patience
    while busy() > BUSY and time.monotonic() < end:
        pass


def busy(seconds: float = 0.25) -> float:
    """The share of all cores that was at work in the last moment; 0 where the system does not tell."""

    def ticks() -> tuple[int, int]:
        counts = [
            int(n) for n in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
        ]
        return sum(counts), counts[3] + counts[4]

    if sys.platform != "linux":
        return 0.0
    total, idle = ticks()
    time.sleep(seconds)
    total_now, idle_now = ticks()
    return 1 - (idle_now - idle) / max(1, total_now - total)


def measure(
    case: Case, folder: Path, rounds: int, patience: float, say: Callable[[str], None]
) -> list[Result]:
    """Everything about one case; the limit is the first of the results.

    Args:
        case: what to run.
        folder: for the outputs.
        rounds: how often each contestant runs.
        patience: how many seconds to wait before each run for other work on the machine to pause.
        say: takes a line on what is going on.
    """
    everyone = [Result(contestant) for contestant in (case.limit, *case.contestants)]
    outputs = {r.contestant.name: folder / f"out-{n}{r.contestant.suffix}" for n, r in enumerate(everyone)}
    say(f"{case.title}: once each, unmeasured")
    for result in everyone:  # files into the page cache, modules compiled
        settle(outputs[result.contestant.name])
        timed(filled(result.contestant.command, outputs[result.contestant.name]))
    if case.same:
        timed([*WORKER, "same_tensors", *(str(outputs[name]) for name in case.same)])
    for output in outputs.values():
        settle(output)
    for number in range(rounds):
        say(f"{case.title}: round {number + 1} of {rounds}")
        for result in everyone:
            output = outputs[result.contestant.name]
            settle(output, patience)
            result.seconds.append(timed(filled(result.contestant.command, output)))
            result.ratios.append(result.seconds[-1] / everyone[0].seconds[-1])
    for output in outputs.values():
        settle(output)
    for result in everyone:
        say(f"{case.title}: memory of {result.contestant.name}")
        result.memory = memory(result.contestant, folder)
        if result.contestant.without_torch:
            output = outputs[result.contestant.name]
            result.imports_torch = imports_torch(result.contestant, output)
            settle(output)
    return everyone


def memory(contestant: Contestant, folder: Path) -> float | None:
    """Peak resident memory in MB beyond the process after its imports; None where it cannot be told."""
    if not contestant.work or sys.platform != "linux":
        return None
    report, small, large = (
        folder / "memory.json",
        folder / f"small{contestant.suffix}",
        folder / f"large{contestant.suffix}",
    )
    jobs = [json.dumps(filled(contestant.warm, small)), json.dumps(filled(contestant.work, large))]
    timed([*WORKER, "--memory", str(report), *jobs])
    measured = json.loads(report.read_text(encoding="ascii"))
    for path in (report, small, large):
        settle(path)
    kind = "anonymous_" if contestant.anonymous else ""
    return max(0.0, float(measured[f"{kind}peak"] - measured[f"{kind}before"]) / MB)


def imports_torch(contestant: Contestant, output: Path) -> bool:
    """Whether the process imports torch, as Python's own -X importtime tells."""
    python, *rest = filled(contestant.command, output)
    ran = subprocess.run([python, "-X", "importtime", *rest], capture_output=True, text=True, check=True)
    names = {
        line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")
    }
    return "torch" in names
