"""The arguments of all commands; the module of a command is imported only when it runs or is documented."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from importlib import import_module
from typing import NoReturn, Protocol, cast

from ..errors import UsageError
from .output import print_raw

COMMANDS = {
    "inspect": "show keys, shapes, dtypes, ties and roots of a checkpoint",
    "remap": "rename, keep, drop, cast and copy keys by rules, and write the result",
    "convert": "write the same tensors in another format",
    "diff": "say what differs between two checkpoints, and which keys were only renamed",
    "check": "say whether a checkpoint would load, and if not, why",
    "explain": "name the cause of a pasted load error, and write the fix",
    "freeze": "show what of a model a freeze keeps and what trains",
    "infer": "find the rules that turn one checkpoint's keys into another's",
    "verify": "read a whole checkpoint and say what is damaged, and where",
    "schema": "print the JSON Schema of a config",
}
SUMMARY = "Rename, repair, convert and explain PyTorch and safetensors checkpoints."
EXIT_CODES = "Exit codes: 0 done, yes; 1 the honest answer is no; 2 everything else that stops a command."


class Command(Protocol):
    """What the module of a command offers.

    Attributes:
        ABOUT: what it does, in a few lines.
        EXAMPLES: command lines without the program's name.
    """

    ABOUT: str
    EXAMPLES: tuple[str, ...]

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Carry the command out and return the exit code."""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose mistakes are `UsageError`s, so that --json covers them too."""

    def error(self, message: str) -> NoReturn:
        message = message.replace("the following arguments are required: ", "missing: ")
        unknown = message.removeprefix("unrecognized arguments: ").split()[:1]
        if unknown and message.startswith("unrecognized arguments: "):
            known = [option for action in self._actions for option in action.option_strings]
            option = unknown[0].partition("=")[0]
            message = f"unknown argument {option!r}{_others(option, self.prog) or _meant(option, known)}"
        raise UsageError(f"{message}; see {self.prog} --help")

    def print_help(self, file: object = None) -> None:
        print_raw(self.format_help())


def load(name: str) -> Command:
    """The module of a command."""
    return cast(Command, import_module(f".{name}", __package__))


def command_parser(name: str) -> Parser:
    """The parser of one command."""
    command = load(name)
    parser = Parser(
        prog=f"ckptkit {name}",
        description=command.ABOUT,
        epilog="\n".join(["examples:", *(f"  ckptkit {example}" for example in command.EXAMPLES)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    command.configure(parser)
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on standard output, errors too"
    )
    parser.add_argument("-h", "--help", action="help", help="print this help")
    return parser


def overview() -> str:
    """The text of ``--help`` without a command."""
    rows = [f"  {name:<10}{summary}" for name, summary in COMMANDS.items()]
    options = [
        "  --version   print the version",
        "  -h, --help  print this help; after a command, that command's",
    ]
    parts = ["usage: ckptkit COMMAND ...", SUMMARY, "\n".join(["commands:", *rows])]
    return "\n\n".join([*parts, "\n".join(["options:", *options]), f"All commands take --json. {EXIT_CODES}"])


def split(argv: list[str]) -> tuple[str | None, list[str]]:
    """The command of a command line and its other words; options may stand before the command.

    Raises:
        UsageError: no such command or option; names the nearest.
    """
    for number, word in enumerate(argv):
        if word in COMMANDS:
            return word, argv[:number] + argv[number + 1 :]
        if not word.startswith("-"):
            raise UsageError(
                f"there is no command {word!r}{_meant(word, COMMANDS)}; commands are {', '.join(COMMANDS)}"
            )
        if word not in ("--json", "--help", "-h", "--version"):
            raise UsageError(f"{word!r} stands before a command and is no option; see ckptkit --help")
    return None, argv


def wants_json(argv: list[str]) -> bool:
    """Whether ``--json`` stands among the options, even of a command line that cannot be parsed."""
    return "--json" in (argv[: argv.index("--")] if "--" in argv else argv)


def _others(option: str, prog: str) -> str:
    """Which other commands take an option, and how it is written there; empty where none does."""
    if not option.startswith("--"):
        return ""
    own = prog.rpartition(" ")[2]
    parsers = {name: command_parser(name) for name in COMMANDS if name != own}
    takers = [name for name, parser in parsers.items() if option in parser._option_string_actions]
    if not takers:
        return ""
    first = parsers[takers[0]]
    places = [str(action.metavar) for action in first._actions if not action.option_strings]
    values = first._option_string_actions[option].metavar
    words = [takers[0], *places, option, *([values] if isinstance(values, str) else values or ())]
    listed = takers[0] if len(takers) == 1 else f"{', '.join(takers[:-1])} and {takers[-1]}"
    return f": {own} does not take it, {listed} {'does' if len(takers) == 1 else 'do'}: ckptkit {' '.join(words)}"


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f" (did you mean {close[0]}?)" if close else ""
