"""Keys grouped into modules, and modules that repeat over indices into one group with a template.

``model.layers.0.attn.q.weight`` .. ``model.layers.31.attn.q.bias`` become one group: the template
``model.layers.{}.attn.q`` with 32 instances of {weight, bias}. Whether a number is such an index or part of a
name (``norm1``, ``mlp.0``) is decided from what lies below it, never from the order of keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import pairwise

from .groups import ALIAS, LEAVES, Group, Index, Shape
from .words import concepts, hidden

_REPARAMETRIZED_LEAVES = ("weight_v", "weight_g", "weight_u", "weight_mask", "bias_mask")
_NUMBER = re.compile(r"([^0-9]*)([0-9]{1,9})([^0-9]*)\Z")
_FUSED_LEAF = re.compile(r"(.+)_(weight|bias)\Z")
_RECURRENT = re.compile(r"(?:weight|bias)_(?:ih|hh|hr)_l\Z")
# What torch's reparametrizations make of a parameter, and what their older forms call the same thing.
_REPARAMETRIZED = {
    "original": "",
    "original0": "_g",
    "original1": "_v",
    "0._u": "_u",
    "0._v": "_v",
}
_SHORT = {"w": "weight", "b": "bias", "kernel": "weight"}
_ONLY_WITH_BIAS = {"w", "b"}


@dataclass(slots=True)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    key: str | None = None
    shape: Shape = ()


def grouped(shapes: Mapping[str, Shape]) -> list[Group]:
    """Group the keys of a signature.

    Args:
        shapes: key to shape.

    Returns:
        The groups, sorted by template.
    """
    root = _Node()
    paths = _paths(shapes)
    for key in sorted(shapes):
        node = root
        for token in paths[key]:
            child = node.children.get(token)
            if child is None:
                child = node.children[token] = _Node()
            node = child
        node.key, node.shape = key, shapes[key]
    groups: dict[tuple[str, ...], Group] = {}
    _walk([((), root)], (), groups)
    return [groups[template] for template in sorted(groups)]


def _paths(keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Each key's tokens; what torch's reparametrizations hold is written as a leaf of the module it belongs to."""
    paths = {key: tuple(hidden(key).split(".")) for key in keys}
    taken = set(paths.values())
    for key, tokens in paths.items():
        plain = tokens
        if "parametrizations" in tokens:
            where = tokens.index("parametrizations")
            suffix = _REPARAMETRIZED.get(".".join(tokens[where + 2 :]))
            if suffix is not None:
                plain = (*tokens[:where], tokens[where + 1] + suffix)
        elif tokens[-1] in ("weight_orig", "bias_orig"):
            plain = (*tokens[:-1], tokens[-1].removesuffix("_orig"))
        if plain != tokens and plain not in taken:
            taken.add(plain)
            paths[key] = plain
    return paths


def _walk(
    nodes: list[tuple[Index, _Node]], template: tuple[str, ...], groups: dict[tuple[str, ...], Group]
) -> None:
    """Group what lies below the nodes, which all have this template."""
    children: dict[str, list[tuple[Index, _Node]]] = {}
    for index, node in nodes:
        for token, child in node.children.items():
            children.setdefault(token, []).append((index, child))
    families: dict[tuple[str, str], dict[int, list[tuple[Index, _Node]]]] = {}
    plain: dict[str, list[tuple[Index, _Node]]] = {}
    for token, members in children.items():
        match = _NUMBER.match(token)
        if match is None or (len(match[2]) > 1 and match[2][0] == "0"):
            plain[token] = members
        else:
            families.setdefault((match[1], match[3]), {})[int(match[2])] = members
    for (before, after), family in sorted(families.items()):
        if _repeats(before, after, family, "{}" in "".join(template)):
            inside = [((*index, n), node) for n in sorted(family) for index, node in family[n]]
            _below(f"{before}{{}}{after}", inside, template, groups)
        else:
            plain.update({f"{before}{n}{after}": members for n, members in family.items()})
    names = set(plain)
    for token in sorted(plain):
        _below(token, plain[token], template, groups, names)


def _below(
    token: str,
    nodes: list[tuple[Index, _Node]],
    template: tuple[str, ...],
    groups: dict[tuple[str, ...], Group],
    siblings: AbstractSet[str] = frozenset(),
) -> None:
    tensors = [(index, node) for index, node in nodes if node.key is not None]
    if tensors:
        module, leaf = _split_leaf(token, template, siblings)
        group = groups.setdefault(module, Group(module))
        for index, node in tensors:
            group.instances.setdefault(index, {})[leaf] = (str(node.key), node.shape)
    deeper = [(index, node) for index, node in nodes if node.children]
    if deeper:
        _walk(deeper, (*template, token), groups)


def _split_leaf(
    token: str, template: tuple[str, ...], siblings: AbstractSet[str]
) -> tuple[tuple[str, ...], str]:
    """The module and the leaf of a tensor: a parameter with a name of its own is a module with one weight."""
    if token in LEAVES and template:
        return template, token
    if token in _REPARAMETRIZED_LEAVES and template and siblings & {"weight", "bias", "weight_g"}:
        return template, token
    if token in ALIAS and template and ALIAS[token] not in siblings:
        norm = any("norm" in concepts(t) for t in template[-2:])
        if norm or ("beta" in siblings and token in ("gamma", "beta")):
            return template, ALIAS[token]
    if (
        token in _SHORT
        and template
        and _SHORT[token] not in siblings
        and (token not in _ONLY_WITH_BIAS or siblings >= _ONLY_WITH_BIAS)
    ):
        return template, _SHORT[token]
    match = _FUSED_LEAF.match(token)
    if match is not None and match[1] not in siblings:
        return (*template, match[1]), match[2]
    return (*template, token), "weight"


def _repeats(before: str, after: str, family: dict[int, list[tuple[Index, _Node]]], nested: bool) -> bool:
    """Whether the numbers of a family are indices of a repeated block."""
    if _RECURRENT.match(before):
        return True
    whole = not before and not after
    if len(family) == 1:
        return whole
    numbers = sorted(family)
    sample = numbers if len(numbers) <= 6 else [numbers[round(n * (len(numbers) - 1) / 5)] for n in range(6)]
    members = [[node for _, node in family[n][:3]] for n in sample]
    if all(_is_module(nodes) for nodes in members):
        if len(family) < 4:
            return whole and _alike(family)
        kinds = {max(len(shape) for _, shape in _shapes(nodes)) > 1 for nodes in members}
        return len(kinds) == 1 or (whole and len(family) >= 8)
    if nested and len(family) <= 3:
        # A few small or unequal parts of a block: their numbers are names.
        return _alike(family) and len(_all_shapes(members[0][0])) >= 8
    likeness = _likeness([_structure(nodes) for nodes in members])
    return likeness >= (0.3 if whole else 0.5) or (whole and len(family) >= 4)


def _alike(family: dict[int, list[tuple[Index, _Node]]]) -> bool:
    """Whether the members hold the same shapes, wherever they stand side by side."""
    seen: dict[Index, tuple[Shape, ...]] = {}
    for members in family.values():
        for index, node in members:
            shapes = _all_shapes(node)
            if seen.setdefault(index, shapes) != shapes:
                return False
    return True


def _is_module(nodes: list[_Node]) -> bool:
    return all(
        (node.key is not None and not node.children)
        or all(not child.children for child in node.children.values())
        for node in nodes
    )


def _shapes(nodes: list[_Node]) -> tuple[tuple[str, Shape], ...]:
    node = nodes[0]
    if node.key is not None:
        return (("", node.shape),)
    return tuple((token, child.shape) for token, child in sorted(node.children.items()))


def _all_shapes(node: _Node) -> tuple[Shape, ...]:
    """The shapes of all tensors below a node, sorted."""
    found: list[Shape] = []
    stack = [node]
    while stack:
        node = stack.pop()
        if node.key is not None:
            found.append(node.shape)
        stack.extend(node.children.values())
    return tuple(sorted(found))


def _structure(nodes: list[_Node]) -> frozenset[str]:
    """The relative names below the nodes, numbers masked."""
    found: set[str] = set()
    for node in nodes:
        stack = [("", node)]
        while stack:
            path, node = stack.pop()
            if node.key is not None:
                found.add(path)
            for token, child in node.children.items():
                stack.append((f"{path}.{_MASK.sub('#', token)}", child))
    return frozenset(found)


_MASK = re.compile(r"[0-9]+")


def _likeness(structures: list[frozenset[str]]) -> float:
    """The mean Jaccard index of neighbours."""
    pairs = list(pairwise(structures))
    return sum(len(a & b) / max(1, len(a | b)) for a, b in pairs) / max(1, len(pairs))
