"""Where a command's words go: results to standard output, everything else to standard error.

On a terminal with colours and tables that wrap, elsewhere as plain text; or as one JSON document.
Nothing that a file says can move the cursor of a terminal or hide from its reader.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ..errors import CkptkitError, FormatError, RootError
from ..formats.base import Progress, no_progress
from ..render.blocks import Block, Span, line, text_lines
from ..render.plain import plain

LONG_WORK = 64_000_000  # bytes; less than this is over before a bar can be read


class ClosedOutput(Exception):
    """Whoever read standard output has gone."""


class OutputFailed(CkptkitError):
    """Standard output cannot be written."""


def show(blocks: Iterable[Block]) -> None:
    """Write blocks to standard output.

    Raises:
        ClosedOutput, OutputFailed: standard output does not take them.
    """
    with _guarded():
        _show(blocks, sys.stdout)


def print_text(text: str) -> None:
    """Write text to standard output; its line feeds are kept, other control characters are escaped.

    Raises:
        ClosedOutput, OutputFailed: standard output does not take it.
    """
    show(text_lines(text))


def print_raw(text: str) -> None:
    """Write text of our own, such as help, as it is.

    Raises:
        ClosedOutput, OutputFailed: standard output does not take it.
    """
    with _guarded():
        if sys.stdout is not None:
            sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def print_json(document: dict[str, Any]) -> None:
    """Write one JSON document to standard output, in ASCII; indented where a person looks at it.

    NaN and infinities become the strings ``"nan"``, ``"inf"`` and ``"-inf"``.

    Raises:
        ClosedOutput, OutputFailed: standard output does not take it.
    """
    print_raw(dump(document, indent=2 if is_terminal(sys.stdout) else None))


def print_note(text: str) -> None:
    """Tell people something besides the result, on standard error."""
    show_aside([line(Span("note: ", "warn"), text)])


def show_aside(blocks: Iterable[Block]) -> None:
    """Write blocks to standard error; that nobody may be listening there is no failure."""
    try:
        _show(blocks, sys.stderr)
    except (OSError, ValueError):
        pass


def print_error(error: CkptkitError, as_json: bool) -> int:
    """Report an error: as the JSON document, or in words on standard error.

    Returns:
        Exit code 2.
    """
    if as_json:
        print_json(_with_findings(error))
        return 2
    first, *rest = error.message.split("\n")
    show_aside([line(Span("error: ", "bad"), first), *(line(text) for text in rest)])
    return 2


def _with_findings(error: CkptkitError) -> dict[str, Any]:
    """The error's document; what a bad file turned out to be stands in it as a finding."""
    document = error.to_json()
    if isinstance(error, FormatError | RootError) and not error.findings:
        from ..explanation.files import file_finding

        finding = file_finding(error)
        if finding is not None:
            document["findings"] = [finding.to_json()]
    return document


@contextmanager
def progress(total: int, what: str) -> Iterator[Progress]:
    """A bar by bytes on standard error, if that is a terminal and the work is long.

    Args:
        total: bytes of work.
        what: a word for it.
    """
    if total < LONG_WORK or not is_terminal(sys.stderr):
        yield no_progress
        return
    from ..render.terminal import progress_bar

    with progress_bar(sys.stderr, total, what) as advance:
        yield advance


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that can show more than plain text."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:
        return False  # closed


def dump(document: Any, indent: int | None = None) -> str:
    """A document as JSON."""
    separators = (",", ":") if indent is None else None
    try:
        return json.dumps(document, indent=indent, separators=separators, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(document), indent=indent, separators=separators, allow_nan=False)


def prepare_streams() -> None:
    """Make sure that no key can stop the printing: what an encoding lacks is escaped."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _show(blocks: Iterable[Block], stream: TextIO | None) -> None:
    if stream is None:
        return
    if is_terminal(stream):
        from ..render.terminal import show as show_on_terminal

        show_on_terminal(blocks, stream)
    else:
        stream.write(plain(blocks))
    stream.flush()


@contextmanager
def _guarded() -> Iterator[None]:
    """Turn what can go wrong with standard output into our own errors."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()
        raise ClosedOutput from None
    except OSError as error:
        _give_up_stdout()
        raise OutputFailed(f"standard output could not be written: {error.strerror or error}") from None


def _give_up_stdout() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not stumble over it at its end."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):
        pass  # no real file behind it


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return value
