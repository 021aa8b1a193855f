"""Measure, and print a table for each case.

Every contestant runs as a whole process, in turn within each round (A B C, A B C, ...), on warm files. A
ratio is the median over the rounds of a contestant's seconds by those of the limit in the same round. Only
ckptkit and the limit flush their output to the disk; the others do not, as they are used.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import re
import sys
import tempfile
from pathlib import Path

from . import cases as case_modules
from .machine import describe
from .measure import measure, timed
from .model import WORKER, Workshop
from .table import machine, markdown, plain

REPO = Path(__file__).parent.parent


def parse_size(text: str) -> int:
    """Bytes from ``1GB``, ``200MB``, ``1.5GiB``.

    Raises:
        argparse.ArgumentTypeError: of anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(i?)B?", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"a size is written 500MB or 1GB, not {text!r}")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " KMG".index(match[2].upper() or " "))


def make_fixture(kind: str, path: Path, size: int) -> None:
    """In a process of its own, so that this one stays small."""
    timed([*WORKER, "make", kind, str(path), str(size)])


def main() -> None:
    names = sorted(module.name for module in pkgutil.iter_modules(case_modules.__path__))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"which of: {', '.join(names)} (all)")
    parser.add_argument("--size", type=parse_size, default="1GB", help="of the weights (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument(
        "--patience",
        type=float,
        default=20,
        help="seconds to wait before a run until the machine is idle (%(default)s)",
    )
    parser.add_argument(
        "--dir", type=Path, help="where to put the files, three times the size (the system's)"
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(names):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    # Children run in any folder; they find both packages where they are now.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(REPO / "src"), str(REPO), os.environ.get("PYTHONPATH")])
    )
    with tempfile.TemporaryDirectory(prefix="ckptkit-benchmarks-", dir=arguments.dir) as name:
        folder = Path(name)
        workshop = Workshop(folder, arguments.size, make_fixture)
        print(machine(describe(folder), as_markdown=arguments.markdown), flush=True)
        for module in arguments.cases or names:
            for case in importlib.import_module(f"benchmarks.cases.{module}").cases(workshop):
                results = measure(case, folder, arguments.rounds, arguments.patience, say)
                print((markdown if arguments.markdown else plain)(case, results), flush=True)


def say(text: str) -> None:
    """Progress, kept apart from the tables."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
