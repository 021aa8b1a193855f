"""docs/reliability.md names a test for each promise, and the tests are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent.parent
ROWS = re.findall(
    r"^\| (G\d+) \| .+? \| (.+?) \|$", (REPO / "docs" / "reliability.md").read_text(), re.MULTILINE
)


def test_every_promise_has_its_row() -> None:
    assert [name for name, _ in ROWS] == [f"G{n}" for n in range(1, 31)]


@pytest.mark.parametrize(("promise", "tests"), ROWS)
def test_the_tests_that_prove_a_promise_are_there(promise: str, tests: str) -> None:
    folder = ""
    for name in re.findall(r"`([^`]+\.py)`", tests):
        folder = name.rpartition("/")[0] or folder
        assert (REPO / folder / name.rpartition("/")[2]).exists(), (promise, name)
    assert ".py`" in tests
