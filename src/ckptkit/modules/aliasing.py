"""Tensors that share memory: a checkpoint in memory with the model, and parameters of the model with each other.

What is copied into one of them would change another that is still to be read, or was filled before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..config.load import LoadConfig
from ..errors import FormatError
from ..expr import evaluate
from ..formats.base import Source
from ..formats.memory import MemorySource
from ..formats.tensor_bytes import flat_bytes
from ..matching import Match
from ..planned import PlannedSource
from ..text import quote_list
from .memory import Ground, Span, clusters, may_overlap_itself, parts, span
from .targets import Target
from .values import arrange, retyped

if TYPE_CHECKING:
    import torch

_ALIGNED = 16  # bytes: the widest element


def apart(source: Source, model: Iterable[Any]) -> Source:
    """The source with copies of those of its tensors that lie in the model's memory.

    Args:
        source: what is read; files are given back as they are.
        model: every tensor that may be written to.
    """
    if isinstance(source, PlannedSource):
        base = apart(source.base, model)
        return source if base is source.base else PlannedSource(base, source.plan)
    if not isinstance(source, MemorySource):
        return source
    ground = Ground(_spans(model))
    copies: dict[int, Any] = {}
    for value in source.state.values():
        if id(value) not in copies and any(map(ground.meets, _spans([value]))):
            copies[id(value)] = value.detach().clone()
    if not copies:
        return source
    result = MemorySource({key: copies.get(id(value), value) for key, value in source.state.items()})
    result.signature = source.signature  # a copy of a view is tied with what it was a view of
    result.state_metadata, result.notes = source.state_metadata, source.notes
    return result


def _spans(values: Iterable[Any]) -> list[Span]:
    return [found for value in values for part in parts(value) if (found := span(part)) is not None]


def disagreements(target: Target, source: Source, match: Match, config: LoadConfig) -> list[str]:
    """Why parameters that overlap in memory cannot all get their values: one line for each such group.

    Parameters that are wholly one (ties) are judged by the match. Of others the values are compared where the
    parameters meet; without values (only a signature is known) nothing can be said.

    Args:
        target: the module.
        source: the checkpoint after the rules.
        match: what is to fill what.
        config: the dtype policy, and whether tensors are assigned, so that each gets memory of its own.
    """
    if config.assign:
        return []
    places = _places(target, source, match, config)
    found = []
    groups = clusters((name, place) for name, (_, place) in places.items())
    together = {name for group in groups for name in group}
    alone = [
        [name] for name, (part, _) in places.items() if name not in together and may_overlap_itself(part)
    ]
    for group in [*groups, *alone]:
        try:
            agree = _agree(group, places, target, source, match, config)
        except FormatError:
            continue
        if not agree:
            found.append(_sentence(group))
    return found


def _sentence(group: list[str]) -> str:
    who = (
        f"{quote_list(group)} overlap in memory"
        if len(group) > 1
        else f"elements of {group[0]!r} overlap in memory"
    )
    return (
        f"{who}, and the checkpoint has different values for the same place; give them memory of their own "
        "(parameter.data = parameter.data.clone()), or load with assign: true"
    )


def _places(
    target: Target, source: Source, match: Match, config: LoadConfig
) -> dict[str, tuple[torch.Tensor, Span]]:
    """What will be filled, or is to keep its values, and where it lies; of a tie one name."""
    spared = {*match.reinit, *(each.key for each in match.mismatched)}
    seen: set[str] = set()
    places = {}
    for key, value in target.state.items():
        if key in seen or not (key in match.fills or key in spared):
            continue
        seen.update(next((group for group in target.signature.tied if key in group), ()))
        found = parts(value)
        if len(found) != 1 or found[0].shape != value.shape or retyped(key, target, match, source, config):
            continue
        place = span(found[0])
        stretched = any(n > 1 and s == 0 for n, s in zip(value.shape, found[0].stride(), strict=True))
        if place is not None and not stretched:
            places[key] = (found[0], place)
    return places


def _agree(
    group: list[str],
    places: dict[str, tuple[torch.Tensor, Span]],
    target: Target,
    source: Source,
    match: Match,
    config: LoadConfig,
) -> bool:
    """Fill a picture of the memory in which they lie, and look whether each of them has its values then."""
    import torch

    first = min(places[name][1].start for name in group) // _ALIGNED * _ALIGNED
    last = max(places[name][1].stop for name in group)
    picture = torch.empty(last - first, dtype=torch.uint8)

    def wanted(name: str) -> torch.Tensor:
        expr, parameter = match.fills.get(name), target.state[name]
        if expr is None:
            return places[name][0]
        return arrange(evaluate(expr, source.tensor), parameter, assign=False, dtype=config.dtype)

    def look(name: str) -> torch.Tensor | None:
        part, place = places[name]
        offset, rest = divmod(place.start - first, part.element_size())
        if rest:
            return None
        bare = torch.empty(0, dtype=part.dtype)
        return bare.set_(picture.untyped_storage(), offset, part.shape, part.stride())

    looks = [look(name) for name in group]
    for name, each in zip(group, looks, strict=True):
        if each is None:
            return False
        each.copy_(wanted(name))
    return all(
        torch.equal(flat_bytes(each.contiguous()), flat_bytes(wanted(name).cpu().contiguous()))
        for name, each in zip(group, looks, strict=True)
        if each is not None
    )
