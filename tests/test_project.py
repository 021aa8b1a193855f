"""The files around the package agree with one another and hold nothing of the machine that made them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

import ckptkit

REPO = Path(__file__).parent.parent
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]
BUILT = {
    ".git",
    ".venv",
    "build",
    "dist",
    ".hypothesis",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
}


def project_files() -> list[Path]:
    """The files of the project: those that git tracks, or all but what is built where there is no git."""
    if (REPO / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=REPO, capture_output=True, text=True, check=True
        )
        files = [REPO / name for name in listed.stdout.split("\0") if name]
    else:
        files = [
            p
            for p in REPO.rglob("*")
            if not BUILT & set(p.relative_to(REPO).parts) and ".egg-info" not in str(p)
        ]
    return [p for p in files if p.is_file()]


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (REPO / "Makefile").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run", "docs/performance.md"])
def test_every_make_command_that_a_page_shows_exists(page: str) -> None:
    shown = re.findall(r"\bmake ([a-z-]+)\b", "\n".join(code_of(REPO / page)))
    assert shown or page.startswith("docs/"), f"{page} shows no make command"
    assert set(shown) <= makefile_targets()


def code_of(page: Path) -> list[str]:
    text = page.read_text("utf-8")
    if page.suffix != ".md":
        return [text]
    return re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL) + re.findall(
        r"`([^`\n]+)`", text
    )


def test_the_two_commands_of_a_new_user_are_in_the_readme() -> None:
    code = code_of(REPO / "README.md")
    assert any(re.search(r"^make demo\b", block, re.MULTILINE) for block in code)
    assert any(re.search(r"^make test\b", block, re.MULTILINE) for block in code)


def test_continuous_integration_runs_what_a_contributor_runs() -> None:
    script = REPO / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text("utf-8").rstrip().endswith("make test")


def test_no_file_names_a_machine_or_a_package_index() -> None:
    # Put together here, so that this file does not hold what it looks for.
    paths = "|".join(["work/(?:main|shared|venv)", "root/", "opt/(?:wheels|pypi)", "tmp/(?:bash|pt)"])
    hosts = "|".join(["pypi\\.", "pythonhosted", "/simple/?$"])
    foreign = re.compile(
        rf"(?<![\w.])/(?:{paths})|https?://\S*(?:{hosts})|--(?:extra-)?index-" + "url", re.MULTILINE
    )
    found = []
    for path in project_files():
        if path == Path(__file__) or path.suffix in {".safetensors", ".pt", ".gz", ".bin"}:
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if match := foreign.search(line):
                found.append(f"{path.relative_to(REPO)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


def test_every_dependency_is_pinned_by_a_bare_version() -> None:
    pins = {}
    for file in ("constraints.txt", "tests/models.txt"):
        for line in (REPO / file).read_text("utf-8").splitlines():
            if line and not line.startswith("#"):
                match = re.fullmatch(r"([\w.-]+)==([\w.]+)", line)
                assert match, f"{file}: {line!r} is not NAME==VERSION for every platform"
                pins[name_of(match[1])] = match[2]
    wanted = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    assert not [r for r in wanted if name_of(r) not in pins]


def test_lower_bounds_are_what_make_test_runs_and_the_readme_says_which_torch_was_tested() -> None:
    makefile = (REPO / "Makefile").read_text("utf-8")
    assert re.search(r"^test:.*\blowest\b", makefile, re.MULTILINE)
    assert re.search(r"^lowest:.*\n\t\S+ tools/lowest\.py", makefile, re.MULTILINE)
    bounds = dict(r.split(">=") for r in PROJECT["dependencies"])
    tested = re.search(r"^torch==(\S+)$", (REPO / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    assert tested
    readme = (REPO / "README.md").read_text("utf-8")
    assert f"torch {bounds['torch']} or later. Tested with torch {tested[1]} alone" in readme


def test_the_version_is_one_and_the_changelog_names_it() -> None:
    assert PROJECT["version"] == ckptkit.__version__
    assert f"## {ckptkit.__version__}" in (REPO / "CHANGELOG.md").read_text("utf-8")


def test_the_licence_is_the_one_that_is_declared() -> None:
    text = (REPO / "LICENSE").read_text("utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_package_is_marked_as_typed() -> None:
    assert (REPO / "src" / "ckptkit" / "py.typed").exists()


def test_the_demo_repairs_a_checkpoint_that_torch_refuses(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, REPO / "examples" / "demo.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Error(s) in loading state_dict" in ran.stdout
    assert "module._orig_mod." in ran.stdout
    assert not list(tmp_path.iterdir()), "the demo leaves files behind"
