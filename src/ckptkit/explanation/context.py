"""Explaining in place: an error passes as it is, with what is known of it added as a note."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .explaining_text import explain


@contextmanager
def explaining() -> Iterator[None]:
    """Add findings to an exception that passes; a context manager.

    ``with ckptkit.explaining(): model.load_state_dict(...)``. The exception keeps its type, message and
    traceback; the findings stand below it as a note (PEP 678). An error that is no load failure gets none.
    """
    try:
        yield
    except Exception as error:
        explanation = explain(f"{type(error).__name__}: {error}")
        if explanation.findings:
            error.add_note(f"\nckptkit explains:\n{explanation}")
        raise
