"""What users type is right for mypy --strict and pyright: their own code, and the Python of every page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPO = HERE.parents[1]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Functions of the pages are short and say no types, and a page knows that there is a fix, or a place, where it shows one;
# in everything else the checkers are as strict as they are.
LENIENT = (
    "# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls\n# mypy: disable-error-code=union-attr\n"
    "# pyright: reportOptionalMemberAccess=false\n"
)
PRELUDE = """import torch


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(8, 16)
        self.head = torch.nn.Linear(16, 4)


"""
Found = set[tuple[str, int]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for each page, what its Python blocks are together, and the files beside this one."""
    folder = tmp_path_factory.mktemp("typing")
    (folder / "pages").mkdir()
    for page in PAGES:
        blocks = BLOCK.findall(page.read_text("utf-8"))
        if blocks:
            own = any("class Net(" in block for block in blocks)
            prelude = LENIENT + ("import torch\n" if own else PRELUDE)
            name = f"page_{page.stem.replace('-', '_').lower()}.py"
            (folder / "pages" / name).write_text(prelude + "\n".join(blocks), encoding="utf-8")
    for name in ("user_code.py", "mistakes.py"):
        (folder / name).write_text((HERE / name).read_text("utf-8"), encoding="utf-8")
    (folder / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(REPO / "src")]}))
    (folder / "mypy.ini").write_text(
        f"[mypy]\nstrict = true\nmypy_path = {REPO / 'src'}\ncache_dir = {folder / 'cache'}\n"
    )
    return folder


def mypy(folder: Path) -> tuple[Found, str]:
    files = [str(path) for path in sorted(folder.rglob("*.py"))]
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--no-error-summary", *files]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    found = re.findall(r"^(?:.*/)?([\w.]+):(\d+): error: ", ran.stdout, re.MULTILINE)
    return {(name, int(line)) for name, line in found}, ran.stdout


def pyright(folder: Path) -> tuple[Found, str]:
    command = [
        sys.executable,
        "-m",
        "pyright",
        "--pythonpath",
        sys.executable,
        "--outputjson",
        "--level",
        "error",
    ]
    ran = subprocess.run(
        [*command, "-p", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    every = json.loads(ran.stdout)["generalDiagnostics"]
    found = {(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in every}
    return found, "\n".join(
        f"{each['file']}:{each['range']['start']['line'] + 1}: {each['message']}" for each in every
    )


@pytest.mark.parametrize("checker", [mypy, pyright], ids=lambda c: c.__name__)
def test_users_code_and_all_pages_pass_and_every_mistake_is_seen(
    checker: Callable[[Path], tuple[Found, str]], folder: Path
) -> None:
    found, output = checker(folder)
    lines = (HERE / "mistakes.py").read_text("utf-8").splitlines()
    mistakes = {("mistakes.py", number) for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert found == mistakes, output
