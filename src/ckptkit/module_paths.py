"""Where a plan moves the modules of a state_dict: read off how the tensors of each, and of those below it, move.

A path without tensors of its own (a container, a Dropout) says nothing by itself: containers go where the
modules below them go, and a module that has no tensor anywhere below follows the one it lies in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from .expr import Expr, Select, Slice
from .plans import Plan


class Evidence(IntEnum):
    """Why a module is believed to be at a place now, the strongest first."""

    OWN_TENSORS = 1  # they lie there under the names they had
    MODULES_BELOW = 2  # they lie below that place under the names they had
    RENAMED_TENSORS = 3
    RENAMED_MODULES = 4
    FOLLOWS = 5  # it has no tensors and goes with the module it lies in
    STAYS = 6  # a guess: nothing says where it went, and the path is still there


@dataclass(slots=True)
class Moved:
    """What became of one module.

    Args:
        path: where it was; "" is the root.
        evidence: for `places`.
        places: where it is now, several for copies and splits.
        gone: whether it had tensors, and all of them were dropped.
        tensors: place to the own tensors that went there.
        below: place to the names of the modules that went there with it, where these say where it is.
        sliced: whether only parts of tensors went somewhere.
    """

    path: str
    evidence: Evidence = Evidence.STAYS
    places: tuple[str, ...] = ()
    gone: bool = False
    tensors: dict[str, dict[str, None]] = field(default_factory=dict)
    below: dict[str, dict[str, None]] = field(default_factory=dict)
    sliced: bool = False

    @property
    def split(self) -> bool:
        """Whether different tensors or modules of it, or different parts, went to different places."""
        held = self.below if self.evidence == Evidence.MODULES_BELOW else self.tensors
        if len(held) < 2:
            return False
        first, *others = held.values()
        return self.sliced or any(set(parts) != set(first) for parts in others)


def owners(texts: Iterable[str], paths: Iterable[str]) -> dict[str, str | None]:
    """For each dotted text the longest of the paths that it lies below; None where there is none.

    All are sorted once, so that names of many dots cost what they are long.
    """
    own = set(paths)
    root = "" if "" in own else None
    found: dict[str, str | None] = {}
    above: list[str] = []
    # A path comes before everything below it, and nothing else comes between.
    for text in sorted({*texts, *own}, key=_in_segments):
        while above and not text.startswith(above[-1] + "."):
            above.pop()
        found[text] = above[-1] if above else root if text else None
        if text and text in own:
            above.append(text)
    if "" in found and "" not in own:
        found[""] = None
    return found


def _in_segments(text: str) -> str:
    return text.replace("\x01", "\x01\x02").replace("\x00", "\x01\x01").replace(".", "\x00")


def moves(paths: Iterable[str], plan: Plan) -> dict[str, Moved]:
    """What becomes of each module.

    Args:
        paths: the modules, by path; "" is the root.
        plan: says how their tensors move.
    """
    modules = {path: Moved(path) for path in paths}
    above = owners(plan.source, modules)
    own: dict[str, dict[str, dict[str, None]]] = {}  # module -> place where a tensor kept its name -> tensors
    full = {key: above[key] if key or "" not in modules else "" for key in plan.source}
    alive: set[str] = set()
    for output in plan.outputs:
        part: bool | None = None
        for key in output.expr.reads():
            owner = full.get(key)
            if owner is None:
                continue
            alive.add(owner)
            leaf = key[len(owner) + 1 :] if owner else key
            place, same = _place(leaf, output.key)
            if place is None:
                continue
            moved = modules[owner]
            moved.tensors.setdefault(place, {})[key] = None
            if same:
                own.setdefault(owner, {}).setdefault(place, {})[key] = None
            if part is None:
                part = _is_part(output.expr)
            moved.sliced |= part
    for owner, places in own.items():
        # Of copies each counts: one that keeps the names, and one whose tensors are renamed, where no other module is.
        copied = {key for keys in places.values() for key in keys} if not modules[owner].sliced else set()
        for place, keys in modules[owner].tensors.items():
            if copied & keys.keys() and (place == owner or place not in modules):
                places.setdefault(place, keys)
    parents = {path: above[path] for path in modules}
    _settle(modules, parents, own, alive, {owner for owner in full.values() if owner is not None})
    return modules


def _place(leaf: str, new: str) -> tuple[str | None, bool]:
    """The module of a tensor that was called `leaf` in its own and has the key `new` now; whether the name stayed."""
    if new == leaf:
        return "", True
    if new.endswith("." + leaf):
        return new[: -len(leaf) - 1], True
    steps = new.rsplit(".", leaf.count(".") + 1)
    if len(steps) <= leaf.count("."):
        return None, False
    return (steps[0] if len(steps) == leaf.count(".") + 2 else ""), False


def _is_part(expr: Expr) -> bool:
    return isinstance(expr, Slice | Select) or any(_is_part(e) for e in expr.of)


def _settle(
    modules: dict[str, Moved],
    parents: Mapping[str, str | None],
    own: Mapping[str, Mapping[str, Mapping[str, None]]],
    alive: set[str],
    full: set[str],
) -> None:
    below: dict[str, list[str]] = {}
    for path, parent in parents.items():
        if parent is not None:
            below.setdefault(parent, []).append(path)
    order = list(_downwards(parents, below))
    for path in reversed(order):
        children = below.get(path, ())
        if any(child in alive for child in children):
            alive.add(path)
        if any(child in full for child in children):
            full.add(path)
        moved = modules[path]
        if path in alive:
            moved.below, near = _by_children(path, [child for child in children if child in alive], modules)
            for evidence, places in (
                (Evidence.OWN_TENSORS, tuple(own.get(path, ()))),
                (Evidence.MODULES_BELOW, tuple(moved.below)),
                (Evidence.RENAMED_TENSORS, tuple(moved.tensors)),
                (Evidence.RENAMED_MODULES, near),
            ):
                if places:
                    moved.evidence, moved.places = evidence, places
                    break
        moved.gone = path in full and path not in alive
    claimed = {place for moved in modules.values() for place in moved.places}
    there = {*_with_ancestors(place for m in modules.values() for place in (*m.places, *m.tensors)), ""}
    for path in order:
        moved = modules[path]
        if moved.places:
            continue
        parent = parents[path]
        if path in alive or parent is None:
            moved.places = (path,) if path in there and path not in claimed else ()
        elif path not in full:
            guessed = modules[parent].evidence == Evidence.STAYS
            moved.evidence = Evidence.STAYS if guessed else Evidence.FOLLOWS
            moved.places, moved.gone = _following(path, modules[parent], there), modules[parent].gone


def _downwards(parents: Mapping[str, str | None], below: Mapping[str, list[str]]) -> Iterator[str]:
    stack = [path for path, parent in parents.items() if parent is None]
    while stack:
        path = stack.pop()
        yield path
        stack.extend(below.get(path, ()))


def _by_children(
    path: str, children: list[str], modules: Mapping[str, Moved]
) -> tuple[dict[str, dict[str, None]], tuple[str, ...]]:
    """Where the modules below say that a module is: those that kept their names, and those that did not."""
    kept: dict[str, dict[str, None]] = {}
    near: dict[str, None] = {}
    for child in children:
        name = child[len(path) + 1 :] if path else child
        same, other = [], []
        for place in modules[child].places:
            if place == name or place.endswith("." + name):
                same.append(place[: -len(name) - 1] if place != name else "")
            elif place:
                upper = place.rpartition(".")[0]
                same_name = bool(path) and upper.rpartition(".")[2] == path.rpartition(".")[2]
                if same_name or _depth(upper) == _depth(path):
                    other.append(upper)
        # Of copies of one module each makes a copy of what holds it.
        free = [place for place in other if place == path or place not in modules] if same else []
        for place in (*same, *free):
            kept.setdefault(place, {})[name] = None
        near.update(dict.fromkeys(other))
    if path in kept:
        # A module that keeps something stays; only copies of what it keeps make a second one of it.
        kept = {place: names for place, names in kept.items() if names.keys() & kept[path].keys()}
    return kept, tuple(near)


def _depth(path: str) -> int:
    return path.count(".") + 1 if path else 0


def _following(path: str, parent: Moved, there: set[str]) -> tuple[str, ...]:
    """Where a module without tensors goes with the one it lies in."""
    if len(parent.places) > 1 and parent.evidence in (Evidence.RENAMED_TENSORS, Evidence.RENAMED_MODULES):
        # The one it lies in was taken to pieces.
        return (path,) if parent.path in there else ()
    name = path[len(parent.path) + 1 :] if parent.path else path
    return tuple(f"{place}.{name}" if place else name for place in parent.places)


def ancestors(path: str) -> Iterator[str]:
    """The paths above a path, the nearest first, the root last."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def _with_ancestors(paths: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for path in paths:
        for each in (path, *ancestors(path)):
            if each in seen:
                break
            seen.add(each)
            yield each
