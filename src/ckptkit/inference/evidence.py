"""What speaks for a candidate: names, surroundings, habits, and the data where there is any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .candidate import Candidate
from .context import Context, Prefix
from .groups import Group, written
from .links import Links
from .similarity import Names

if TYPE_CHECKING:
    from .contents import Contents

SAMPLE = 8

# What each kind of agreement is worth; a candidate with all of them scores about 1.
PATH, LOCAL, LITERAL, NUMBERED = 0.32, 0.32, 0.1, 0.04
SURROUNDINGS, LEAVES, LINKED, PARTED = 0.26, 0.06, 0.15, 0.3
# What a candidate loses that takes a rule, leaves something over, crosses blocks, or is not the copy people want.
RULE, RESHAPED, UNCOVERED, SPARE, OTHER_SHAPES, CROSSING, SHADED = 0.03, 0.1, 0.2, 0.06, 0.2, 0.1, 0.2
# What a transposed candidate loses where something fits as it is, and where nothing so far was transposed.
TURNED, NEVER_TURNED = 0.12, 0.3


class Work:
    """An end to the search where everything fits everything, as among thousands of unrelated keys.

    Args:
        groups: how many there are on both sides.
    """

    def __init__(self, groups: int) -> None:
        self.done = 0
        self._most = 100_000 + 20 * groups

    @property
    def over(self) -> bool:
        """Whether to leave open what is open."""
        return self.done > self._most


class Evidence:
    """Scores candidates, and learns from those that were chosen.

    Args:
        names: name similarity.
        context: of the templates matched so far.
        links: norms and their convolutions.
        contents: the data of both sides, where it may decide.
        places: which single module went where so far, where that matters.
        work: how much may still be scored; shared by all that share the names.
    """

    def __init__(
        self,
        names: Names,
        context: Context,
        links: Links | None = None,
        contents: Contents | None = None,
        places: Context | None = None,
        work: Work | None = None,
    ) -> None:
        self.names, self.context = names, context
        self._links, self._contents, self._places = links, contents, places
        self.work = work or Work(names.groups)
        self._turned = self._straight = 0
        self._fitting: set[Group] = set()
        self.shaded: set[Group] = set()

    def beside(self, places: Context) -> Evidence:
        """The same evidence, and where single modules went."""
        return Evidence(self.names, self.context, self._links, None, places, self.work)

    def alone(self) -> Evidence:
        """Names and templates only."""
        return Evidence(self.names, self.context, work=self.work)

    def consider(self, candidates: Iterable[Candidate]) -> None:
        """Note which groups fit something without any rule."""
        for c in candidates:
            if c.how == "same" and not c.virtual:
                self._fitting.update((c.source, c.target))

    def score(self, c: Candidate) -> None:
        """Give a candidate its score and the part of it that comes from names."""
        self.work.done += 1
        s, t = c.source, c.target
        names = self.names
        if c.fixed is None:
            c.fixed = LITERAL * names.literal(s, t) + NUMBERED * names.numbered(s, t)
            c.leafy = LEAVES * len(s.leaves & t.leaves) / max(1, len(s.leaves | t.leaves))
        path, local = names.both(s, t)
        c.name = PATH * path + LOCAL * local + c.fixed
        score = c.name + SURROUNDINGS * self.support(c) + c.leafy
        if self._links is not None:
            worth = self._links.worth(c)
            score += worth * (LINKED if worth > 0 else PARTED)
        if self._contents is not None:
            alike = self._contents.agreement(c)
            # Equal beats nearly equal beats everything that is not the same tensor at all.
            score += 2.0 * alike**64 if alike > 0.5 else 0.0
        c.score = score - self._costs(c)

    def _costs(self, c: Candidate) -> float:
        costs = RULE * c.virtual + UNCOVERED * (1.0 - c.cover)
        if c.how == "reshape":
            costs += RESHAPED
        if c.leaves:
            costs += CROSSING
        if c.pairs is not None:
            costs += SPARE * (1.0 - len(c.pairs) / len(c.source.instances))
        if c.cover < 1.0 and len(c.source.instances) == len(c.target.instances):
            costs += OTHER_SHAPES  # as many blocks, but their shapes differ
        if not c.target.shadow and self.is_shaded(c.source):
            costs += SHADED
        fitting = c.source in self._fitting or c.target in self._fitting
        if c.how == "transpose" and fitting and self._turned <= self._straight:
            costs += NEVER_TURNED if self._straight > 2 and not self._turned else TURNED
        return costs

    def is_shaded(self, source: Group) -> bool:
        """Whether a group is in a copy of the weights that people rarely mean."""
        return source in self.shaded or source.shadow

    def support(self, c: Candidate) -> float:
        """How well a candidate agrees with the matches around it, in [0, 1]."""
        around = self.context.support(c.source.template, c.target.template)
        if self._places is None:
            return around
        if c.paths is None:
            c.paths = list(single_paths(c, SAMPLE))
        return (around + sum(self._places.support(s, t) for s, t in c.paths) / len(c.paths)) / 2

    def note(self, c: Candidate) -> None:
        """Learn from a match."""
        self.context.note(c.source.template, c.target.template)
        if self._places is not None:
            note_places(self._places, c)
        if self._links is not None:
            self._links.note(c)
        self.names.learn(c.source, c.target)
        shape = c.target.shapes[0] or ()
        if len(shape) == 2 and shape[0] != shape[1]:
            self._turned += c.how == "transpose"
            self._straight += c.how == "same"


def single_paths(c: Candidate, most: int | None = None) -> Iterable[tuple[Prefix, Prefix]]:
    """The paths of the single modules that a candidate pairs, of some of them if there are more than `most`."""
    pairs = list(c.instance_pairs.items())
    step = max(1, len(pairs) // most) if most else 1
    for theirs, mine in pairs[::step]:
        yield (
            written(c.source.template, mine, range(len(mine))),
            written(c.target.template, theirs, range(len(theirs))),
        )


def note_places(places: Context, c: Candidate) -> None:
    """Count for every single module of a match where it went."""
    for source, target in single_paths(c):
        places.note(source, target)
