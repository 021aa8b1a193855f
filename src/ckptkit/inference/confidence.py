"""How far an answer can be trusted, and what to verify where names and shapes do not decide."""

from __future__ import annotations

from .doubts import doubt
from .groups import INDEX, Group
from .lexicon import FAINT, MERGING
from .match import Match
from .related import akin
from .result import Confidence
from .spelling import spelled
from .virtual import Fused, Stacked
from .words import concepts, shown

ORDERED_LIKELY = 0.35
COMPARE = "compare the outputs of both models on one input"


Verdict = tuple[Confidence, str]


def judged(match: Match) -> Verdict:
    """Confidence of a match and why, in one line.

    Only what needs no reordering can be certain: a plain move to the same name, or between modules
    of which no other has such a name or such a shape.
    """
    confidence, why = _copied(match) or _made(match) or _chosen(match) or _kept(match) or _moved(match)
    unsure = doubt(match) if confidence == "certain" else None
    return ("likely", unsure) if unsure else (confidence, why)


def _copied(match: Match) -> Verdict | None:
    """What stands in another place too."""
    if match.copy_of is not None:
        return "likely", (
            f"a copy of what {_label(match.copy_of)} takes, which has its shape; verify that the two share their values"
        )
    if match.candidate.spread:
        return "guess", (
            "the target has fewer equal blocks than the source, and nothing says which to take: these are spread "
            "evenly from the first to the last; check which blocks the target was made of"
        )
    return None


def _made(match: Match) -> Verdict | None:
    """What a tensor rule makes."""
    c = match.candidate
    source, target = c.source, c.target
    unsure = _unspelled(source, target) or _unspelled(target, source)
    if unsure:
        return "guess", f"no name says in which order {unsure} lie: {COMPARE}"
    fused = source.inner if isinstance(source, Stacked) else source
    if isinstance(fused, Fused):
        names = ", ".join(p.template[-1] for p in fused.real_parts)
        return _least(match), (
            f"the sizes of {names} add up; verify their order and that heads are not interleaved"
        )
    if isinstance(target, (Fused, Stacked)):
        return _least(match), (
            f"cut from {_label(source)}, whose size is the sum of the parts; verify their order and that heads "
            f"are not interleaved: {COMPARE}"
        )
    if match.turn:
        return "likely", (
            f"square, so its shape is silent; transposed because the other matrices of the block are: {COMPARE}"
        )
    if c.how == "transpose":
        return "likely", "the shape is the source's transposed"
    if c.how == "reshape":
        return "likely", "as many elements in another shape; verify the order of the flattened dimensions"
    if isinstance(source, Stacked):
        return "likely", f"the blocks of {_label(source.inner)} stacked in the order of their numbers"
    return None


def _chosen(match: Match) -> Verdict | None:
    """What was chosen among equals, or because nothing else was left."""
    source, target = match.candidate.source, match.candidate.target
    if match.late:
        return _least(match), (
            f"{_label(source)} and {_label(target)} are what was left on both sides, and fit by name, shape and place"
        )
    if match.ordered:
        return "likely" if match.score >= ORDERED_LIKELY else "guess", (
            "several modules have this shape; numbers, or the stages that the names stand for, pair them in order"
        )
    if match.rival_copy is not None:
        return "likely", (
            f"{_label(match.rival_copy)} has the same names and shapes; verify which of the two copies is wanted"
        )
    if match.positional:
        return _least(match), (
            f"the number in {_label(target)} tells it from others of its shape, and the modules around are not the same "
            f"on both sides, so the count may differ: {COMPARE}"
        )
    return None


def _kept(match: Match) -> Verdict | None:
    """What may be used in another way, and what keeps its name."""
    source, target = match.candidate.source, match.candidate.target
    if match.absorbing:
        return "likely", (
            "the position embeddings of the two sides differ in length, so one side may have added the position of this "
            f"token to it: {COMPARE}"
        )
    if match.silent:
        return "likely", f"square beside transposed matrices, so its shape is silent: {COMPARE}"
    if _bare(source) != _bare(target) or _kernel(source) != _kernel(target):
        return "likely", (
            "a parameter of its own on one side, a module's on the other, which may use it transposed: "
            f"{COMPARE}"
        )
    if source.template != target.template:
        return None
    if match.candidate.how == "partial":
        return "likely", "same name and shape; the other side has more or fewer of these blocks"
    return "certain", "same name, same shape"


def _unspelled(made: Group, whole: Group) -> str:
    fused = made.inner if isinstance(made, Stacked) else made
    if isinstance(fused, Fused) and fused.order and spelled(fused.order, whole) is None:
        return " and ".join(p.template[-1] for p in fused.real_parts)
    return ""


def _moved(match: Match) -> Verdict:
    """What has another name."""
    c = match.candidate
    source, target = c.source, c.target
    where = f"{_label(source)} and {_label(target)}"
    ends = source.tokens[-1:], target.tokens[-1:]
    same_end = bool(ends[0]) and ends[0] == ends[1]
    if c.how == "partial":
        return "likely", "blocks aligned by what they hold; numbers differ"
    if match.halves and source.template[-1] != target.template[-1]:
        return _least(match), (
            f"{where} hold two projections in one; which half is which, and whether their rows alternate, is not visible: "
            + COMPARE
        )
    if _merges(source) and source.template != target.template:
        return _least(match), (
            f"{where} join neighbouring positions; the order in which these lie in a row is not visible: {COMPARE}"
        )
    if (_mixes(source) or _mixes(target)) and _inside(source) != _inside(target):
        return _least(match), (
            f"{where} mean the same projection; the order of rows inside it (heads, rotary halves) is not visible: "
            + COMPARE
        )
    if not _counted_alike(source, target):
        return _least(match), (
            f"{where} have equal blocks under other names, paired in the order of their numbers; verify that both sides "
            "count in the same direction"
        )
    if (
        same_end
        and source.numbers == target.numbers
        and match.margin >= 0.12
        and match.support >= 0.5
        and not c.leaves
    ):
        return "certain", "same module name, same shape, and its surroundings move along"
    if (
        match.alone
        and c.name >= 0.3
        and match.score >= 0.45
        and match.telling
        and not c.leaves
        and _kin(source, target)
    ):
        return "certain", "no other module of either side has this shape, and the names agree"
    if match.alone:
        return _least(match), "no other module of either side has this shape; the names say little"
    if match.margin < 0:
        return _least(
            match
        ), f"{where} fit best by name, shape and place once other matches were made; compare them"
    return _least(match), f"{where} are the best match by name, shape and place (margin {match.margin:.2f})"


def _least(match: Match) -> Confidence:
    return "likely" if match.score >= 0.3 else "guess"


def _inside(group: Group) -> tuple[str, ...]:
    """The path inside the innermost block; without one the last two tokens."""
    last = max((n for n, t in enumerate(group.template) if "{}" in t), default=len(group.template) - 3)
    return group.template[last + 1 :]


def _mixes(group: Group) -> bool:
    return any(p in ("q", "k") for _, found in group.tokens[-2:] for p in found)


def _bare(group: Group) -> bool:
    """Whether a square matrix is a parameter of its own, not a module's weight."""
    shape = group.shapes[0] or ()
    if len(shape) != 2 or shape[0] != shape[1]:
        return False
    key = next(iter(group.instances[group.indices[0]].values()))[0]
    return isinstance(key, str) and not key.endswith((".weight", "_weight"))


def _kernel(group: Group) -> bool:
    """Whether a matrix goes by the name of libraries that put inputs before outputs."""
    key = next(iter(group.instances[group.indices[0]].values()))[0]
    return isinstance(key, str) and key.endswith("kernel")


def _kin(source: Group, target: Group) -> bool:
    """Whether what stands above the two modules does not speak of different things."""
    above = [
        [c for _, found in group.tokens[:-1] for c in found if c not in FAINT][-2:]
        for group in (source, target)
    ]
    return not above[0] or not above[1] or any(akin(a, b) for a in above[0] for b in above[1])


def _counted_alike(source: Group, target: Group) -> bool:
    """Whether equal blocks go by one name on both sides, or no two blocks are equal."""
    if target.unequal:
        return True
    mine, theirs = _owners(source), _owners(target)
    return any(akin(a, b) for a in mine for b in theirs)


def _owners(group: Group) -> set[str]:
    """The concepts of what the indices count."""
    found: set[str] = set()
    for n, token in enumerate(group.template):
        if "{}" in token:
            named = token if token != INDEX else group.template[n - 1] if n else ""
            found.update(concepts(named.replace("{}", "")))
    return found


def _merges(group: Group) -> bool:
    """Whether a module works on rows that were put together from several positions, as patch merging does."""
    shape = group.shapes[0] or ()
    return len(shape) <= 2 and any(c in MERGING for _, found in group.tokens for c in found)


def _label(group: Group) -> str:
    return shown(".".join(group.template)) or "the top level"
