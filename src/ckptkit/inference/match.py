"""Choose among the candidates: the clearest matches first, each teaching words and places for the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from .align import ranked
from .assign import assignment, components
from .candidates import Candidate, is_shadow
from .context import Context, Prefix
from .groups import Group, Index, leaf_pairs, written
from .lexicon import STAGES, TWINS, WRAPPERS
from .links import Links
from .similarity import Names
from .virtual import Atom, atoms, members, real_leaves
from .words import stage, subwords

if TYPE_CHECKING:
    from .contents import Contents

# (margin over every rival, least score): from the clearest to what is left.
ROUNDS = ((0.25, 0.55), (0.15, 0.45), (0.1, 0.35), (0.06, 0.3), (0.025, 0.2), (0.015, 0.6))
LAST = (*ROUNDS, (0.015, 0.2))
NEAR = (0.012, 0.03, 0.06, 0.1, 0.16)
LEAST = 0.15
TIE = 0.015
MOST_TIED = 24
FAR = 0.35
LEAST_TOWER = 4
MOST_TWINS = 8
NEARLY = 0.3
PLAIN = 75


@dataclass(slots=True)
class Match:
    """A decided candidate.

    Args:
        margin: how much better than the best rival.
        late: found among what whole groups had left open.
        ordered: whether numbers or stages decided between equals.
    """

    candidate: Candidate
    margin: float
    score: float
    ordered: bool = False
    alone: bool = False
    copy_of: Group | None = None
    turn: bool = False
    silent: bool = False
    support: float = 0.0
    telling: bool = False
    rival_copy: Group | None = None
    late: bool = False
    positional: bool = False
    halves: bool = False
    absorbing: bool = False

    def leaves(self, used: set[tuple[Group, Index, str]], filled: set[tuple[Group, Index, str]]) -> None:
        """Add the (group, index, leaf) that the match uses and fills; those of the real groups."""
        c = self.candidate
        pairs = c.pairs if c.pairs is not None else ranked(c.source, c.target)
        for theirs, mine in pairs.items():
            for leaf, origin in leaf_pairs(c.source.instances[mine], c.target.instances[theirs]):
                used.update(real_leaves(c.source, mine, origin))
                filled.update(real_leaves(c.target, theirs, leaf))


class Matcher:
    """Greedy matching in rounds.

    Args:
        options: target group to candidates.
        names: name similarity.
        context: of matches made before.
        contents: the data of both sides, where it may decide.
        late: whether these are what whole groups had left open.
        places: which single module went where so far, where that matters.
        links: norms and their convolutions.
    """

    def __init__(
        self,
        options: Mapping[Group, Iterable[Candidate]],
        names: Names,
        context: Context | None = None,
        contents: Contents | None = None,
        *,
        late: bool = False,
        places: Context | None = None,
        links: Links | None = None,
    ) -> None:
        self._places = places
        self._links = links
        self._contents = contents
        self._alive = [c for found in options.values() for c in found]
        self._names = names
        self.context = Context() if context is None else context
        self._late = late
        self.matches: list[Match] = []
        self._turned = self._straight = 0
        fitting = [c for c in self._alive if c.how == "same" and not c.virtual]
        self._fitting = {c.source for c in fitting} | {c.target for c in fitting}
        self._shadows = shadows(c.source for c in self._alive)
        self._first = _by_member(self._alive)

    def run(self, without: Iterable[Group] = ()) -> list[Match]:
        """Match what can be matched, beside what is matched already.

        Args:
            without: groups of the target that are left alone.
        """
        barred = set(without)
        for c in self._alive:
            c.dead = c.dead or not barred.isdisjoint(members(c.target))
        if not self._late:
            self._identical()
        rounds = LAST if self._late else ROUNDS
        for margin, least in rounds:
            self._settle(margin, least)
        while self._choose_twins() or self._alone():
            for margin, least in rounds:
                self._settle(margin, least)
        self._reconsider()
        return self.matches

    def _reconsider(self) -> None:
        """Compare each match with every rival there ever was, after all that the matches taught."""
        every = {id(c): c for found in self._first[1].values() for c in found}.values()
        for c in every:
            if c.score < 1.0 or c.source.template != c.target.template:
                self._score(c)
        rivals = _Rivals(every)
        for match in self.matches:
            c = match.candidate
            if c.source.template != c.target.template:
                match.margin = min(match.margin, c.score - rivals.best(c))
            for m in members(c.target):
                for o in self._first[1].get(m, ()):
                    # Less wanted for its place among copies alone: that is a choice, not knowledge.
                    if o.target is c.target and self._shaded(o.source) and o.name > c.name - 0.12:
                        match.rival_copy = match.rival_copy or o.source

    def _settle(self, margin: float, least: float) -> None:
        while self._round(margin, least) or (margin <= 0.06 and (self._ties() or self._assigned(margin, least))):
            pass

    def _identical(self) -> None:
        found = [
            Match(c, 1.0, 1.0)
            for c in self._alive
            if c.how == "same" and c.source.template == c.target.template
        ]
        self._accept(found)

    def _scored(self) -> list[Candidate]:
        """The candidates that are still possible, scored anew."""
        alive = self._alive = [c for c in self._alive if not c.dead]
        for c in alive:
            self._score(c)
        return alive

    def _score(self, c: Candidate) -> None:
        s, t = c.source, c.target
        c.name = (
            0.32 * self._names.path(s, t)
            + 0.32 * self._names.local(s, t)
            + 0.1 * self._names.literal(s, t)
            + 0.04 * self._names.numbered(s, t)
        )
        both = len(s.leaves & t.leaves)
        score = c.name + 0.26 * self._support(c)
        score += 0.06 * both / max(1, len(s.leaves | t.leaves))
        if c.how == "transpose" and self._turned <= self._straight and (s in self._fitting or t in self._fitting):
            # Something fits as it is.
            score -= 0.3 if self._straight > 2 and not self._turned else 0.12
        score -= 0.03 * c.virtual + 0.1 * (c.how == "reshape") + 0.2 * (1.0 - c.cover) + 0.1 * c.leaves
        if self._links is not None:
            score += 0.15 * self._links.worth(c)
        if c.pairs is not None:
            score -= 0.06 * (1.0 - len(c.pairs) / len(s.instances))
        if c.cover < 1.0 and len(s.instances) == len(t.instances):
            score -= 0.2  # as many blocks, but their shapes differ
        if self._shaded(s) and not is_shadow(t):
            score -= 0.2
        if self._contents is not None:
            alike = self._contents.agreement(c)
            # Equal beats nearly equal beats everything that is not the same tensor at all.
            score += 2.0 * alike**64 if alike > 0.5 else 0.0
        c.score = score

    def _shaded(self, source: Group) -> bool:
        return is_shadow(source) or source in self._shadows

    def _support(self, c: Candidate) -> float:
        around = self.context.support(c.source.template, c.target.template)
        if self._places is None:
            return around
        pairs = list(single_paths(c, 8))
        return (around + sum(self._places.support(s, t) for s, t in pairs) / len(pairs)) / 2

    def _round(self, margin: float, least: float) -> bool:
        alive = self._scored()
        rivals = _Rivals(alive)
        chosen = []
        for c in alive:
            if c.score < least:
                continue
            rival = rivals.best(c)
            if c.score - rival >= margin:
                chosen.append(Match(c, c.score - rival, c.score, alone=rival == 0.0))
        # What covers more first: of two that agree the smaller one is then done.
        chosen.sort(key=lambda m: (-len(m.candidate.target.instances), -m.score))
        return self._accept(chosen)

    def _choose_twins(self) -> bool:
        """Of two equal towers of which the target has one, take the first: ``A`` before ``B``, 0 before 1."""
        rows: dict[Group, list[Candidate]] = {}
        for c in self._scored():
            rows.setdefault(c.target, []).append(c)
        pairs: dict[tuple[int, str, str], list[Group]] = {}
        wanted = Counter[frozenset[Group]]()
        for found in rows.values():
            top = max(c.score for c in found)
            best = [c for c in found if c.score >= max(top - TIE, LEAST)]
            wanted[frozenset(c.source for c in best)] += 1
            sources = sorted({c.source for c in best}, key=lambda g: g.template)
            for n, one in enumerate(sources[:MOST_TWINS]):
                for other in sources[n + 1 : MOST_TWINS]:
                    place = _only_difference(one, other)
                    if place is not None:
                        pairs.setdefault((place, one.template[place], other.template[place]), []).append(other)
        every = {c.source.template: c.source for found in self._first[1].values() for c in found}
        losers: set[Group] = set()
        for (_, first, second), groups in pairs.items():
            if len(groups) >= LEAST_TOWER:
                for template, group in every.items():
                    twin = tuple(first if token == second else token for token in template)
                    if twin != template and twin in every and group not in self._shadows:
                        losers.add(group)
        several = {g for sources, n in wanted.items() if 2 * n > len(sources) for g in sources}
        self._shadows |= losers - several
        return bool(losers - several)

    def _alone(self) -> bool:
        """Pairs of which neither side fits anything else, with a telling shape, whatever their names."""
        alive = self._scored()
        rivals = _Rivals(alive)
        chosen = [
            Match(c, c.score, c.score, alone=True)
            for c in alive
            if c.cover == 1.0
            and c.source.leaves == c.target.leaves
            and (_telling(c.target) or (self._late and c.how == "same" and self._support(c) >= 0.5))
            and rivals.best(c) == 0.0
        ]
        return self._accept(chosen)

    def _accept(self, chosen: list[Match]) -> bool:
        any_new = False
        for match in chosen:
            c = match.candidate
            if c.dead:
                continue
            match.late = self._late
            c.dead = True
            for rival in self._around(c):
                if not rival.dead and c.touches(rival):
                    rival.shrink(c)
            self._remark(match)
            self.context.note(c.source.template, c.target.template)
            if self._places is not None:
                note_places(self._places, c)
            if self._links is not None:
                self._links.note(c)
            self._names.learn(c.source, c.target)
            self.matches.append(match)
            self._count_turns(c)
            any_new = True
        if any_new:
            self._names.settle()
        return any_new

    def _count_turns(self, c: Candidate) -> None:
        """Whether matrices are transposed is a habit of a whole library."""
        shape = c.target.shapes[0] or ()
        if len(shape) == 2 and shape[0] != shape[1] and c.how in ("same", "transpose"):
            if c.how == "transpose":
                self._turned += 1
            else:
                self._straight += 1

    def _around(self, c: Candidate) -> Iterable[Candidate]:
        """All candidates ever that touch the real groups of this one."""
        mine = {id(o): o for m in members(c.source) for o in self._first[0].get(m, ())}
        theirs = {id(o): o for m in members(c.target) for o in self._first[1].get(m, ())}
        return {**mine, **theirs}.values()

    def _remark(self, match: Match) -> None:
        """Note what later says how far the match can be trusted."""
        c = match.candidate
        plain = [o for o in self._around(c) if not o.virtual]
        match.alone = plain == [c]
        match.support = self.context.support(c.source.template, c.target.template)
        match.telling = _telling(c.target)
        for m in members(c.target):
            for o in self._first[1].get(m, ()):
                if o.target is c.target and o.source is not c.source and _twins(o.source, c.source, c.target):
                    match.rival_copy = o.source

    def _ties(self) -> bool:
        """Equals that only numbers or stages tell apart: the k-th of one side is the k-th of the other."""
        alive = self._scored()
        rows: dict[Group, list[Candidate]] = {}
        columns: dict[Group, float] = {}
        for c in alive:
            rows.setdefault(c.target, []).append(c)
            columns[c.source] = max(columns.get(c.source, 0.0), c.score)
        return any(self._tied(rows, columns, near) for near in NEAR) or self._alike(alive)

    def _alike(self, alive: list[Candidate]) -> bool:
        """Sets of groups that all fit one another, where some are better names but none for one partner."""
        chosen: list[Match] = []
        for block in components(alive, NEARLY):
            pairs = {(c.source, c.target): c for c in block}
            sources = list(dict.fromkeys(s for s, _ in pairs))
            targets = list(dict.fromkeys(t for _, t in pairs))
            if not 2 <= len(sources) == len(targets) or len(pairs) < len(sources) ** 2:
                continue
            scores = {pair: c.score for pair, c in pairs.items()}
            rows = [{s: pairs[s, t] for s in sources} for t in targets]
            if min(scores.values()) < LEAST or _leaning(scores, sources, targets) > TIE or not _exclusive(rows):
                continue
            chosen += self._in_order(sources, targets, pairs)
        return self._accept(chosen)

    @staticmethod
    def _in_order(
        sources: Iterable[Group], targets: Iterable[Group], pairs: Mapping[tuple[Group, Group], Candidate]
    ) -> list[Match]:
        mine = _order(sorted(sources, key=lambda g: g.template))
        theirs = _order(sorted(targets, key=lambda g: g.template))
        if mine is None or theirs is None:
            return []
        found = (pairs[s, t] for s, t in zip(mine, theirs, strict=True))
        return [Match(c, 0.0, c.score, ordered=True) for c in found]

    def _tied(self, rows: dict[Group, list[Candidate]], columns: dict[Group, float], near: float) -> bool:
        best: dict[Group, dict[Group, Candidate]] = {}
        classes: dict[frozenset[Group], list[Group]] = {}
        for target, found in rows.items():
            top = max(c.score for c in found)
            # Of its best sources only those that have nothing much better to fill.
            best[target] = {
                c.source: c
                for c in found
                if c.score >= top - near and c.score >= columns[c.source] - FAR
            }
            if best[target]:
                classes.setdefault(frozenset(best[target]), []).append(target)
        chosen: list[Match] = []
        for sources, targets in classes.items():
            if not 2 <= len(targets) == len(sources) <= MOST_TIED:
                continue
            if not _exclusive([best[t] for t in targets]):
                continue
            scores = {(s, t): best[t][s].score for t in targets for s in sources}
            least = min(scores.values()) - 0.06
            if least < LEAST or self._wanted_elsewhere(sources, targets, best, least):
                continue
            if _leaning(scores, list(sources), targets) > TIE:
                continue
            chosen += self._in_order(sources, targets, {(s, t): best[t][s] for t in targets for s in sources})
        return self._accept(chosen)

    def _wanted_elsewhere(
        self,
        sources: Iterable[Group],
        targets: list[Group],
        best: dict[Group, dict[Group, Candidate]],
        least: float,
    ) -> bool:
        """Whether something else wants what these sources are made of about as much."""
        real = {m for s in sources for m in members(s)}
        used: frozenset[Atom] | None = None
        for t, found in best.items():
            if t in targets:
                continue
            for s, c in found.items():
                if c.score > least and not real.isdisjoint(members(s)):
                    if used is None:
                        used = frozenset(a for g in sources for a in atoms(g, g.indices))
                    if not used.isdisjoint(c.links[0]):
                        return True
        return False

    def _assigned(self, margin: float, least: float) -> bool:
        """Pairs that no single comparison decides, but of which one pairing of all is the best by a margin."""
        alive = self._scored()
        chosen: list[Match] = []
        for block in components(alive, NEARLY):
            found = assignment(block)
            chosen += [
                Match(c, regret, c.score) for c, regret in found if regret >= 2 * margin and c.score >= least
            ]
        chosen.sort(key=lambda m: (-m.margin, -m.score))
        return self._accept(chosen)


class _Rivals:
    """The best candidate that competes with a given one.

    Args:
        alive: all candidates that are still possible, scored.
    """

    def __init__(self, alive: Iterable[Candidate]) -> None:
        self._by_source, self._by_target = _by_member(sorted(alive, key=lambda c: -c.score))

    def best(self, c: Candidate) -> float:
        """The score of the best rival; 0 without one."""
        best = 0.0
        for index, group in ((self._by_source, c.source), (self._by_target, c.target)):
            for m in members(group):
                for o in index[m]:
                    if o.score <= best:
                        break
                    if o is not c and c.competes(o):
                        best = o.score
                        break
        return best


def single_paths(c: Candidate, most: int | None = None) -> Iterable[tuple[Prefix, Prefix]]:
    """The paths of the single modules that a candidate pairs, of some of them if there are more than `most`."""
    pairs = list((c.pairs if c.pairs is not None else ranked(c.source, c.target)).items())
    step = max(1, len(pairs) // most) if most else 1
    for theirs, mine in pairs[::step]:
        yield _path(c.source, mine), _path(c.target, theirs)


def _path(group: Group, index: Index) -> Prefix:
    return written(group.template, index, range(len(index)))


def note_places(places: Context, c: Candidate) -> None:
    """Count for every single module of a match where it went."""
    for source, target in single_paths(c):
        places.note(source, target)


def _exclusive(rows: list[dict[Group, Candidate]]) -> bool:
    """Whether no two sources could fill one of the targets together, each a part of it."""
    return all(
        a.competes(b) for row in rows for n, a in enumerate(row.values()) for b in list(row.values())[n + 1 :]
    )


def _telling(group: Group) -> bool:
    """Whether a group's shapes are too many or too large to agree by chance."""
    first = group.shapes[0] or ()
    return len(first) >= 2 and prod(first) >= 64


def _leaning(scores: dict[tuple[Group, Group], float], sources: list[Group], targets: list[Group]) -> float:
    """How much the scores prefer one pairing of equals over another: the largest 2x2 interaction."""
    return max(
        abs(scores[a, x] + scores[b, y] - scores[a, y] - scores[b, x])
        for n, a in enumerate(sources)
        for b in sources[n + 1 :]
        for m, x in enumerate(targets)
        for y in targets[m + 1 :]
    )


def _only_difference(one: Group, other: Group) -> int | None:
    """Which token alone differs, where two groups have the same shapes; never an index."""
    if len(one.template) != len(other.template) or one.shapes != other.shapes:
        return None
    places = [n for n, (a, b) in enumerate(zip(one.template, other.template, strict=True)) if a != b]
    return places[0] if len(places) == 1 and "{}" not in one.template[places[0]] else None


def _twins(one: Group, other: Group, target: Group) -> bool:
    """Whether two groups differ in one token only, of which the target has neither."""
    if len(one.template) != len(other.template):
        return False
    differing = [n for n, (a, b) in enumerate(zip(one.template, other.template, strict=True)) if a != b]
    if len(differing) != 1 or any("{}" in t for t in one.template[: differing[0] + 1]):
        return False
    names = {one.template[differing[0]], other.template[differing[0]]}
    return differing[0] < len(one.template) - 1 and not names & set(target.template)


def shadows(groups: Iterable[Group]) -> set[Group]:
    """Groups in towers that are the second of an equal pair: encoder_k beside encoder_q, target beside online."""
    below: dict[Prefix, set[str]] = {}
    places: dict[Prefix, set[Group]] = {}
    for group in groups:
        for depth, token in enumerate(group.template[:-1]):
            if "{}" in token:
                break
            below.setdefault(group.template[:depth], set()).add(token)
            places.setdefault(group.template[: depth + 1], set()).add(group)
    found: set[Group] = set()
    for prefix, tokens in below.items():
        for token in tokens:
            words = subwords(token)
            for first, second in TWINS:
                if second not in words:
                    continue
                wanted = tuple(first if w == second else w for w in words)
                for other in tokens:
                    if subwords(other) == wanted:
                        found |= _equal_part(places[(*prefix, token)], places[(*prefix, other)], len(prefix) + 1)
    return found


def _equal_part(second: set[Group], first: set[Group], depth: int) -> set[Group]:
    """The groups of the second tower, if most of it is in the first one too."""
    known = {(_unwrapped(g.template[depth:]), g.shapes) for g in first}
    same = sum((_unwrapped(g.template[depth:]), g.shapes) in known for g in second)
    return second if same >= 0.8 * max(len(second), len(first)) else set()


def _unwrapped(template: Prefix) -> Prefix:
    return tuple(token for token in template if token not in WRAPPERS)


def _by_member(alive: list[Candidate]) -> tuple[dict[Group, list[Candidate]], dict[Group, list[Candidate]]]:
    by_source: dict[Group, list[Candidate]] = {}
    by_target: dict[Group, list[Candidate]] = {}
    for c in alive:
        for m in members(c.source):
            by_source.setdefault(m, []).append(c)
        for m in members(c.target):
            by_target.setdefault(m, []).append(c)
    return by_source, by_target


def _order(groups: list[Group]) -> list[Group] | None:
    """The groups in the order their numbers or, where these are missing, their stages give."""
    names = {tuple(found for _, found in g.tokens) for g in groups}
    numbers = [g.numbers for g in groups]
    if len(names) == 1 and len(set(numbers)) == len(groups):
        return sorted(groups, key=lambda g: g.numbers)
    shared = set.intersection(*({t for t, _ in g.tokens} for g in groups))
    places = [_stage(g, shared) for g in groups]
    if places.count(None) == 1 and all("norm" in g.tokens[-1][1] for g in groups if g.tokens):
        # Beside norms of named parts the one that is just a norm is the block's last but one.
        nameless = places.index(None)
        if set(groups[nameless].tokens[-1][1]) <= {"norm", "layer", "group", "batch", "rms"}:
            places[nameless] = PLAIN
    if None not in places and len(set(places)) == len(groups):
        return [g for _, g in sorted(zip(places, groups, strict=True), key=lambda x: x[0] or 0)]
    staged = [g for g, place in zip(groups, places, strict=True) if place is not None]
    counted = [g for g, place in zip(groups, places, strict=True) if place is None]
    if staged and len({tuple(found for _, found in g.tokens) for g in counted}) == 1:
        late = sorted(staged, key=lambda g: _stage(g, shared) or 0)
        apart = len({_stage(g, shared) for g in staged}) == len(staged)
        if apart and (_stage(late[0], shared) or 0) >= STAGES["gate"] and len({g.numbers for g in counted}) == len(counted):
            return [*sorted(counted, key=lambda g: g.numbers), *late]  # those that are counted stand before the MLP
    if all(numbers) and not any(b[: len(a)] == a for n, a in enumerate(numbers) for b in numbers[n + 1 :] + numbers[:n]):
        return sorted(groups, key=lambda g: g.numbers)
    return None


def _stage(group: Group, shared: set[str]) -> int | None:
    """The stage that the first telling token inside the block names, first of those that not all groups have."""
    last = max((n for n, t in enumerate(group.template) if "{}" in t), default=-1)
    inside = group.template[last + 1 :]
    for common in (False, True):
        for token, found in group.tokens:
            if token in inside and (common or token not in shared):
                # norm_out may be the outer one: of a norm these words say nothing.
                found = tuple(c for c in found if c != "out") if "norm" in found else found
                if (place := stage(found)) is not None:
                    return place
    return None
