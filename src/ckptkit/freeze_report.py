"""What of a model is frozen and what trains: a table by module for people, keys for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .text import fold, folded, human_count, one_line, quote_list, table


@dataclass(frozen=True, slots=True)
class Weight:
    """One key of a parameter.

    Args:
        key: in the state_dict.
        elements: how many numbers it adds to the counts; 0 for the further names of a tied tensor.
        frozen: whether it stays as it is.
        tied: whether it is a further name of a tensor that an earlier key has.
    """

    key: str
    elements: int
    frozen: bool
    tied: bool = False


@dataclass(frozen=True, slots=True)
class TiedConflict:
    """One tensor that the config freezes under some of its names only; it is frozen, under all of them."""

    frozen: tuple[str, ...]
    trainable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """A module whose parameters are shown together.

    Args:
        module: its name; ``""`` for parameters of the model itself.
        frozen_parameters: numbers in its frozen parameters.
        trainable_parameters: numbers in its trainable parameters.
        state: ``frozen``, ``trains`` or ``in part``.
        tied: whether all its parameters are counted elsewhere.
    """

    module: str
    frozen_parameters: int
    trainable_parameters: int
    state: str
    tied: bool


@dataclass(frozen=True)
class FreezeReport:
    """The state of a model after a freeze, earlier freezes included.

    Args:
        weights: every parameter's keys, in the order of the state_dict.
        eval_modules: norm layers that stay in evaluation mode, by name.
        tied_conflicts: tensors that the config freezes under some of their names only.
        notes: what a person should be told besides.
        what: the model's class.
    """

    weights: tuple[Weight, ...]
    eval_modules: tuple[str, ...] = ()
    tied_conflicts: tuple[TiedConflict, ...] = ()
    notes: tuple[str, ...] = ()
    what: str = "the model"

    @property
    def frozen(self) -> tuple[str, ...]:
        """Keys of the parameters that stay as they are."""
        return tuple(w.key for w in self.weights if w.frozen)

    @property
    def trainable(self) -> tuple[str, ...]:
        """Keys of the parameters that train."""
        return tuple(w.key for w in self.weights if not w.frozen)

    @property
    def frozen_parameters(self) -> int:
        """Numbers in the frozen parameters, tied ones counted once."""
        return sum(w.elements for w in self.weights if w.frozen)

    @property
    def trainable_parameters(self) -> int:
        """Numbers in the trainable parameters, tied ones counted once."""
        return sum(w.elements for w in self.weights if not w.frozen)

    @property
    def modules(self) -> tuple[ModuleRow, ...]:
        """The modules, each as high up as everything in it is frozen, or everything trains."""
        return tuple(_rows("", 0, self.weights))

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.freeze_report`` document."""
        return {
            "format": "ckptkit.freeze_report",
            "version": 1,
            "frozen": list(self.frozen),
            "trainable": list(self.trainable),
            "frozen_parameters": self.frozen_parameters,
            "trainable_parameters": self.trainable_parameters,
            "eval_modules": list(self.eval_modules),
            "tied_conflicts": [
                {"frozen": list(c.frozen), "trainable": list(c.trainable)} for c in self.tied_conflicts
            ],
            "modules": [
                {
                    "module": r.module,
                    "frozen_parameters": r.frozen_parameters,
                    "trainable_parameters": r.trainable_parameters,
                }
                for r in self.modules
            ],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return "\n".join([self.headline(), *self._body()])

    def headline(self) -> str:
        """One line: how much trains."""
        total = self.frozen_parameters + self.trainable_parameters
        return (
            f"{self.what}: {human_count(self.trainable_parameters)} of {human_count(total)} parameters train, "
            f"{human_count(self.frozen_parameters)} are frozen."
        )

    def _body(self) -> list[str]:
        lines = self._table()
        if self.eval_modules:
            names = [name or "the model itself" for name in self.eval_modules]
            lines.append(f"stay in eval mode: {len(names)} {_norms(len(names), ' layer')}: {folded(names)}")
        for c in self.tied_conflicts:
            lines.append(
                f"tied: {quote_list(c.frozen)} is frozen and {quote_list(c.trainable)} is not, but they are one tensor; "
                "it is frozen"
            )
        return lines + [f"note: {note}" for note in self.notes]

    def _table(self) -> list[str]:
        rows = self.modules
        if not rows:
            return []
        cells = [["module", "frozen", "trainable", ""]]
        # Blocks of a stack fold into one line when their counts agree; the line has the sum.
        by_name = {row.module: row for row in rows}
        marks = [(r.frozen_parameters, r.trainable_parameters, r.state, r.tied) for r in rows]
        inside = Counter(part for name in self.eval_modules for part in _around(name))
        for group in fold(by_name, marks):
            first, count = by_name[group.keys[0]], len(group.keys)
            words = [first.state]
            if first.tied:
                words.append("tied, counted elsewhere")
            held = sum(inside[key] for key in group.keys)
            if held:
                words.append(f"{held} {_norms(held)} in eval")
            cells.append(
                [
                    group.label or "(the model itself)",
                    f"{first.frozen_parameters * count:,}",
                    f"{first.trainable_parameters * count:,}",
                    "; ".join(words),
                ]
            )
        return [f"  {line}" for line in table(cells, right=(1, 2)).splitlines()]

    def _repr_html_(self) -> str:
        head, *body = str(self).splitlines()
        return (
            f'<div style="font-family:monospace"><div style="font-weight:bold">{escape(head)}</div>'
            f'<pre style="margin:0">{escape(chr(10).join(body))}</pre></div>'
        )


def _norms(count: int, what: str = "") -> str:
    return f"norm{what}" + ("s" if count != 1 else "")


def _around(name: str) -> list[str]:
    """A module's name and those of the modules around it, as rows show them; the model itself has no row for all."""
    parts = name.split(".")
    return [one_line(".".join(parts[:count])) for count in range(1, len(parts) + 1)]


def _rows(name: str, depth: int, weights: Sequence[Weight]) -> list[ModuleRow]:
    """The rows of one module, given its parameters: one when they agree, else those of its children."""
    mixed = len({w.frozen for w in weights}) > 1
    own: list[Weight] = []
    children: dict[str, list[Weight]] = {}
    for weight in weights:
        parts = weight.key.split(".")
        if len(parts) == depth + 1:
            own.append(weight)
        else:
            children.setdefault(parts[depth], []).append(weight)
    if not children or (depth and not mixed):
        return [_row(name, weights)] if weights else []
    rows = [_row(name, own)] if own else []
    for part, inside in children.items():
        rows += _rows(f"{name}.{part}" if depth else part, depth + 1, inside)
    return rows


def _row(name: str, weights: Sequence[Weight]) -> ModuleRow:
    frozen = sum(w.elements for w in weights if w.frozen)
    trainable = sum(w.elements for w in weights if not w.frozen)
    states = {w.frozen for w in weights}
    state = "in part" if len(states) > 1 else "frozen" if True in states else "trains"
    return ModuleRow(one_line(name), frozen, trainable, state, all(w.tied for w in weights))
