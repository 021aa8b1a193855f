"""What goes to stdout and stderr: plain text that cannot attack a terminal, or one JSON document."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from ..errors import CkptkitError
from ..text import safe


def print_text(text: str) -> None:
    """Print plain text to stdout."""
    _write(sys.stdout, safe(text) + "\n")


def print_note(text: str) -> None:
    """Print a line for people to stderr."""
    _write(sys.stderr, safe(text) + "\n")


def _write(stream: Any, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(text.encode(stream.encoding or "ascii", "backslashreplace").decode(stream.encoding or "ascii"))


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document; NaN and infinities become strings."""
    try:
        text = json.dumps(document, ensure_ascii=True, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(document), ensure_ascii=True)
    sys.stdout.write(text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def print_error(error: CkptkitError, as_json: bool) -> int:
    """Print an error; returns exit code 2."""
    if as_json:
        print_json(error.to_json())
    else:
        print_note(f"error: {error.message}")
    return 2


def print_raw(text: str) -> None:
    """Print ASCII text that is known to be harmless, as it is."""
    sys.stdout.write(text + "\n")
