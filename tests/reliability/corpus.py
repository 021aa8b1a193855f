"""The corpus of bad inputs of the shared folder, and its cases run in the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
SHARED = Path(os.environ.get("CKPTKIT_SHARED", TESTS.parent.parent / "shared")) / "reliability"


def available() -> bool:
    """Whether the shared folder is there; the project's own cases need it not."""
    return (SHARED / "gen_bad.py").exists()


def generate(folder: Path, *more: str) -> list[dict[str, Any]]:
    """Write the corpus; its manifest."""
    subprocess.run(
        [sys.executable, "-W", "ignore", str(SHARED / "gen_bad.py"), str(folder), *more],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return list(json.loads((folder / "manifest.json").read_text()))


def sandboxed(cases: list[tuple[str, str]], folder: Path) -> list[dict[str, Any]]:
    """The outcome of each (action, path), in order."""
    folder.mkdir()
    paths = [str(TESTS.parent / "src"), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "reliability.sandbox", str(folder)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
