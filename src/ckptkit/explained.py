"""Explaining in place: an error passes as it is, with what is known of it added as a note."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from .errors import CkptkitError
from .explanation import Explanation, explain
from .explanation.given import NOTE
from .modules.checking import check

_MOST = 200  # frames of a traceback


@contextmanager
def explaining() -> Iterator[None]:
    """Add findings to an exception that passes; a context manager.

    ``with ckptkit.explaining(): model.load_state_dict(...)``. The exception keeps its type, message and
    traceback; the findings stand below it as a note (PEP 678). An error that is no load failure gets none.
    Where the error comes out of `load_state_dict`, the module and the state_dict are looked at themselves, as
    `check` does; else its text is.
    """
    try:
        yield
    except Exception as error:
        told = any(str(note).startswith(NOTE) for note in getattr(error, "__notes__", ()))
        told = told or (isinstance(error, CkptkitError) and bool(error.findings))  # its message has them
        explanation = None if told else _explained(error)
        if explanation is not None and explanation.findings:
            error.add_note(f"{NOTE}{explanation}")
        raise


def _explained(error: Exception) -> Explanation:
    said = explain(error)
    if said.parsed.empty or _distributed():
        return said  # no failure of keys; or ranks that must do the same, which only the code above them can
    try:
        seen = _objects(error.__traceback__)
        report = None if seen is None else check(*seen)
    except Exception:  # a model or a state_dict that cannot be looked at: the text is still there
        return said
    if report is None or not report.findings:
        return said
    return Explanation(said.parsed, report.findings)


def _distributed() -> bool:
    module = sys.modules.get("torch.distributed")
    return module is not None and module.is_available() and module.is_initialized()


def _objects(traceback: TracebackType | None) -> tuple[Any, dict[str, Any]] | None:
    """The module whose `load_state_dict` raised, and what was loaded; the innermost one, and no frame is kept."""
    found = None
    for _ in range(_MOST):
        if traceback is None:
            break
        frame = traceback.tb_frame
        if frame.f_code.co_name == "load_state_dict":
            module, state = frame.f_locals.get("self"), frame.f_locals.get("state_dict")
            if isinstance(state, Mapping) and hasattr(module, "named_parameters"):
                found = (module, dict(state))
        traceback = traceback.tb_next
    return found
