"""Moves as rename and renumber rules: block numbers that change, blocks that part or merge."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..regexes import required_literal
from ..rewriting import rewrite
from .groups import written
from .renames import numbered, regex, rewrites
from .steps import Move
from .words import as_regex, hidden

Tokens = tuple[str, ...]
RuleData = dict[str, Any]


def move_rules(moves: list[Move], level: int) -> list[RuleData]:
    """A rename, and a renumber for every block whose numbers change.

    Args:
        moves: the keys that are only renamed.
        level: 0 general patterns; 1 maps in the place of offsets; 2 every block number written out.
    """
    if level >= 2:
        moves = [_literal(m, range(len(m.mine)), range(len(m.theirs))) for m in moves]
        maps: dict[Tokens, dict[int, int]] = {}
    else:
        moves = _parted(_even(moves))
        moves, maps = _numbers(moves)
    templates = dict.fromkeys((m.source, m.target) for m in moves)
    pairs = rewrites(_unambiguous(templates, moves))
    rules: list[RuleData] = []
    if len(pairs) == 1:
        rules.append({"op": "rename", "pattern": pairs[0][0], "replacement": pairs[0][1]})
    elif pairs:
        rules.append({"op": "rename", "pairs": [list(p) for p in pairs]})
    for prefix, numbers in sorted(maps.items()):
        changed = {a: b for a, b in sorted(numbers.items()) if a != b}
        if not changed:
            continue
        pattern = _index_pattern(prefix)
        offsets = {b - a for a, b in numbers.items()}
        if len(offsets) == 1 and level == 0:
            rules.append({"op": "renumber", "pattern": pattern, "offset": offsets.pop()})
        else:
            rules.append({"op": "renumber", "pattern": pattern, "map": changed})
    return rules


def renamed(keys: Iterable[str], rules: Iterable[RuleData]) -> dict[str, str]:
    """What these rename and renumber rules make of keys, which are unlike each other."""
    names = {key: key for key in keys}
    for rule in rules:
        if rule["op"] == "rename":
            pairs = rule.get("pairs") or [(rule["pattern"], rule["replacement"])]
            moved, _ = rewrite(dict.fromkeys(names.values()), pairs)
            names = {key: moved.get(name, name) for key, name in names.items()}
        else:
            literal, search = required_literal(rule["pattern"]), re.compile(rule["pattern"]).search
            for key, name in names.items():
                match = search(name) if literal in name else None
                if match is not None:
                    old = int(match["index"])
                    number = rule["map"].get(old, old) if "map" in rule else old + rule["offset"]
                    start, end = match.span("index")
                    names[key] = f"{name[:start]}{number}{name[end:]}"
    return names


def _literal(move: Move, mine: Iterable[int], theirs: Iterable[int]) -> Move:
    """A move with some of its indices written out."""
    return replace(
        move,
        source=written(move.source, move.mine, set(mine)),
        target=written(move.target, move.theirs, set(theirs)),
        mine=tuple(v for n, v in enumerate(move.mine) if n not in set(mine)),
        theirs=tuple(v for n, v in enumerate(move.theirs) if n not in set(theirs)),
    )


def _by_line(moves: list[Move]) -> dict[tuple[Tokens, Tokens], list[Move]]:
    found: dict[tuple[Tokens, Tokens], list[Move]] = defaultdict(list)
    for move in moves:
        found[move.source, move.target].append(move)
    return found


def _even(moves: list[Move]) -> list[Move]:
    """Write out what has no counterpart on the other side: an index that never runs, or all of them."""
    result: list[Move] = []
    for line in _by_line(moves).values():
        if len(line[0].mine) == len(line[0].theirs):
            result.extend(line)
            continue
        still = [n for n in range(len(line[0].mine)) if len({m.mine[n] for m in line}) == 1]
        stays = [n for n in range(len(line[0].theirs)) if len({m.theirs[n] for m in line}) == 1]
        more = len(line[0].mine) - len(line[0].theirs)
        if 0 < more <= len(still):
            # Of several that never run, those are written out that leave the rest equal.
            drop = [n for n in still if line[0].mine[n] not in line[0].theirs][:more]
            drop += [n for n in still if n not in drop][: more - len(drop)]
            result.extend(_literal(m, drop, ()) for m in line)
        elif 0 < -more <= len(stays):
            drop = [n for n in stays if line[0].theirs[n] not in line[0].mine][:-more]
            drop += [n for n in stays if n not in drop][: -more - len(drop)]
            result.extend(_literal(m, (), drop) for m in line)
        else:
            result.extend(_literal(m, range(len(m.mine)), range(len(m.theirs))) for m in line)
    return result


def _parted(moves: list[Move]) -> list[Move]:
    """Where the instances of one block go to several places, name the numbers that go to each."""
    homes: dict[Tokens, set[Tokens]] = defaultdict(set)
    for move in moves:
        homes[move.source].add(move.target)
    if all(len(found) == 1 for found in homes.values()):
        return moves
    torn = {_outer(s) for s, found in homes.items() if len(found) > 1 and _outer(s)}
    parts: dict[Tokens, dict[Tokens, set[int]]] = defaultdict(lambda: defaultdict(set))
    for move in moves:
        if _outer(move.source) in torn and move.mine:
            parts[_outer(move.source)][_outer(move.target) or move.target].add(move.mine[0])
    result = []
    for move in moves:
        outer = _outer(move.source)
        if outer not in torn:
            result.append(move)
            continue
        sets = parts[outer]
        mine = sets[_outer(move.target) or move.target]
        disjoint = all(mine is other or mine.isdisjoint(other) for other in sets.values())
        if disjoint and move.theirs:
            where = len(outer) - 1
            choice = "{" + "|".join(map(str, sorted(mine))) + "}"
            token = move.source[where].replace("{}", choice)
            result.append(replace(move, source=(*move.source[:where], token, *move.source[where + 1 :])))
        elif move.theirs:
            result.append(_literal(move, (0,), (0,)))
        else:
            result.append(_literal(move, range(len(move.mine)), ()))
    return result


def _outer(template: Tokens) -> Tokens:
    """Up to the first index; empty without one."""
    for n, token in enumerate(template):
        if "{" in token:
            return template[: n + 1]
    return ()


def _numbers(moves: list[Move]) -> tuple[list[Move], dict[Tokens, dict[int, int]]]:
    """How the numbers of each target block follow from the source's; write out those that do not."""
    maps: dict[Tokens, dict[int, int]] = {}
    broken: set[Tokens] = set()
    for move in moves:
        for n, prefix in enumerate(_prefixes(move.target)):
            numbers = maps.setdefault(prefix, {})
            if numbers.setdefault(move.mine[n], move.theirs[n]) != move.theirs[n]:
                broken.add(prefix)
    for prefix, numbers in maps.items():
        if len(set(numbers.values())) != len(numbers):
            broken.add(prefix)
    if not broken:
        return moves, maps
    result = []
    for move in moves:
        places = [n for n, prefix in enumerate(_prefixes(move.target)) if prefix in broken]
        result.append(_literal(move, places, places) if places else move)
    again: dict[Tokens, dict[int, int]] = {}
    for move in result:
        for n, prefix in enumerate(_prefixes(move.target)):
            again.setdefault(prefix, {})[move.mine[n]] = move.theirs[n]
    return result, again


def _prefixes(template: Tokens) -> list[Tokens]:
    return [template[: n + 1] for n, token in enumerate(template) if "{}" in token]


def _unambiguous(
    templates: Iterable[tuple[Tokens, Tokens]], moves: list[Move]
) -> list[tuple[Tokens, Tokens]]:
    """One target per source template; where there are more, every instance is written out."""
    targets: dict[Tokens, set[Tokens]] = defaultdict(set)
    for source, target in templates:
        targets[source].add(target)
    result: list[tuple[Tokens, Tokens]] = []
    for move in moves:
        if len(targets[move.source]) > 1:
            written = _literal(move, range(len(move.mine)), range(len(move.theirs)))
            result.append((tuple(hidden(written.key).split(".")), written.target))
        else:
            result.append((move.source, move.target))
    return list(dict.fromkeys(result))


def _index_pattern(prefix: Tokens) -> str:
    tokens = [regex(t, grouped=False) for t in prefix[:-1]]
    last = prefix[-1].split("{}")
    tokens.append(re.escape(last[0]) + r"(?P<index>\d+)" + re.escape(last[1]))
    return as_regex("^" + r"\.".join(tokens) + r"(?=\.|$)")


__all__ = ["move_rules", "numbered", "renamed"]
