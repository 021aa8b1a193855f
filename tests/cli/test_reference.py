"""docs/cli.md says what the commands say themselves."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ckptkit.cli.parser import COMMANDS, command_parser

REPO = Path(__file__).parent.parent.parent


def test_the_page_is_what_the_generator_makes_of_the_commands() -> None:
    spec = importlib.util.spec_from_file_location("cli_reference", REPO / "tools" / "cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    on_disk = (REPO / "docs" / "cli.md").read_text("utf-8")
    assert on_disk == module.page(), "run: python tools/cli_reference.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_is_explained_and_every_command_takes_json(name: str) -> None:
    parser = command_parser(name)
    assert not [action.dest for action in parser._actions if not action.help]
    assert "--json" in parser.format_help()
    assert "examples:" in parser.format_help()
