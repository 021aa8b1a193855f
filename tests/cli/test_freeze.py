"""``ckptkit freeze``: the report of a model that a factory builds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .conftest import Shell

FACTORY = """
import torch

def build():
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
"""
MODEL = ("--model", "frozen_nets:build")


@pytest.fixture
def nets(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    (tmp_path / "frozen_nets.py").write_text(FACTORY)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "frozen_nets", raising=False)
    return shell


def test_the_document_has_the_promised_fields(nets: Shell) -> None:
    ran = nets("freeze", *MODEL, "--freeze", "*", "--unfreeze", "2.*", "--json")
    assert ran.code == 0
    assert ran.err == ""
    assert ran.document == {
        "format": "ckptkit.freeze_report",
        "version": 1,
        "frozen": ["0.weight", "0.bias", "1.weight", "1.bias"],
        "trainable": ["2.weight", "2.bias"],
        "frozen_parameters": 28,
        "trainable_parameters": 10,
        "eval_modules": ["1"],
        "tied_conflicts": [],
        "modules": [
            {"module": "0", "frozen_parameters": 20, "trainable_parameters": 0},
            {"module": "1", "frozen_parameters": 8, "trainable_parameters": 0},
            {"module": "2", "frozen_parameters": 0, "trainable_parameters": 10},
        ],
        "notes": [],
    }


def test_a_config_file_says_the_same_as_the_short_forms(nets: Shell) -> None:
    (nets.folder / "freeze.yaml").write_text("version: 1\nfreeze: ['*']\nunfreeze: ['2.*']\n")
    short = nets("freeze", *MODEL, "--unfreeze", "2.*", "--freeze", "*")
    assert nets("freeze", *MODEL, "--config", "freeze.yaml").out == short.out
    assert "10 of 38 parameters train, 28 are frozen" in short.out


def test_a_config_that_leaves_norms_alone_holds_none(nets: Shell) -> None:
    (nets.folder / "freeze.yaml").write_text("freeze: ['*']\nbatch_norm: leave\n")
    assert nets("freeze", *MODEL, "--config", "freeze.yaml", "--json").document["eval_modules"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--freeze", "*"), "--model"),
        (MODEL, "--freeze PATTERN or --config FILE"),
        ((*MODEL, "--unfreeze", "2.*"), "--freeze PATTERN or --config FILE"),
        ((*MODEL, "--config", "freeze.yaml", "--freeze", "*"), "not both"),
        ((*MODEL, "--freeze", "3.*"), "'3.*' matches no key; the nearest keys are"),
        ((*MODEL, "--freeze", "*", "--unfreeze", "[2"), "--unfreeze '[2': the key pattern"),
        ((*MODEL, "--freeze", "re:(a{999}){999}"), "--freeze 're:(a{999}){999}': the regular expression"),
        ((*MODEL, "--config", "missing.yaml"), "missing.yaml"),
    ],
)
def test_a_mistake_ends_in_one_error_that_names_it(
    nets: Shell, arguments: tuple[str, ...], words: str
) -> None:
    ran = nets("freeze", *arguments)
    assert ran.code == 2
    assert words in ran.err
    assert ran.out == ""


def test_the_schema_of_the_config_is_printed(nets: Shell) -> None:
    fields = nets("schema", "freeze", "--json").document["properties"]
    assert set(fields) == {"version", "description", "freeze", "unfreeze", "batch_norm"}
