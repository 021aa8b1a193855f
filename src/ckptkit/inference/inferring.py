"""``ckptkit.infer``: from two signatures to rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..checkpoint import signature as signature_of
from ..collector import gc_paused
from ..config import RemapConfig
from ..plans import make_plan
from ..signatures import Signature
from .align import Alignment, Containers, outermost
from .candidates import candidates
from .confidence import judged
from .groups import Group, Shape, grouped
from .leftovers import copies, leaf_matches, size_joins, towers
from .match import Match, Matcher
from .result import Confidence, Inference, Inferred
from .similarity import Names
from .steps import steps
from .synthesis import selection, synthesised
from .virtual import Fused, Stacked, fusions, members, note_attention, note_gates, stacks, wanted_shapes


def infer(source: Any, target: Any, *, drop_unused: bool = False) -> Inference:
    """Find the rules that turn one checkpoint's keys into another's, from names and shapes alone.

    Args:
        source: a path, a mapping of tensors, a Checkpoint, a Signature or an `nn.Module`.
        target: likewise.
        drop_unused: end the rules with a drop of what the target does not have.

    Returns:
        The rules, what they do to each target key, and how far each is to be trusted. Data is not read.

    Raises:
        FormatError: a file cannot be read.
    """
    mine, theirs = signature_of(source), signature_of(target)
    with gc_paused():
        return _infer(mine, theirs, drop_unused)


def _infer(mine: Signature, theirs: Signature, drop_unused: bool) -> Inference:
    wanted = steps(matched(_shapes(mine), _shapes(theirs)))
    ties = {key: group for group in theirs.tied for key in group}
    for twin, key in list(wanted.copies):
        # A tied target is one tensor: what fills its partner fills it.
        if key in ties and twin in ties[key]:
            wanted.copies.remove((twin, key))
            del wanted.exprs[key]
    rules, plan = synthesised(mine, theirs, wanted)
    if drop_unused:
        surplus = [o.key for o in plan.outputs if o.key not in theirs]
        if surplus:
            drop = {"op": "drop", "keys": selection(surplus, [o.key for o in plan.outputs])}
            rules = [*rules, drop]
            plan = make_plan(mine, RemapConfig.parse({"rules": rules}))
    made = {o.key: o.expr for o in plan.outputs if o.key in theirs}
    outputs = []
    used: set[str] = set()
    verdicts: dict[int, tuple[Confidence, str]] = {}
    verdict: tuple[Confidence, str]
    for key in theirs:
        if key not in made:
            continue
        used.update(made[key].reads())
        match = wanted.match_of.get(key)
        if match is None:
            verdict = ("guess", "the rules leave this key as it is; nothing else speaks for it")
        else:
            verdict = verdicts.setdefault(id(match), judged(match))
        outputs.append(Inferred(key, made[key], *verdict))
    tied = []
    for key, group in ties.items():
        partner = next((k for k in group if k in made), None)
        if key not in made and partner is not None:
            tied.append((key, partner))
    settled = made.keys() | {key for key, _ in tied}
    return Inference(
        RemapConfig.parse({"rules": rules}),
        tuple(outputs),
        tuple(key for key in theirs if key not in settled),
        tuple(key for key in mine if key not in used),
        tuple(tied),
    )


def _shapes(signature: Signature) -> dict[str, Shape]:
    """Key to shape; entries that are no tensors get one that no tensor has."""
    return {k: t.shape if t.kind == "tensor" else (-1,) for k, t in signature.tensors.items()}


def matched(source: Mapping[str, Shape], target: Mapping[str, Shape]) -> list[Match]:
    """Which modules of the source fill which of the target.

    Args:
        source: key to shape.
        target: key to shape.

    Returns:
        The matches; none uses what another uses, but for copies.
    """
    mine, theirs = grouped(source), grouped(target)
    if not mine or not theirs:
        return []
    for side in (mine, theirs):
        note_gates(side)
        note_attention(side)
    all_mine = _with_virtual(mine, wanted_shapes(theirs))
    all_theirs = _with_virtual(theirs, wanted_shapes(mine))
    names = Names(mine, theirs)
    options = candidates(all_mine, all_theirs, Alignment(Containers(mine), Containers(theirs)))
    matcher = Matcher(options, names)
    matches = list(matcher.run())
    repeats = set(towers(theirs, matches))
    if repeats:
        for group in list(options):
            if repeats.intersection(members(group)):
                del options[group]
        matches = list(matcher.run())
    matches += leaf_matches(mine, theirs, matches, names, matcher.context)
    matches += size_joins(mine, theirs, matches)
    _turn_squares(matches)
    matches += copies(theirs, matches)
    return matches


def _with_virtual(groups: list[Group], wanted: Mapping[Any, int]) -> list[Group]:
    fused = fusions(groups, wanted)
    stacked = stacks([*groups, *fused], wanted)
    useful = [f for f in fused if f.shapes[0] in wanted or _reversed(f.shapes[0]) in wanted]
    return [*groups, *useful, *stacked]


def _reversed(shape: Shape | None) -> Any:
    return (*shape[:-2], *shape[-2:][::-1]) if shape else None


def _turn_squares(matches: Iterable[Match]) -> None:
    """A square matrix beside transposed ones is transposed too; beside both kinds its shape is silent."""
    beside: dict[object, set[bool]] = {}
    squares: list[tuple[object, Match]] = []
    for match in matches:
        c = match.candidate
        shape = c.target.shapes[0] or ()
        if len(shape) < 2 or len(shape) > 3 or isinstance(c.target, (Fused, Stacked)) or c.how == "reshape":
            continue
        place: object = outermost(c.target.template)
        if shape[-1] == shape[-2]:
            squares.append((place, match))
        else:
            beside.setdefault(place, set()).add(c.how == "transpose")
    for where, match in squares:
        kinds = beside.get(where, set())
        if kinds == {True}:
            match.turn = True
        elif True in kinds:
            match.silent = True
