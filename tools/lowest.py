"""Run a smoke set of the tests on the lowest versions of our dependencies that pyproject.toml allows.

They are installed into a folder of their own that stands before the environment's packages. torch is left out: a second
one takes gigabytes, so that the README says which one was tested.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

REPO = Path(__file__).parent.parent
FOLDER = Path(sys.prefix) / "lowest"
# What asks most of them: pydantic and PyYAML read configs, regex matches, rich draws, and the commands use all of them.
SMOKE = [
    "tests/config",
    "tests/test_dialect.py",
    "tests/render",
    "tests/cli/test_commands.py",
    "tests/test_plan_files.py",
]
NEWEST = (
    3,
    13,
)  # of Python; old releases have no files for later ones, whose dependencies are newer of themselves


def lowest() -> dict[str, str]:
    """The lower bound of every runtime dependency but torch.

    Raises:
        SystemExit: one has none.
    """
    found = {}
    for requirement in tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]:
        match = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
        if match is None:
            raise SystemExit(
                f"pyproject.toml: {requirement!r} is not NAME>=VERSION; give it a lower bound that was tested"
            )
        if match[1] != "torch":
            found[match[1]] = match[2]
    return found


def install(bounds: dict[str, str]) -> None:
    """Install them, unless they already lie there."""
    wanted = [f"{name}=={bound}" for name, bound in sorted(bounds.items())]
    stamp = FOLDER / "installed"
    if stamp.exists() and stamp.read_text("utf-8").split() == wanted:
        return
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--upgrade"]
    # pip compares them with the rest of the environment, which does not use them: its words would mislead.
    ran = subprocess.run(
        [*pip, "--only-binary", ":all:", "--target", str(FOLDER), *wanted],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise SystemExit(f"the lowest versions cannot be installed:\n{ran.stderr}")
    stamp.write_text("\n".join(wanted), "utf-8")


def main() -> None:
    """Install, check that they are what is imported, and run the smoke set.

    `python tools/lowest.py ARGUMENT ...` hands the arguments to pytest.
    """
    if os.environ.get("CKPTKIT_LOWEST"):
        wrong = {name: version(name) for name, bound in lowest().items() if version(name) != bound}
        if wrong:
            raise SystemExit(f"other versions than the lowest ones are imported: {wrong}")
        return
    if sys.version_info[:2] > NEWEST:
        print(f"the lowest versions are not tested on Python {sys.version_info[0]}.{sys.version_info[1]}")
        return
    bounds = lowest()
    install(bounds)
    environment = {**os.environ, "PYTHONPATH": str(FOLDER), "CKPTKIT_LOWEST": "1"}
    print("lowest versions: " + ", ".join(f"{name} {bound}" for name, bound in bounds.items()), flush=True)
    for command in (
        [sys.executable, __file__],
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:], *SMOKE],
    ):
        code = subprocess.run(command, cwd=REPO, env=environment, check=False).returncode
        if code:
            raise SystemExit(code)


if __name__ == "__main__":
    main()
