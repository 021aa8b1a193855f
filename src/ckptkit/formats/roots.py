"""Where in a nested checkpoint the weights are: found by structure and names, never guessed between equals.

A candidate is a dictionary of which at least half of the values are tensors. An optimizer's state is known by
its structure (``state`` beside ``param_groups``) or its name, a moving average by its name. Raw weights rank
above moving averages; an optimizer's state is never chosen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from ..errors import NoWeightsError, RootError, UnsupportedFormatError
from ..signatures import Root
from ..text import quote_list, safe
from .base import NO_ROOT
from .described import Described
from .flat_tree import flatten, is_nested
from .pickled import Opaque, TensorNode
from .root_candidates import (
    GENERIC,
    LONG_NAME,
    OPTIMIZER,
    Candidate,
    IsTensor,
    Path,
    candidates,
    count,
    dotted,
    has_parts,
    is_described,
    kind_of,
)

NOTHING: dict[Any, Any] = {}  # the root of a file that is looked at as a file


@dataclass(frozen=True, slots=True)
class Choice:
    """The root that was chosen.

    Args:
        path: the keys that lead to it; empty for the top level.
        node: the dictionary.
        roots: every candidate, the chosen one marked.
        notes: what a person should be told about the choice.
        flat: the tensors of a nested tree by their dotted paths, where it is opened so.
    """

    path: Path
    node: dict[Any, Any]
    roots: tuple[Root, ...]
    notes: tuple[str, ...] = ()
    flat: dict[Any, Any] | None = None

    @property
    def entries(self) -> dict[Any, Any]:
        """What the root holds."""
        return self.node if self.flat is None else self.flat


def choose_root(tree: Any, root: str, file: str, is_tensor: IsTensor | None = None) -> Choice:
    """Find the root.

    Args:
        tree: what the file's pickle describes, or a mapping in memory.
        root: ``auto``, ``none``, or a dotted path that is tried as keys, the longest literal key first.
        file: for messages.
        is_tensor: tells what counts as a tensor in the tree; by default what a pickle describes as one.

    Raises:
        FormatError: the file holds no dictionary at all, e.g. a whole pickled model.
        RootError: there is no such root, no weights, or more than one place for them.
    """
    if root == NO_ROOT:
        return Choice((), NOTHING, ())
    is_tensor = is_tensor or is_described
    found = tuple(candidates(tree, is_tensor, file)) if has_parts(tree) else ()
    if not isinstance(tree, dict) and (not found or root in ("none", "auto")):
        inside = f"; {_offer(tree, found)}; name one of them as root (--root PATH)" if found else ""
        raise UnsupportedFormatError(f"{file}: it holds {_describe(tree)}{inside}", file=file)
    if root == "none":
        return _choice((), tree, found)
    if root != "auto":
        path = _resolve(tree, root)
        if path is None:
            raise RootError(f"{file}: there is no root {root!r}; {_offer(tree, found)}", file=file)
        node = _at(tree, path)
        if not isinstance(node, dict):
            raise RootError(
                f"{file}: the root {root!r} is {_describe(node)}; {_offer(tree, found)}", file=file
            )
        _refuse_hollow(path, node, found, file, is_tensor)
        choice = _choice(path, node, found)
        if is_nested(node, is_tensor):
            note = f"{safe(root)} is a tree of dictionaries, opened flat: its keys are dotted paths"
            return replace(choice, flat=flatten(node, is_tensor, file), notes=(note,))
        return choice
    return _automatic(tree, found, file)


def _refuse_hollow(
    path: Path, node: dict[Any, Any], found: tuple[Candidate, ...], file: str, is_tensor: IsTensor
) -> None:
    """A named root without a tensor of its own was meant for what lies in it.

    Raises:
        RootError: names the places inside that hold tensors.
    """
    below = [c for c in found if c.path[: len(path)] == path and len(c.path) > len(path)]
    inside = [dotted(c.path) for c in below]
    several = sum(c.kind != "optimizer" for c in below) > 1  # a nested tree, which is opened flat
    if not inside or several or any(map(is_tensor, node.values())):
        return
    one = len(inside) == 1
    raise RootError(
        f"{file}: the root {safe(dotted(path))!r} holds no tensors itself; {quote_list(inside, 8)} inside it "
        f"{'does' if one else 'do'}: name {'that' if one else 'one of them'} as root (--root PATH, root: PATH)",
        file=file,
    )


def _automatic(tree: Any, found: tuple[Candidate, ...], file: str) -> Choice:
    best = _best(found)
    if not best:
        return _without_tensors(tree, found, file)
    chosen, why = _one_of(best)
    if chosen is None or chosen.listed:  # what a list is of, its items alone do not say
        listed = quote_list([dotted(c.path) for c in best], 8)
        above = _common([c.path for c in best])
        whole = ""
        if above and isinstance(_at(tree, above), dict):
            whole = f", or {dotted(above)!r}, which is opened flat"
        raise RootError(
            f"{file}: the weights could be in {listed}; name one of them as root{whole} "
            "(--root PATH, root: PATH; none for the top level)",
            file=file,
        )
    _refuse_hidden(tree, chosen, found, file)
    notes = []
    if chosen.path:
        others = [
            dotted(c.path) or "the top level" for c in found if c is not chosen and c.kind != "optimizer"
        ]
        beside = f", beside {quote_list(others, 4)}" if others else ""
        notes.append(f"root: {safe(dotted(chosen.path))}, {why}{beside}")
    elif len(best) > 1:
        notes.append(
            f"root: the top level, {why}, beside {quote_list([dotted(c.path) for c in best if c.path], 4)}"
        )
    if chosen.kind == "ema":
        notes.append(f"{safe(dotted(chosen.path))} is a moving average; the file has no raw weights")
    return replace(_choice(chosen.path, chosen.node, found), notes=tuple(notes))


def _best(found: tuple[Candidate, ...]) -> list[Candidate]:
    """Those of the best rank: weights before moving averages, dictionaries before items of lists, tensors before arrays;
    and an object yields to a dictionary called as weights are that holds as much, since it was saved to be used.
    """
    best = [c for c in found if c.kind == "weights"] or [c for c in found if c.kind == "ema"]
    best = [c for c in best if not c.listed] or best
    best = [c for c in best if not c.arrays] or best
    plain = max((c.tensors for c in best if c.generic and type(c.node) is not Described), default=0)
    return [c for c in best if type(c.node) is not Described or c.tensors > plain]


def _common(paths: list[Path]) -> Path:
    first, last = min(paths, key=len), paths
    for depth in range(len(first), 0, -1):
        if all(path[:depth] == first[:depth] for path in last):
            return first[:depth]
    return ()


def _refuse_hidden(tree: Any, chosen: Candidate, found: tuple[Candidate, ...], file: str) -> None:
    """Refuse to take what is left for the weights where as many tensors lie in an object, out of reach."""
    if chosen.generic:
        return
    stack: list[tuple[Path, Any]] = [((), tree)]
    seen: set[int] = set()
    counted = {id(value) for candidate in found for value in candidate.node.values()}
    while stack:
        path, node = stack.pop()
        if id(node) in seen or node is chosen.node:
            continue
        seen.add(id(node))
        if type(node) is Opaque or (type(node) is Described and not node.module):
            whole = node.origin if type(node) is Described else node
            hidden = count(whole, is_described, counted) if kind_of(path, {}) == "weights" else 0
            if hidden >= chosen.tensors:
                place = dotted(chosen.path)
                raise RootError(
                    f"{file}: {place or 'the top level'!r} holds {chosen.tensors} tensors, and {dotted(path)!r}, an object "
                    f"of {node.label} that is no model ckptkit understands, holds {hidden}; name the first as root if it "
                    f"is meant (--root {place or 'none'}), or save a state_dict where that code lives",
                    file=file,
                )
        if isinstance(node, dict):
            stack.extend(((*path, key), value) for key, value in node.items())
        elif type(node) in (list, tuple):
            stack.extend(((*path, number), value) for number, value in enumerate(node))


def _one_of(best: list[Candidate]) -> tuple[Candidate | None, str]:
    if len(best) == 1:
        kind = "weights" if best[0].kind == "weights" else "moving average"
        return best[0], f"the only {kind} ({best[0].tensors} tensors)"
    lesser = _lesser(best)
    best = [c for c in best if c.path not in lesser]
    if len(best) == 1:
        return best[0], f"which holds the most ({best[0].tensors} tensors)"
    named = [c for c in best if c.generic]
    if len(named) == 1:
        return named[0], f"chosen by its name ({named[0].tensors} tensors)"
    return None, ""


def _lesser(best: list[Candidate]) -> set[Path]:
    """The paths of those that yield to one that contains them, or that they contain: the inner one wins by a generic
    name or by more tensors (statistics beside the weights), else the outer one.
    """
    by_path = {candidate.path: candidate for candidate in best}
    lesser: set[Path] = set()
    for inner in best:
        for depth in range(len(inner.path)):
            outer = by_path.get(inner.path[:depth])
            if outer is not None:
                wins = inner.generic or inner.tensors > outer.tensors
                lesser.add(outer.path if wins else inner.path)
    return lesser


def _without_tensors(tree: dict[Any, Any], found: tuple[Candidate, ...], file: str) -> Choice:
    if not tree:
        return _choice((), tree, found)
    empty = [key for key, value in tree.items() if key in GENERIC and isinstance(value, dict) and not value]
    if len(empty) == 1 and not found:
        return _choice((empty[0],), tree[empty[0]], found)
    for key, value in tree.items():
        if type(value) is Opaque and value.state is not None:
            raise NoWeightsError(f"{file}: {dotted((key,))!r} is {_describe(value)}", file=file)
    if found:  # nothing else is left
        places = quote_list([dotted(c.path) or "the top level" for c in found], 8)
        raise NoWeightsError(
            f"{file}: no weights were found: {places} looks like an optimizer's state; give the file that holds the "
            "model, or name a root (--root PATH)",
            file=file,
        )
    raise NoWeightsError(f"{file}: no dictionary of tensors was found; {_offer(tree, found)}", file=file)


def _choice(path: Path, node: dict[Any, Any], found: tuple[Candidate, ...]) -> Choice:
    roots = [Root(dotted(c.path), c.kind, c.tensors, c.path == path) for c in found]
    return Choice(path, node, tuple(roots))


def _resolve(node: Any, rest: str) -> Path | None:
    """The keys of a dotted path, the longest literal key first; None when there is no way. Numbers enter lists."""
    if type(node) is list or type(node) is tuple:
        number, _, further_text = rest.partition(".")
        if not (number.isascii() and number.isdigit() and len(number) < 10 and int(number) < len(node)):
            return None
        below = _resolve(node[int(number)], further_text) if further_text else ()
        return None if below is None else (int(number), *below)
    if not isinstance(node, dict):
        return None
    spelled = {str(key): key for key in node if type(key) in (str, int)}
    fits = [text for text in spelled if text == rest or rest.startswith(text + ".")]
    for text in sorted(fits, key=len, reverse=True):
        if text == rest:
            return (spelled[text],)
        further = _resolve(node[spelled[text]], rest[len(text) + 1 :])
        if further is not None:
            return (spelled[text], *further)
    return None


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _offer(tree: Any, found: tuple[Candidate, ...]) -> str:
    if found:
        names = [dotted(c.path) or "none (the top level)" for c in found]
        return f"dictionaries of tensors: {quote_list(names, 8)}"
    if not tree:
        return "the file holds an empty dictionary"
    keys = quote_list([ascii(dotted((key,)))[1:-1] for key in list(tree)[:9]], 8)
    return f"the top level has the keys {keys}"


def _describe(node: Any) -> str:
    if type(node) is Opaque:
        return _describe_object(node)
    if type(node) is TensorNode:
        return "a single tensor, not a dictionary of tensors"
    kind = {list: "a list", tuple: "a tuple", type(None): "None"}.get(
        type(node), f"a value of type {type(node).__name__}"
    )
    return f"{kind}, not a dictionary of tensors; save a state_dict"


def _describe_object(node: Opaque) -> str:
    state = node.state if isinstance(node.state, dict) else {}
    words = frozenset(re.split(r"[^a-z0-9]+", node.label.lower()[:LONG_NAME]))
    if words & OPTIMIZER or "param_groups" in state:
        return (
            f"an optimizer or scheduler pickled as {node.label}, which holds no weights; give the file that holds the "
            "model"
        )
    whole = "a whole model" if "_modules" in state or "_parameters" in state else "an object"
    return (
        f"{whole} pickled as {node.label}, whose code is not on the allow-list and is never looked up; "
        "a state_dict is needed: save model.state_dict() where the model's code lives"
    )
