"""The ``_metadata`` of a state_dict (module path to version), carried through a plan.

torch's `Module.state_dict` stores each module's ``_version`` there, and `_load_from_state_dict`
reads it to migrate old layouts; a plan that lost it would switch those migrations off or on.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .collector import gc_paused
from .expr import Read
from .module_paths import Evidence, Moved, ancestors, moves
from .plans import Plan
from .text import folded, quote_list, quoted

PLAIN = {"version": 1}  # what torch writes for a module whose class says nothing
_NEW_LEVELS = 1000  # new modules one in another: torch itself gives up there


@dataclass(frozen=True, slots=True)
class StateMetadata:
    """The ``_metadata`` of a plan's result.

    Args:
        entries: module path to its entry; None when the source has none.
        left_out: entries that the result does not have though their tensors are there, one line each.
        notes: entries to look at, one line each.
    """

    entries: dict[str, Any] | None
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def moved_state_metadata(metadata: Mapping[str, Any] | None, plan: Plan) -> StateMetadata:
    """What torch would write for the tree of modules that a plan makes.

    Each module takes its entry along; a container that is new has what torch writes for a plain one. Of entries
    that get lost those are listed that say more than ``{"version": 1}``, and those whose tensors are now read
    under another version.

    Args:
        metadata: module path to its entry, "" for the root module; None when the state_dict has none.
        plan: the plan.
    """
    if metadata is None:
        return StateMetadata(None)
    with gc_paused():
        return _moved(metadata, plan)


def _moved(metadata: Mapping[str, Any], plan: Plan) -> StateMetadata:
    if len(plan.outputs) == len(plan.source) and all(o.expr == Read(o.key) for o in plan.outputs):
        return StateMetadata(dict(metadata))
    told = _Told(metadata)
    modules = moves(metadata, plan)
    claims: dict[str, list[Moved]] = {}
    for module in modules.values():
        for place in module.places:
            claims.setdefault(place, []).append(module)
    winners = {place: _winners(place, claiming, metadata) for place, claiming in claims.items()}
    won: dict[str, list[str]] = {}
    for place, winning in winners.items():
        for module in winning:
            won.setdefault(module.path, []).append(place)
    for path, module in modules.items():
        told.fate(module, won.get(path, []), claims)
    return StateMetadata(_entries(metadata, modules, winners), *told.lines())


def is_plain(entry: Any) -> bool:
    """Whether an entry says no more than torch's default."""
    return bool(_bare(entry) == PLAIN)


def _bare(entry: Any) -> Any:
    """An entry without what torch itself sets in it when it loads with assign."""
    if not isinstance(entry, Mapping) or "assign_to_params_buffers" not in entry:
        return entry
    return {name: value for name, value in entry.items() if name != "assign_to_params_buffers"}


def _winners(place: str, claiming: list[Moved], metadata: Mapping[str, Any]) -> list[Moved]:
    """The modules of several whose (equal) entry a place gets; none where equals disagree."""
    if len(claiming) == 1:
        return claiming
    best = min(module.evidence for module in claiming)
    first = [module for module in claiming if module.evidence == best]
    stayed = next((module for module in first if module.path == place), None)
    chosen = _bare(metadata[(stayed or first[0]).path])
    if stayed is None and any(_bare(metadata[module.path]) != chosen for module in first):
        return []
    return [module for module in claiming if _bare(metadata[module.path]) == chosen]


def _entries(
    metadata: Mapping[str, Any], modules: Mapping[str, Moved], winners: Mapping[str, list[Moved]]
) -> dict[str, Any]:
    """The entries in torch's order: what holds a module comes before it."""
    whole = all(next(ancestors(path), "") in metadata for path in metadata)
    result: dict[str, Any] = {}

    def add(place: str) -> None:
        missing = []
        for level, each in enumerate((place, *ancestors(place)) if whole else (place,)):
            if each in result or level > _NEW_LEVELS:
                break
            missing.append(each)
        for each in reversed(missing):
            if each not in winners:
                if whole:
                    result[each] = dict(PLAIN)
            elif winners[each]:
                result[each] = copy.copy(metadata[winners[each][0].path])

    for module in modules.values():
        for place in (*module.places, *module.tensors):
            add(place)
    return result


class _Told:
    """What a person should hear of the entries, equal things in one line."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.lost: dict[tuple[str, str], list[str]] = {}
        self.noted: dict[tuple[str, str], list[str]] = {}

    def fate(self, module: Moved, won: list[str], claims: Mapping[str, list[Moved]]) -> None:
        """Note what became of one module's entry.

        Args:
            module: where it went.
            won: the places that have its entry now.
            claims: place to the modules that came there.
        """
        entry = self.metadata[module.path]
        says, plain = _says(entry), is_plain(entry)
        if not won:
            if module.gone or (plain and not module.tensors):
                return
            others = [
                other.path
                for place in module.places
                for other in claims[place]
                if _bare(self.metadata[other.path]) != _bare(entry)
            ]
            if others:
                why = f"became one module with {_names(others)}, which has another version"
                self.lost.setdefault((says, why), []).append(module.path)
            elif not plain:
                there = [other.path for other in claims.get(module.path, [])]
                why = f"{_names(there)} is in its place now" if there else "where it is now is not evident"
                self.lost.setdefault((says, why), []).append(module.path)
            return
        if plain:
            return
        elsewhere = [place for place in module.tensors if place not in won]
        if module.evidence == Evidence.STAYS and not module.gone:
            why = "where it is now is not evident; taken to be where it was"
        elif elsewhere:
            why = f"tensors of it are in {_names(elsewhere)} now, which does not have its version"
        elif module.split:
            why = f"its tensors were split over {_names(won)}, and each has its version"
        else:
            return
        self.noted.setdefault((says, why), []).append(module.path)

    def lines(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What was left out, and the notes."""
        return tuple(_lines(self.lost)), tuple(_lines(self.noted))


def _lines(told: Mapping[tuple[str, str], list[str]]) -> Iterable[str]:
    for (says, why), paths in told.items():
        named = "the root module" if paths == [""] else folded((path or "the root" for path in paths), 4)
        yield f"_metadata of {named} ({says}): {why}"


def _names(paths: list[str]) -> str:
    return quote_list([path or "the root" for path in dict.fromkeys(paths)], 3)


def _says(entry: Any) -> str:
    bare = _bare(entry)
    if isinstance(bare, Mapping) and set(bare) == {"version"}:
        return f"version {quoted(bare['version'])}"
    return quoted(bare)
