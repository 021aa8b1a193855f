"""Choose among the candidates: the clearest matches first, each teaching words and places for the next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from .assign import assignment, components
from .candidate import Candidate
from .evidence import Evidence
from .groups import Group
from .match import Match, telling
from .ordering import in_order
from .rivals import Rivals, by_member
from .twins import copies_of_one, second_towers, shadows
from .virtual import Atom, atoms

# (margin over every rival, least score): from the clearest to what is left.
ROUNDS = ((0.25, 0.55), (0.15, 0.45), (0.1, 0.35), (0.06, 0.3), (0.025, 0.2), (0.015, 0.6))
LAST = (*ROUNDS, (0.015, 0.2))
ORDERED_FROM = 0.06  # the margin below which order and whole pairings are asked
LEAST = 0.15
CLEAR = 0.6
# How far below the best partner of a target, or of a source, a candidate may score and still be its equal.
NEAR = (0.012, 0.03, 0.06, 0.1, 0.16)
FAR = 0.35
NEARLY = 0.3
MOST_TIED = 24
ALIKE_NAMES = 0.12

Rows = dict[Group, list[Candidate]]


class Matcher:
    """Greedy matching in rounds.

    Args:
        options: target group to candidates.
        evidence: scores them, and learns from the matches.
        late: whether these are what whole groups had left open.
    """

    def __init__(
        self, options: Mapping[Group, Iterable[Candidate]], evidence: Evidence, *, late: bool = False
    ) -> None:
        self._alive = [c for found in options.values() for c in found]
        self._every = list(self._alive)
        self._of_source, self._of_target = by_member(self._every)
        self._evidence = evidence
        self._late = late
        self._stale = True
        self.matches: list[Match] = []
        evidence.consider(self._every)
        evidence.shaded |= shadows(c.source for c in self._every)

    def run(self) -> list[Match]:
        """Match what can be matched."""
        if not self._late:
            self._identical()
        rounds = LAST if self._late else ROUNDS
        again = True
        while again:
            for margin, least in rounds:
                while self._step(margin, least):
                    pass
            again = not self._evidence.work.over and (self._choose_towers() or self._alone())
        if self._evidence.work.over:
            # Where everything fits everything, the best of many is none yet.
            self.matches = [m for m in self.matches if m.score >= CLEAR]
        self._reconsider()
        return self.matches

    def _step(self, margin: float, least: float) -> bool:
        if self._evidence.work.over:
            return False
        if self._round(margin, least):
            return True
        return margin <= ORDERED_FROM and (self._ties() or self._alike() or self._assigned(margin, least))

    def _scored(self) -> list[Candidate]:
        """The candidates that are still possible, scored anew if anything was matched since."""
        if self._stale:
            self._alive = [c for c in self._alive if not c.dead]
            for c in self._alive:
                self._evidence.score(c)
            self._stale = False
        return self._alive

    def _identical(self) -> None:
        same = [c for c in self._alive if c.source.template == c.target.template and c.keeps]
        for c in same:
            c.score = 1.0
        self._accept(Match(c, 1.0, 1.0) for c in same)

    def _round(self, margin: float, least: float) -> bool:
        """What beats every rival by a margin."""
        alive = self._scored()
        rivals = Rivals(alive)
        chosen = []
        for c in alive:
            lead = rivals.lead(c, margin) if c.score >= least else None
            if lead is not None:
                chosen.append(Match(c, lead, c.score))
        # What covers more first: of two that agree the smaller one is then done.
        chosen.sort(key=lambda m: (-len(m.candidate.target.instances), -m.score))
        return self._accept(chosen)

    def _alone(self) -> bool:
        """Pairs of which neither side fits anything else, with a telling shape or place, whatever their names."""
        alive = self._scored()
        rivals = Rivals(alive)
        return self._accept(
            Match(c, c.score, c.score)
            for c in alive
            if c.cover == 1.0
            and c.source.leaves == c.target.leaves
            and (telling(c.target) or (self._late and c.how == "same" and self._evidence.support(c) >= 0.5))
            and rivals.lead(c, c.score) is not None
        )

    def _choose_towers(self) -> bool:
        """Of equal towers of the source of which the target has one, go on with the first."""
        later = second_towers(_rows(self._scored()), {c.source for c in self._every}) - self._evidence.shaded
        self._evidence.shaded |= later
        self._stale = True
        return bool(later)

    def _ties(self) -> bool:
        """Equals that only numbers or stages tell apart: the k-th of one side is the k-th of the other."""
        alive = self._scored()
        rows = _rows(alive)
        tops: dict[Group, float] = {}
        for c in alive:
            tops[c.source] = max(tops.get(c.source, 0.0), c.score)
        return any(self._tied(rows, tops, near) for near in NEAR)

    def _tied(self, rows: Rows, tops: Mapping[Group, float], near: float) -> bool:
        best: dict[Group, dict[Group, Candidate]] = {}
        classes: dict[frozenset[Group], list[Group]] = {}
        for target, found in rows.items():
            top = max(c.score for c in found)
            # Of its best sources only those that have nothing much better to fill.
            best[target] = {c.source: c for c in found if c.score >= max(top - near, tops[c.source] - FAR)}
            if best[target]:
                classes.setdefault(frozenset(best[target]), []).append(target)
        chosen: list[Candidate] = []
        for sources, targets in classes.items():
            if 2 <= len(targets) == len(sources) <= MOST_TIED:
                pairs = {(s, t): best[t][s] for t in targets for s in sources}
                least = min(c.score for c in pairs.values()) - 0.06
                if least >= LEAST and not _wanted_elsewhere(sources, targets, best, least):
                    chosen += in_order(sources, targets, pairs)
        return self._accept(Match(c, 0.0, c.score, ordered=True) for c in chosen)

    def _alike(self) -> bool:
        """Sets of groups that all fit one another, where some are better names but none for one partner."""
        chosen: list[Candidate] = []
        for block in components(self._scored(), NEARLY):
            pairs = {(c.source, c.target): c for c in block}
            sources, targets = {s for s, _ in pairs}, {t for _, t in pairs}
            if 2 <= len(sources) == len(targets) and len(pairs) == len(sources) ** 2:
                if min(c.score for c in block) >= LEAST:
                    chosen += in_order(sources, targets, pairs)
        return self._accept(Match(c, 0.0, c.score, ordered=True) for c in chosen)

    def _assigned(self, margin: float, least: float) -> bool:
        """Pairs that no single comparison decides, but of which one pairing of all is the best by a margin."""
        found = [pair for block in components(self._scored(), NEARLY) for pair in assignment(block)]
        chosen = [
            Match(c, regret, c.score) for c, regret in found if regret >= 2 * margin and c.score >= least
        ]
        chosen.sort(key=lambda m: (-m.margin, -m.score))
        return self._accept(chosen)

    def _accept(self, chosen: Iterable[Match]) -> bool:
        any_new = False
        for match in chosen:
            c = match.candidate
            if not c.dead:
                any_new = True
                c.dead = True
                for rival in self._around(c):
                    if not rival.dead and c.touches(rival):
                        rival.shrink(c)
                self._remark(match)
                self._evidence.note(c)
                self.matches.append(match)
        if any_new:
            self._stale = True
            self._evidence.names.settle()
        return any_new

    def _around(self, c: Candidate) -> Iterable[Candidate]:
        """All candidates ever that touch the real groups of this one."""
        mine = {id(o): o for m in c.source.members for o in self._of_source.get(m, ())}
        theirs = {id(o): o for m in c.target.members for o in self._of_target.get(m, ())}
        return {**mine, **theirs}.values()

    def _remark(self, match: Match) -> None:
        """Note what later says how far the match can be trusted."""
        c = match.candidate
        match.late = self._late
        match.alone = [o for o in self._around(c) if not o.virtual] == [c]
        match.support = self._evidence.context.support(c.source.template, c.target.template)
        match.telling = telling(c.target)
        match.rival_copy = self._first_rival(c, lambda o: copies_of_one(o.source, c.source, c.target))

    def _reconsider(self) -> None:
        """Compare each match with every rival there ever was, after all that the matches taught."""
        moved = [m for m in self.matches if m.candidate.source.template != m.candidate.target.template]
        same = {id(m.candidate) for m in self.matches} - {id(m.candidate) for m in moved}
        for c in self._every:
            if id(c) not in same:
                self._evidence.score(c)
        rivals = Rivals(self._every)
        for match in moved:
            match.margin = min(match.margin, match.candidate.score - rivals.best(match.candidate))
        for match in self.matches:
            c = match.candidate
            later = self._evidence.context.others(c.source.template, c.target.template)
            match.support = max(match.support, later)
            match.carried = self._evidence.context.carried(c.source.template, c.target.template)
            if match.rival_copy is None:
                match.rival_copy = self._first_rival(match.candidate, self._shaded_beside(match.candidate))

    def _shaded_beside(self, c: Candidate) -> Callable[[Candidate], bool]:
        """Less wanted than c for its place among copies alone: to pass it over is a choice, not knowledge."""
        least = c.name - ALIKE_NAMES
        return lambda o: self._evidence.is_shaded(o.source) and o.name > least

    def _first_rival(self, c: Candidate, wanted: Callable[[Candidate], bool]) -> Group | None:
        """The source of another candidate for the same target."""
        for m in c.target.members:
            for o in self._of_target.get(m, ()):
                if o.target is c.target and o.source is not c.source and wanted(o):
                    return o.source
        return None


def _rows(candidates: Iterable[Candidate]) -> Rows:
    rows: Rows = {}
    for c in candidates:
        rows.setdefault(c.target, []).append(c)
    return rows


def _wanted_elsewhere(
    sources: Collection[Group],
    targets: Collection[Group],
    best: Mapping[Group, Mapping[Group, Candidate]],
    least: float,
) -> bool:
    """Whether something else wants what these sources are made of about as much."""
    real = {m for s in sources for m in s.members}
    used: frozenset[Atom] | None = None
    for t, found in best.items():
        if t in targets:
            continue
        for s, c in found.items():
            if c.score > least and not real.isdisjoint(s.members):
                if used is None:
                    used = frozenset(a for g in sources for a in atoms(g, g.indices))
                if not used.isdisjoint(c.links[0]):
                    return True
    return False
