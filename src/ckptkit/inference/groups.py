"""Modules that repeat over indices, as one group with a template; `grouping.py` makes them of keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .lexicon import ORDINALS, SHADOWS
from .words import concepts, subwords

Index = tuple[int, ...]
Shape = tuple[int, ...]
INDEX = "{}"
COUNTING = "abcde"
LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
ALIAS = {"gamma": "weight", "beta": "bias", "scale": "weight", "g": "weight"}


@dataclass(eq=False)
class Group:
    """Modules of one template.

    Args:
        template: the tokens of the module's path, ``{}`` in the place of an index.
        instances: index tuple to leaf name to (key, shape).
    """

    template: tuple[str, ...]
    instances: dict[Index, dict[str, tuple[Any, Shape]]] = field(default_factory=dict)

    @cached_property
    def members(self) -> tuple[Group, ...]:
        """The real groups that a group is made of."""
        return (self,)

    @cached_property
    def indices(self) -> list[Index]:
        """The index tuples in order."""
        return sorted(self.instances)

    @cached_property
    def leaf(self) -> str:
        """The leaf that the module is compared by: its weight, else the first it has."""
        found = {leaf for leaves in self.instances.values() for leaf in leaves}
        order = ("weight", "weight_v", *LEAVES, *sorted(found))
        return next(leaf for leaf in order if leaf in found)

    @cached_property
    def shapes(self) -> tuple[Shape | None, ...]:
        """The shape of that leaf in every instance, in order."""
        leaf = self.leaf
        return tuple(self.instances[i][leaf][1] if leaf in self.instances[i] else None for i in self.indices)

    @cached_property
    def unequal(self) -> bool:
        """Whether no two instances have one shape."""
        return len(set(self.shapes)) == len(self.shapes)

    @cached_property
    def leaves(self) -> frozenset[str]:
        """The leaves that any instance has."""
        return frozenset(leaf for leaves in self.instances.values() for leaf in leaves)

    @cached_property
    def tokens(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(token, concepts without numbers) of every token that is no bare index."""
        return tuple(
            (token, tuple(c for c in concepts(token.replace("{}", "")) if not c.isdigit()))
            for token in self.template
            if token != INDEX
        )

    @cached_property
    def shadow(self) -> bool:
        """Whether a name says that these are copies of the weights that were not trained."""
        return any(c in SHADOWS for _, found in self.tokens for c in found)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The numbers that are part of the name, in order; ``second`` is one, and the letter of ``conv_a``."""
        return tuple(
            int(w) if w.isdigit() else ORDINALS[w] if w in ORDINALS else COUNTING.index(w) + 1
            for token in self.template
            if token != INDEX
            for w in subwords(token.replace("{}", ""))
            if counts(w) and (len(w) > 1 or w in token)
        )

    @property
    def depth(self) -> int:
        """How many indices the template has."""
        return len(self.indices[0]) if self.instances else 0

    def __repr__(self) -> str:
        return f"{'.'.join(self.template)} x{len(self.instances)}"


def counts(word: str) -> bool:
    """Whether a word of a name counts: a number, ``second``, the letter of ``conv_a``."""
    return word.isdigit() or word in ORDINALS or (len(word) == 1 and word in COUNTING)


def unlike(one: Any, other: Any) -> bool:
    """Whether two keys end in parameters that are known to be different things, as weight and bias are."""
    if not isinstance(one, str) or not isinstance(other, str):
        return False
    a, b = (key.rpartition(".")[2] for key in (one, other))
    a, b = ALIAS.get(a, a), ALIAS.get(b, b)
    return a != b and a in LEAVES and b in LEAVES


def leaf_pairs(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(target leaf, source leaf) of two modules: those of one name, and the only ones where both have but one."""
    if len(source) == len(target) == 1:
        return [(next(iter(target)), next(iter(source)))]
    return [(leaf, leaf) for leaf in target if leaf in source]


def written(template: tuple[str, ...], index: Index, places: Collection[int]) -> tuple[str, ...]:
    """A template with some of its indices written out.

    Args:
        template: with ``{}`` in the place of each index.
        index: their values.
        places: which of them to write out, counted from 0.
    """
    result = []
    n = 0
    for token in template:
        if "{}" in token:
            result.append(token.replace("{}", str(index[n])) if n in places else token)
            n += 1
        else:
            result.append(token)
    return tuple(result)
