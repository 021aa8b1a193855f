"""Output heads without a source of their own, which share the embedding."""

from __future__ import annotations

from .candidate import Candidate
from .groups import Group
from .match import Match

_OTHER_TABLES = {"type", "pos", "segment", "patch", "relative", "time"}


def heads(theirs: list[Group], matches: list[Match]) -> list[Match]:
    """Output heads without a source of their own, which share the embedding."""
    by_target = {g: m for m in matches for g in (m.candidate.target, *m.candidate.target.members)}
    embeddings: dict[object, list[Group]] = {}
    for target, match in {m.candidate.target: m for m in matches}.items():
        of_words = _has(target, {"embed", "token", "head"}) and not _has(target, _OTHER_TABLES)
        if not match.candidate.virtual and of_words:
            embeddings.setdefault(target.shapes, []).append(target)
    found: list[Match] = []
    for group in theirs:
        twin = None if group in by_target else _embedding(group, embeddings)
        if twin is not None:
            c = by_target[twin].candidate
            pairs = dict(zip(group.indices, c.instance_pairs.values(), strict=True))
            copy = Candidate(c.source, group, c.how, pairs)
            found.append(Match(copy, 0.0, 0.0, copy_of=twin))
    return found


def _embedding(group: Group, embeddings: dict[object, list[Group]]) -> Group | None:
    """The token embedding whose shape an output head without a source has."""
    shape = group.shapes[0] or ()
    if len(group.instances) != 1 or len(shape) != 2 or shape[0] == shape[1]:
        return None
    if not _has(group, {"head", "out", "decoder", "embed", "lm"}):
        return None
    same = embeddings.get(group.shapes, [])
    return same[0] if len(same) == 1 else None


def _has(group: Group, wanted: set[str]) -> bool:
    return any(c in wanted for _, found in group.tokens for c in found)
