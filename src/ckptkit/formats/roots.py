"""Where in a nested checkpoint the weights are: found by structure and names, never guessed between equals.

A candidate is a dictionary of which at least half of the values are tensors. An optimizer's state is known by
its structure (``state`` beside ``param_groups``) or its name, a moving average by its name. Raw weights rank
above moving averages; an optimizer's state is never chosen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..errors import NoWeightsError, RootError, UnsupportedFormatError
from ..signatures import Root
from ..text import quote_list, safe
from .base import NO_ROOT
from .pickled import Opaque, TensorNode, parts

Path = tuple[Any, ...]
MAX_NAMES = 1 << 24  # characters of the paths that are offered, together
LONG_NAME = 1 << 12
IsTensor = Callable[[Any], bool]
_EMA = frozenset(["ema", "swa", "shadow", "averaged", "polyak"])
_OPTIMIZER = frozenset(
    ["optimizer", "optimizers", "optim", "optims", "opt", "opts", "scheduler", "schedulers", "scaler"]
)
# Words that say "the weights" without saying of what; they break ties.
_GENERIC = frozenset(
    [
        "state_dict",
        "model_state_dict",
        "model_state",
        "model",
        "model_dict",
        "model_weights",
        "module",
        "net",
        "network",
        "net_state_dict",
        "weights",
        "weight",
        "params",
        "parameters",
        "state",
    ]
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The root that was chosen.

    Args:
        path: the keys that lead to it; empty for the top level.
        node: the dictionary.
        roots: every candidate, the chosen one marked.
        notes: what a person should be told about the choice.
    """

    path: Path
    node: dict[Any, Any]
    roots: tuple[Root, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: Path
    node: dict[Any, Any]
    kind: str
    tensors: int

    @property
    def generic(self) -> bool:
        return bool(self.path) and self.path[-1] in _GENERIC


def dotted(path: Path) -> str:
    """A path as it is written in configs and messages."""
    return ".".join(part.label if type(part) is Opaque else str(part) for part in path)


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
        return Choice((), {}, ())
    if not isinstance(tree, dict):
        raise UnsupportedFormatError(f"{file}: it holds {_describe(tree)}", file=file)
    found = tuple(_candidates(tree, is_tensor or _is_described, file))
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
        _refuse_hollow(path, node, found, file, is_tensor or _is_described)
        return _choice(path, node, found)
    return _automatic(tree, found, file)


def _refuse_hollow(
    path: Path, node: dict[Any, Any], found: tuple[_Candidate, ...], file: str, is_tensor: IsTensor
) -> None:
    """A named root without a tensor of its own was meant for what lies in it.

    Raises:
        RootError: names the places inside that hold tensors.
    """
    inside = [dotted(c.path) for c in found if c.path[: len(path)] == path and len(c.path) > len(path)]
    if not inside or any(map(is_tensor, node.values())):
        return
    one = len(inside) == 1
    raise RootError(
        f"{file}: the root {safe(dotted(path))!r} holds no tensors itself; {quote_list(inside, 8)} inside it "
        f"{'does' if one else 'do'}: name {'that' if one else 'one of them'} as root (--root PATH, root: PATH)",
        file=file,
    )


def _automatic(tree: dict[Any, Any], found: tuple[_Candidate, ...], file: str) -> Choice:
    best = [c for c in found if c.kind == "weights"] or [c for c in found if c.kind == "ema"]
    if not best:
        return _without_tensors(tree, found, file)
    chosen, why = _one_of(best)
    if chosen is None:
        listed = quote_list([dotted(c.path) for c in best], 8)
        raise RootError(
            f"{file}: the weights could be in {listed}; name one of them as root "
            "(--root PATH, root: PATH; none for the top level)",
            file=file,
        )
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


def _one_of(best: list[_Candidate]) -> tuple[_Candidate | None, str]:
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


def _lesser(best: list[_Candidate]) -> set[Path]:
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


def _without_tensors(tree: dict[Any, Any], found: tuple[_Candidate, ...], file: str) -> Choice:
    if not tree:
        return _choice((), tree, found)
    empty = [key for key, value in tree.items() if key in _GENERIC and isinstance(value, dict) and not value]
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


def _choice(path: Path, node: dict[Any, Any], found: tuple[_Candidate, ...]) -> Choice:
    roots = [Root(dotted(c.path), c.kind, c.tensors, c.path == path) for c in found]
    return Choice(path, node, tuple(roots))


def _is_described(value: Any) -> bool:
    return type(value) is TensorNode


def _candidates(tree: dict[Any, Any], is_tensor: IsTensor, file: str) -> Iterator[_Candidate]:
    named = 0
    for candidate in _dictionaries(tree, is_tensor):
        named += sum(len(part) if type(part) is str else 8 for part in candidate.path)
        if named > MAX_NAMES:
            raise RootError(
                f"{file}: the names of its dictionaries of tensors take more than {MAX_NAMES} characters; save the "
                "state_dict by itself where the file was made",
                file=file,
            )
        yield candidate


def _dictionaries(tree: dict[Any, Any], is_tensor: IsTensor) -> Iterator[_Candidate]:
    known: dict[Any, frozenset[str]] = {}
    stack: list[tuple[Path, dict[Any, Any]]] = [((), tree)]
    seen: set[int] = set()
    while stack:
        path, node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if "state" in node and isinstance(node.get("param_groups"), list):
            yield _Candidate(path, node, "optimizer", _count(node, is_tensor))
            continue
        tensors = sum(1 for value in node.values() if is_tensor(value))
        if tensors and 2 * tensors >= len(node):
            yield _Candidate(path, node, _kind(path, known), tensors)
        inner = [((*path, key), value) for key, value in node.items() if isinstance(value, dict)]
        stack.extend(reversed(inner))


def _kind(path: Path, known: dict[Any, frozenset[str]]) -> str:
    words: set[str] = set()
    for part in path:
        if part not in known:
            spelled = dotted((part,)).lower()[:LONG_NAME]
            known[part] = frozenset(re.split(r"[^a-z0-9]+", spelled)) & (_OPTIMIZER | _EMA)
        words |= known[part]
    return "optimizer" if words & _OPTIMIZER else "ema" if words & _EMA else "weights"


def _count(node: Any, is_tensor: IsTensor) -> int:
    total, stack, seen = 0, [node], set()
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        total += is_tensor(part)
        stack.extend(parts(part))
    return total


def _resolve(node: Any, rest: str) -> Path | None:
    """The keys of a dotted path, the longest literal key first; None when there is no way."""
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


def _offer(tree: dict[Any, Any], found: tuple[_Candidate, ...]) -> str:
    if found:
        names = [dotted(c.path) or "none (the top level)" for c in found]
        return f"dictionaries of tensors: {quote_list(names, 8)}"
    keys = quote_list([ascii(dotted((key,)))[1:-1] for key in list(tree)[:9]], 8)
    return f"the top level has the keys {keys}" if tree else "the file holds an empty dictionary"


def _describe(node: Any) -> str:
    if type(node) is Opaque:
        state = node.state if isinstance(node.state, dict) else {}
        whole = "a whole model" if "_modules" in state or "_parameters" in state else "an object"
        return (
            f"{whole} pickled as {node.label}, whose code is not on the allow-list and is never looked up; "
            "a state_dict is needed: save model.state_dict() where the model's code lives"
        )
    if type(node) is TensorNode:
        return "a single tensor, not a dictionary of tensors"
    kind = {list: "a list", tuple: "a tuple", type(None): "None"}.get(
        type(node), f"a value of type {type(node).__name__}"
    )
    return f"{kind}, not a dictionary of tensors; save a state_dict"
