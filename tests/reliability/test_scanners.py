"""What pickle scanners look for: none of it runs, whatever the global, the opcodes and the file around it: G1, G12."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .corpus import TESTS, sandboxed
from .hostile import CARRIERS, DISGUISES, MARKER, REAL, every_global, program
from .sandbox import MOST

FULL = "CKPTKIT_FULL" in os.environ


@pytest.mark.parametrize("disguise", REAL)
def test_the_programs_are_real(disguise: str, tmp_path: Path) -> None:
    # Without this the tests below could pass on programs that are harmless.
    (tmp_path / "a.pkl").write_bytes(program(disguise, "os", "system"))
    subprocess.run(
        [sys.executable, "-m", "reliability.hostile", "a.pkl"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        timeout=60,
    )
    assert (tmp_path / MARKER).exists()


def attempted(cases: list[tuple[str, str, str, str]], folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Each (carrier, disguise, module, name) read in the sandbox."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number, (carrier, disguise, module, name) in enumerate(cases):
        file, around = CARRIERS[carrier]
        own = folder / str(number)
        own.mkdir()
        (own / file).write_bytes(around(program(disguise, module, name)))
        paths.append(str(own / file))
    outcomes = sandboxed([("read", path) for path in paths], folder / "work")
    return [(" ".join(case), done) for case, done in zip(cases, outcomes, strict=True)]


def check(outcomes: list[tuple[str, dict[str, Any]]]) -> None:
    for case, done in outcomes:
        assert done["outcome"] in ("ok", "error"), (case, done)
        assert not done["broken"] and not done["left"], (case, done)
        assert done["memory"] < MOST, (case, done)
        # A global is never looked up: its module is not imported.
        assert case.split()[-2].split(".")[0] not in done["imported"], (case, done)
        if not case.startswith("beside"):
            assert done["outcome"] == "error", (case, done)


def test_no_dangerous_global_is_looked_up_or_called_in_any_file(tmp_path: Path) -> None:
    names, carriers, ways = every_global(), list(CARRIERS), list(DISGUISES)
    cases = [
        (carrier, ways[(i + j) % 2], *pair)
        for i, pair in enumerate(names)
        for j, carrier in enumerate(carriers)
        if FULL or j in (i % len(carriers), (i + 5) % len(carriers))
    ]
    outcomes = attempted(cases, tmp_path / "cases")
    print(f"\nglobals {len(names)} cases {len(outcomes)}")
    check(outcomes)


def test_no_disguise_runs_in_any_file(tmp_path: Path) -> None:
    cases = [(c, d, m, "system") for c in CARRIERS for d in DISGUISES for m in ("os", "posix")]
    outcomes = attempted(cases, tmp_path / "cases")
    print(f"\ndisguises {len(DISGUISES)} carriers {len(CARRIERS)} cases {len(outcomes)}")
    check(outcomes)


def test_what_lies_beside_the_weights_is_inert_and_the_weights_are_read(tmp_path: Path) -> None:
    cases = [("beside", d, "os", "system") for d in list(DISGUISES)[:3]]
    for case, done in attempted(cases, tmp_path / "cases"):
        assert done["outcome"] == "ok" and "'w'" in done["value"], (case, done)
