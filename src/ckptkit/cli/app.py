"""Dispatch, errors and exit codes; the only place that decides how a process ends."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module
from types import FrameType, ModuleType
from typing import Any, NoReturn

from ..errors import CkptkitError, UsageError
from .output import print_error, print_text

COMMANDS = {
    "inspect": "show keys, shapes, dtypes, ties and roots of a checkpoint",
    "remap": "rename, keep, drop, cast and copy keys by rules",
    "convert": "write the same tensors in another format",
    "schema": "print the JSON Schema of a config",
}


class Parser(argparse.ArgumentParser):
    """An argparse parser whose mistakes are `UsageError`s, so that --json covers them too."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see: {self.prog} --help")


def build(only: str | None = None) -> Parser:
    """The parser.

    Args:
        only: the one command whose options are needed; None for all of them.
    """
    parser = Parser(
        prog="ckptkit",
        description="Rename, repair, convert and explain PyTorch and safetensors checkpoints.",
        epilog="Every command takes --json. Exit codes: 0 done or yes, 1 no, 2 an error.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if only in (None, name):
            _module(name).configure(sub)
        sub.add_argument("--json", action="store_true", help="one JSON document on stdout, errors too")
    return parser


def _module(name: str) -> ModuleType:
    return import_module(f".{name}", __package__)


class _Terminated(BaseException):
    """SIGTERM, as an exception, so that half-written files are removed on the way out."""


def _terminate(_: int, __: FrameType | None) -> None:
    raise _Terminated


def run(argv: list[str]) -> int:
    """Parse, run, and turn every outcome into an exit code."""
    as_json = "--json" in argv
    previous = _catch_sigterm()
    try:
        return _flushed(_run(argv))
    except CkptkitError as error:
        return _flushed(print_error(error, as_json))
    except BrokenPipeError:
        return _closed_stdout()
    except OSError as error:
        if error.filename is None and error.errno is not None:
            return _closed_stdout()
        return _flushed(print_error(CkptkitError(f"{error.filename or ''}: {error.strerror}"), as_json))
    except MemoryError:
        return _flushed(
            print_error(CkptkitError("the machine has too little memory for this tensor"), as_json)
        )
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was left behind\n")
        return 130
    except _Terminated:
        sys.stderr.write("terminated; nothing was left behind\n")
        return 143
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def _run(argv: list[str]) -> int:
    first = next((word for word in argv if not word.startswith("-")), None)
    parser = build(first if first in COMMANDS else None)
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as done:  # --help
        return int(done.code or 0)
    if arguments.version:
        from .. import __version__

        print_text(f"ckptkit {__version__}")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    code: int = _module(arguments.command).run(arguments)
    return code


def _catch_sigterm() -> Any:
    try:
        return signal.signal(signal.SIGTERM, _terminate)
    except ValueError:  # not in the main thread: then it is the caller's business
        return None


def _flushed(code: int) -> int:
    """The exit code, unless what was printed never arrived."""
    try:
        sys.stdout.flush()
    except OSError:
        return _closed_stdout()
    return code


def _closed_stdout() -> int:
    """The reader of stdout went away. The work is done or undone as it stands; only the words are lost."""
    try:
        sys.stderr.write("stdout was closed before everything was printed\n")
    except OSError:
        pass  # nobody is listening at all
    # The interpreter flushes stdout once more at exit; give it somewhere to go.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    return 2
