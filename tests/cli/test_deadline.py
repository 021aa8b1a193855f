"""The time limit of the command line is for the user's regular expressions, and for nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

import ckptkit
from ckptkit import patterns
from ckptkit.__main__ import main
from ckptkit.cli import deadline
from ckptkit.errors import ConfigError

PATTERN = ".*.*.*.*Z$"


def _busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "SECONDS", 0.05)


def test_an_expression_that_is_at_work_for_too_long_is_stopped() -> None:
    """G27: many keys, none of which takes long by itself."""
    with pytest.raises(ConfigError, match="still at work after 0.05 s"), deadline.regex_deadline(0):
        patterns.compile_pattern(f"re:{PATTERN}").select(["a" * 60 + "Zb"] * 100_000)


def test_code_that_matches_nothing_may_take_its_time() -> None:
    """The hooks of a model run inside it; slow ones are no regular expression."""
    with deadline.regex_deadline(0):
        _busy(0.5)
    with pytest.raises(ConfigError), deadline.regex_deadline(0):
        _busy(0.2)
        patterns.compile_pattern(f"re:{PATTERN}").select(["a" * 60 + "Zb"] * 100_000)


def test_the_report_of_a_check_is_printed_however_long_its_findings_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """G27: what compares thousands of names is ours, and no expression of the user."""
    import ckptkit.modules.checking as checking

    def slow(*arguments: object) -> tuple[object, ...]:
        _busy(0.5)
        return ()

    monkeypatch.setattr(checking, "diagnose", slow)
    ckptkit.save({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    ckptkit.save({"b": torch.ones(1)}, tmp_path / "b.safetensors")
    command = ["check", str(tmp_path / "a.safetensors"), "--like", str(tmp_path / "b.safetensors"), "--json"]
    assert main(command) == 1
    assert json.loads(capsys.readouterr().out)["missing"] == ["b"]


def test_matching_inside_a_report_is_not_the_users_expression() -> None:
    """Findings are tried with patterns of their own."""
    from types import ModuleType

    module = ModuleType("ckptkit.diagnosis.made_up")
    source = "def tried(match, keys):\n    return match(keys)\n"
    exec(source, module.__dict__)
    keys = ["a" * 60 + "Zb"] * 100
    with deadline.regex_deadline(0):
        module.tried(patterns.compile_pattern(f"re:{PATTERN}").select, keys)
