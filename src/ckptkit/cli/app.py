"""One run of the command line: the only place that decides how a process ends."""

from __future__ import annotations

import os
import re
import signal
import warnings

from ..errors import CkptkitError, UsageError
from .output import ClosedOutput, OutputFailed, prepare_streams, print_error, print_raw
from .parser import COMMANDS, command_parser, load, overview, split, wants_json
from .signals import Stopped, stop_politely

_NO_MEMORY = "there is not enough memory for this; nothing unfinished was left behind"
# How torch says it on a CPU and on a device, in a plain RuntimeError.
_ALLOCATING = re.compile(
    r"DefaultCPUAllocator: |[Oo]ut of memory|not enough memory|[Cc]annot allocate memory"
)
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class InternalError(CkptkitError):
    """A defect of ckptkit itself."""


def run(argv: list[str]) -> int:
    """Parse, run, and turn every outcome into an exit code.

    Args:
        argv: the words after the program's name.

    Returns:
        0 done, yes; 1 the honest answer is no; 2 everything else that stops a command; 128 + n after signal n.
    """
    prepare_streams()
    # Of a dtype that a checkpoint happens to hold, with a line of our own source.
    warnings.filterwarnings("ignore", message="ComplexHalf support is experimental")
    try:
        with stop_politely():
            return _reported(argv)
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
        words = _WORDS.get(signal.Signals(number), "stopped")
        print_error(CkptkitError(f"{words}; nothing unfinished was left behind"), as_json=False)
        return 128 + number


def _reported(argv: list[str]) -> int:
    try:
        error = _attempt(argv)
        return error if isinstance(error, int) else print_error(error, wants_json(argv))
    except ClosedOutput:
        return 2  # as with `| head`: nobody wants the rest, and what was to be written is written
    except OutputFailed as failed:
        return print_error(failed, as_json=False)


def _attempt(argv: list[str]) -> int | CkptkitError:
    """Exit code of the command, or what stopped it."""
    try:
        return _dispatch(argv)
    except OutputFailed:
        raise
    except CkptkitError as error:
        return error
    except MemoryError:
        return CkptkitError(_NO_MEMORY)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return CkptkitError(f"{where}{error.strerror or error}", file=error.filename)
    except Exception as error:
        if isinstance(error, ClosedOutput) or os.environ.get("CKPTKIT_TRACEBACK"):
            raise
        if isinstance(error, RuntimeError) and _ALLOCATING.search(str(error)):
            asked = re.search(r"allocate (\d{1,20} bytes|[\d.]{1,20} [KMGT]iB)", str(error))
            return CkptkitError(_NO_MEMORY + (f" (torch asked for {asked[1]})" if asked else ""))
        # Python's own words on long numbers advise to raise its limit.
        words = f"{type(error).__name__}: {error}".split("\n")[0].split("; use sys.set_int")[0][:500]
        return InternalError(
            f"a defect of ckptkit: {words}; please report it with what the same command says under CKPTKIT_TRACEBACK=1"
        )


def _dispatch(argv: list[str]) -> int:
    name, words = split(argv)
    if name is None:
        if "--version" in words:
            from .. import __version__

            print_raw(f"ckptkit {__version__}")
            return 0
        if "--help" in words or "-h" in words:
            print_raw(overview())
            return 0
        raise UsageError(f"a command is missing; commands are {', '.join(COMMANDS)}; see ckptkit --help")
    try:
        arguments = command_parser(name).parse_args(words)
    except SystemExit as done:  # --help
        return int(done.code or 0)
    return load(name).run(arguments)
