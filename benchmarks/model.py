"""What a case is, and where it gets its files from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PYTHON = (sys.executable,)
CKPTKIT = (*PYTHON, "-m", "ckptkit")
WORKER = (*PYTHON, "-m", "benchmarks.worker")
DST = "{dst}"  # in a command: the path to write, fresh for each run


@dataclass(frozen=True)
class Contestant:
    """One way to do the work of a case.

    Attributes:
        name: as it stands in the table.
        command: the whole process that is timed; `DST` stands for the output.
        work: the same as a job of `benchmarks.worker`, to measure memory; empty where it is not Python.
        warm: the job on a small input, run first so that everything is imported.
        suffix: of the output.
        most_ratio: target: at most this many times the limit.
        most_seconds: target for the whole process.
        most_memory: target in MB, beyond the process after its imports.
        without_torch: target: the process never imports torch.
        anonymous: memory means anonymous memory: mapped files, which the system may take back, do not count.
    """

    name: str
    command: tuple[str, ...]
    work: tuple[str, ...] = ()
    warm: tuple[str, ...] = ()
    suffix: str = ""
    most_ratio: float | None = None
    most_seconds: float | None = None
    most_memory: float | None = None
    without_torch: bool = False
    anonymous: bool = False


def ours(
    name: str,
    *arguments: str,
    warm: tuple[str, ...],
    suffix: str = "",
    most_ratio: float | None = None,
    most_seconds: float | None = None,
    most_memory: float | None = None,
    without_torch: bool = False,
) -> Contestant:
    """ckptkit's command line with these arguments."""
    return Contestant(
        name,
        (*CKPTKIT, *arguments),
        ("ckptkit", *arguments),
        ("ckptkit", *warm),
        suffix,
        most_ratio,
        most_seconds,
        most_memory,
        without_torch,
    )


def peer(name: str, *job: str, warm: tuple[str, ...], suffix: str = "") -> Contestant:
    """A job of `benchmarks.peers`: what a user would write today."""
    return Contestant(name, (*WORKER, *job), job, warm, suffix)


def copied(source: Path, suffix: str) -> Contestant:
    """The limit of all work that writes as much as it reads: cp and fsync."""
    return Contestant(
        "cp + fsync", ("sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", str(source), DST), suffix=suffix
    )


@dataclass(frozen=True)
class Case:
    """Contestants that do the same work, and the limit that they are measured against.

    `same` names two contestants whose outputs must hold equal tensors under equal keys.
    """

    title: str
    limit: Contestant
    contestants: tuple[Contestant, ...]
    same: tuple[str, str] | None = None


@dataclass
class Workshop:
    """A temporary folder with fixtures, each made once by a process of its own."""

    folder: Path
    size: int
    make: Callable[[str, Path, int], None]
    made: dict[str, Path] = field(default_factory=dict)

    def fixture(self, kind: str, suffix: str, size: int | None = None) -> Path:
        """The path of a fixture of `benchmarks.fixtures`, of about `size` bytes (else that of the run)."""
        wanted = self.size if size is None else size
        path = self.folder / f"{kind}-{wanted}{suffix}"
        if path.name not in self.made:
            self.make(kind, path, wanted)
            self.made[path.name] = path
        return path

    def small(self, kind: str, suffix: str) -> Path:
        """A small fixture of this kind, to warm up on."""
        return self.fixture(kind, suffix, 1 << 20)
