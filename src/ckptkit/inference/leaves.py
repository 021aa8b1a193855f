"""Single leaves that whole modules leave open: a bias that lies beside its module, parts of one."""

from __future__ import annotations

from collections.abc import Iterable

from .align import Alignment, Containers
from .blocks import Blocks
from .candidates import candidates
from .evidence import Evidence
from .fusing import fusions, spelled_orders, wanted_shapes
from .groups import Group
from .lexicon import KINDS
from .match import Leaves, Match, used_leaves
from .matcher import Matcher
from .related import akin
from .virtual import Fused, Part

LEAST_SCORE = 0.4


def leaf_matches(
    mine: list[Group], theirs: list[Group], matches: list[Match], evidence: Evidence
) -> list[Match]:
    """Match single leaves that whole modules left over."""
    if evidence.work.over:
        return []
    used, filled = used_leaves(matches)
    together = {
        (s, t) for m in matches for s in m.candidate.source.members for t in m.candidate.target.members
    }
    places = {(s.template, t.template) for s, t in together}
    sources: list[Group] = list(_loose(mine, used))
    targets: list[Group] = list(_loose(theirs, filled))
    if not sources or not targets:
        return []
    for side, other, gaps in ((sources, targets, False), (targets, sources, True)):
        side += fusions(list(side), wanted_shapes(other), spelled_orders(other), gaps=gaps)
    alignment = Alignment(Containers(sources), Containers(targets))
    options = candidates(sources, targets, alignment, Blocks((), ()))
    for target, found in options.items():
        options[target] = [
            c
            for c in found
            if c.how != "reshape"
            and _leaf_of(c.source) == _leaf_of(target)
            and (
                (_origin(c.source), _origin(target)) in together
                or isinstance(c.source, Fused)
                or isinstance(target, Fused)
                or (_origin(c.source).template, _origin(target).template[:-1]) in places
                or (_origin(c.source).template[:-1], _origin(target).template) in places
                or _named_alike(_origin(c.source), _origin(target))
            )
        ]
    return [m for m in Matcher(options, evidence.alone()).run() if m.score >= LEAST_SCORE]


def _named_alike(source: Group, target: Group) -> bool:
    """Whether the last words of two modules share a meaning."""
    if source.template == target.template:
        return True
    mine, theirs = (
        [c for _, found in g.tokens[-1:] for c in found if c not in KINDS] for g in (source, target)
    )
    return any(akin(a, b) for a in mine for b in theirs)


def _leaf_of(group: Group) -> str | None:
    if isinstance(group, Fused):
        return _leaf_of(group.real_parts[0])
    return group.leaf_name if isinstance(group, Part) else None


def _origin(group: Group) -> Group:
    return group.origin if isinstance(group, Part) else group


def _loose(groups: Iterable[Group], taken: Leaves) -> Iterable[Part]:
    for group in groups:
        for leaf in sorted(group.leaves):
            free = {
                i: {"weight": leaves[leaf]}
                for i, leaves in group.instances.items()
                if leaf in leaves and (group, i, leaf) not in taken
            }
            if free:
                loose = Part((*group.template, leaf), free)
                loose.origin, loose.leaf_name, loose.places = group, leaf, {i: i for i in free}
                yield loose
