"""Explaining in place: an error passes as it is, with what is known of it added as a note."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import CkptkitError
from .explaining_text import explain
from .given import NOTE


@contextmanager
def explaining() -> Iterator[None]:
    """Add findings to an exception that passes; a context manager.

    ``with ckptkit.explaining(): model.load_state_dict(...)``. The exception keeps its type, message and
    traceback; the findings stand below it as a note (PEP 678). An error that is no load failure gets none.
    """
    try:
        yield
    except Exception as error:
        told = any(str(note).startswith(NOTE) for note in getattr(error, "__notes__", ()))
        told = told or (isinstance(error, CkptkitError) and bool(error.findings))  # its message has them
        explanation = None if told else explain(error)
        if explanation is not None and explanation.findings:
            error.add_note(f"{NOTE}{explanation}")
        raise
