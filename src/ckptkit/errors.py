"""Every error of ckptkit: what went wrong, in which file, at which key, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .findings import Finding

LONGEST = 1 << 14  # characters of a message


@dataclass(frozen=True, slots=True)
class Problem:
    """One of several problems found in one go, e.g. one wrong field of a config file.

    Args:
        location: where it is, e.g. ``rules.3.pattern``.
        message: what is wrong there.
    """

    location: str
    message: str


class CkptkitError(Exception):
    """Base of every error that ckptkit raises on purpose.

    Args:
        message: one line: what, which key or file, both values, what to do next.
        file: the file it is about, if any.
        key: the state_dict key it is about, if any.
        problems: all the single problems, when several were found at once.
        findings: diagnosed causes, best first; those of the report where it comes from one.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        key: str | None = None,
        problems: Sequence[Problem] = (),
        findings: Sequence[Finding] = (),
    ) -> None:
        if len(message) > LONGEST:  # a file may hold a key of a megabyte
            message = (
                f"{message[: LONGEST // 2]} ... ({len(message)} characters) ... {message[-LONGEST // 4 :]}"
            )
        super().__init__(message)
        self.message = message
        self.file = file
        self.key = key
        self.problems = tuple(problems)
        self.findings = tuple(findings)

    @property
    def type(self) -> str:
        """The class's name, as the document has it."""
        return type(self).__name__

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.error`` document."""
        return {
            "format": "ckptkit.error",
            "version": 1,
            "type": self.type,
            "message": self.message,
            "file": self.file,
            "key": self.key,
            "problems": [{"location": p.location, "message": p.message} for p in self.problems],
            "findings": [finding.to_json() for finding in self.findings],
        }


class UsageError(CkptkitError):
    """The call cannot mean anything: arguments that contradict each other, a missing one."""


class ConfigError(CkptkitError):
    """A config that cannot be used; `problems` has every one with its location."""


class FormatError(CkptkitError):
    """A file that is damaged, of an unknown or unsupported format, or breaks its format's laws.

    Args:
        message, more: as for `CkptkitError`.
        offset: where in the file, in bytes, if that is known.
    """

    def __init__(self, message: str, *, offset: int | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.offset = offset


class UnsupportedFormatError(FormatError):
    """A file that is known to be something else, and may be sound as that: a program, an archive, another library's file."""


class PartError(FormatError):
    """A file that is a part of a checkpoint, where a whole one is needed."""


class RootError(CkptkitError):
    """The weights inside a nested checkpoint were not found, or more than one place could be meant."""


class NoWeightsError(RootError):
    """A file in which no dictionary holds weights."""


class KeyNotFoundError(CkptkitError, KeyError):
    """A key that the checkpoint does not have."""

    __str__ = CkptkitError.__str__


class PlanError(CkptkitError):
    """Rules that cannot be carried out: a collision, a rule that touches nothing, a shape that does not fit."""


class CastError(CkptkitError):
    """A cast would turn finite values into infinities, or into other numbers."""


class WriteError(CkptkitError):
    """An output that was not written; the target is as it was before."""


class IncompatibleKeysError(CkptkitError, RuntimeError):
    """A checkpoint that does not fit a model; a `RuntimeError`, as torch's is."""
