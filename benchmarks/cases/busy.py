"""Figures of values beside other work: one busy process for each processor; the limit runs on one thread."""

from __future__ import annotations

from ..model import CKPTKIT, PYTHON, Case, Contestant, Workshop

# Runs a command while every processor has other work; at the end of the input that work ends, whatever happens.
BESIDE = """
import os, subprocess, sys
spin = "import os\\nparent = os.getppid()\\nwhile os.getppid() == parent: pass"
busy = [subprocess.Popen([sys.executable, "-c", spin]) for _ in os.sched_getaffinity(0)]
try:
    sys.exit(subprocess.run(sys.argv[1:], check=False).returncode)
finally:
    for each in busy:
        each.kill()
"""
ONE = ("env", "OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1")


def cases(workshop: Workshop) -> list[Case]:
    source = str(workshop.fixture("weights", ".safetensors"))
    other = str(workshop.fixture("weights", ".pt"))
    return [
        one("Statistics beside busy processes", "inspect", source, "--stats"),
        one("Compare values beside busy processes", "diff", source, other, "--values"),
        one("Look for NaN beside busy processes", "verify", source, "--finite"),
    ]


def one(title: str, *arguments: str) -> Case:
    command = (*CKPTKIT, *arguments)
    return Case(
        title,
        Contestant("one thread of torch", (*PYTHON, "-c", BESIDE, *ONE, *command)),
        (Contestant("as it comes", (*PYTHON, "-c", BESIDE, *command), most_ratio=1.3),),
    )
