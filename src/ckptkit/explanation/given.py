"""What may be given to `explain`: text, an exception with all that led to it, or torch's two lists of keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ..errors import CkptkitError, UsageError
from ..findings import Finding
from .files import file_finding
from .parsed import Parsed
from .reading import read_text

NOTE = "\nckptkit explains:\n"  # how a note of ours begins
_MOST = 50  # exceptions of a chain or a group


class KeyLists(Protocol):
    """What `load_state_dict` returns."""

    @property
    def missing_keys(self) -> list[str]: ...
    @property
    def unexpected_keys(self) -> list[str]: ...


def parsed_of(given: str | BaseException | KeyLists) -> Parsed:
    """The facts of what was given.

    Raises:
        UsageError: of another type.
    """
    if isinstance(given, str):
        return read_text(given)
    if isinstance(given, BaseException):
        return read_text("\n\n".join(_words(error) for error in _chain(given)))
    missing, unexpected = getattr(given, "missing_keys", None), getattr(given, "unexpected_keys", None)
    if isinstance(missing, list | tuple | set) and isinstance(unexpected, list | tuple | set):
        return Parsed("", missing=[str(key) for key in missing], unexpected=[str(key) for key in unexpected])
    raise UsageError(
        "explain takes the text of an error, an exception, or what load_state_dict returns, not a value of type "
        f"{type(given).__name__}"
    )


def known_findings(given: object) -> tuple[Finding, ...]:
    """What an error of ours brings along, itself or in what led to it."""
    for error in _chain(given) if isinstance(given, BaseException) else ():
        if isinstance(error, CkptkitError):
            finding = file_finding(error)
            if error.findings or finding is not None:
                return error.findings or ((finding,) if finding is not None else ())
    return ()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it was raised from or during, and those of a group; each once."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MOST:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        cause = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        waiting += [*([cause] if cause is not None else []), *getattr(each, "exceptions", ())]


def _words(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # a class of the user's whose text cannot be made
        text = ""
    notes = [
        note
        for note in getattr(error, "__notes__", ())
        if isinstance(note, str) and not note.startswith(NOTE)
    ]
    return "\n".join([f"{type(error).__name__}: {text}", *notes])
