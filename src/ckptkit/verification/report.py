"""What a verification found: prints for people, dumps to JSON."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any, Literal, NamedTuple

from ..text import human_bytes, one_line

SHOWN = 50  # problems, before the rest is counted


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong with a checkpoint, or that could not be judged.

    Args:
        file: the file it is in.
        problem: what is wrong, in words.
        key: the state_dict key it concerns, if it is known.
        offset: where in the file, in bytes, if it is known.
        evident: whether it is damage; else it is something that was not understood, and may be sound.
    """

    file: str
    problem: str
    key: str | None = None
    offset: int | None = None
    evident: bool = True

    def to_json(self) -> dict[str, Any]:
        """The entry of the document."""
        return {"file": self.file, "key": self.key, "offset": self.offset, "problem": self.problem}


class Checked(NamedTuple):
    """How much was looked at: files, the tensors in them, and bytes read."""

    files: int
    tensors: int
    bytes: int


@dataclass(frozen=True)
class Verification:
    """Whether a checkpoint is whole.

    Args:
        problems: all that is wrong with it, and all that was not understood.
        hash: the content hash, if it was asked for and the checkpoint is whole.
        notes: what a person should be told besides.
        files: how many files were looked at.
        tensors: how many tensors they hold.
        nbytes: how many bytes were read.
    """

    problems: tuple[Damage, ...] = ()
    hash: str | None = None
    notes: tuple[str, ...] = ()
    files: int = 0
    tensors: int = 0
    nbytes: int = 0

    @property
    def checked(self) -> Checked:
        """How much was looked at."""
        return Checked(self.files, self.tensors, self.nbytes)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, and everything was understood."""
        return not self.problems

    @property
    def outcome(self) -> Literal["whole", "damaged", "not understood"]:
        """``damaged`` with evidence; ``not understood`` when it may be sound, and is nothing that could be judged."""
        if not self.problems:
            return "whole"
        return "damaged" if any(damage.evident for damage in self.problems) else "not understood"

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.verification`` document."""
        return {
            "format": "ckptkit.verification",
            "version": 1,
            "ok": self.ok,
            "outcome": self.outcome,
            "problems": [damage.to_json() for damage in self.problems],
            "hash": self.hash,
            "checked": self.checked._asdict(),
            "notes": list(self.notes),
        }

    def headline(self) -> str:
        """One line: whole, or how much is wrong."""
        counts = ((self.files, "file"), (self.tensors, "tensor"))
        looked = ", ".join(_count(number, word) for number, word in counts)
        looked += f", {human_bytes(self.nbytes)} read"
        if self.ok:
            return f"whole: {looked}"
        return f"{self.outcome}: {_count(len(self.problems), 'problem')} ({looked})"

    def __str__(self) -> str:
        lines = [self.headline()]
        for damage in self.problems[:SHOWN]:
            place = one_line(damage.file)
            place += f", key {one_line(damage.key)}" if damage.key is not None else ""
            place += f", byte {damage.offset}" if damage.offset is not None else ""
            problem = damage.problem.removeprefix(f"{damage.file}: ")
            lines += [f"  {place}", f"    {one_line(problem)}"]
        if len(self.problems) > SHOWN:
            lines.append(f"  and {len(self.problems) - SHOWN} more; --json lists all")
        lines += [f"hash: {self.hash}"] if self.hash is not None else []
        lines += [f"note: {one_line(note)}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        color = "#1a7f37" if self.ok else "#b42318"
        return (
            f'<pre style="margin:0;border-left:3px solid {color};padding-left:8px">{escape(str(self))}</pre>'
        )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
