"""How deep in a model a parameter lies: before the blocks, in one of them, or after them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from ..errors import PlanError
from ..patterns import nearest
from ..regexes import Budget, compile_regex
from ..text import quote_list

_SMALLEST_SHARE = 0.25  # of the largest stack's elements; smaller numbered containers are parts of something


@dataclass
class _Stack:
    """A numbered sequence of blocks.

    Args:
        path: what stands before the numbers, e.g. ``encoder.layer``.
        order: the blocks in the order of registration, as the part of the key that names them.
        first, last: places of its first and last key among all keys.
        elements: of all its parameters.
    """

    path: str
    order: list[str]
    first: int
    last: int
    elements: int = 0


def depths(keys: Mapping[str, int], blocks: str | None) -> dict[str, tuple[int, int]]:
    """Where each parameter lies.

    What is registered before a stack's first block is at depth 0, its blocks are 1 to n, what comes after
    the last one is n + 1. A stack whose blocks are in stages (``stages.0.blocks.1``) counts blocks, not
    stages. Several stacks, as an encoder and a decoder, count apart; other parameters go with the stack
    whose path they share most of.

    Args:
        keys: parameter to its number of elements, in the order of registration.
        blocks: a regular expression that finds the number; found from the keys when None.

    Returns:
        Key to (depth, n + 1 of its stack).

    Raises:
        PlanError: no blocks were found; names the nearest keys.
    """
    home, stacks = _given(keys, blocks) if blocks is not None else _found(keys)
    if not stacks:
        raise PlanError(
            "layer_decay needs numbered blocks (layers.0, layers.1, ...), and the keys have none "
            f"({quote_list(list(keys), 3)}); give blocks, or leave layer_decay out"
        )
    result = {}
    for place, key in enumerate(keys):
        if key in home:
            stack, block = home[key]
            result[key] = (stack.order.index(block) + 1, len(stack.order) + 1)
            continue
        stack = _nearest(key, place, stacks)
        result[key] = (0 if place < stack.last else len(stack.order) + 1, len(stack.order) + 1)
    return result


Home = dict[str, tuple[_Stack, str]]


def _given(keys: Mapping[str, int], blocks: str) -> tuple[Home, list[_Stack]]:
    regex, budget = compile_regex(blocks), Budget()
    stacks: dict[str, _Stack] = {}
    home: Home = {}
    for place, key in enumerate(keys):
        match = regex.search(key, budget)
        if match is None or match.group("index") is None:
            continue
        start, end = match.span("index")
        if not key[start:end].isdecimal():
            raise PlanError(
                f"blocks {blocks!r}: the group index matched {key[start:end]!r} in {key!r}, which is no block "
                r"number; write it as (?P<index>\d+)"
            )
        _add(stacks, home, key[:start].rstrip("."), key[:end], key, place, keys[key])
    if not stacks:
        close = nearest(blocks, keys)
        raise PlanError(f"blocks {blocks!r} matches no key; the nearest keys are {quote_list(close)}")
    for stack in stacks.values():
        stack.order.sort(key=lambda name: int(name[len(stack.path) :].strip(".") or 0))
    return home, list(stacks.values())


def _found(keys: Mapping[str, int]) -> tuple[Home, list[_Stack]]:
    stacks: dict[str, _Stack] = {}
    home: Home = {}
    inner = _inner_blocks(keys)
    for place, (key, elements) in enumerate(keys.items()):
        parts = _parts(key)
        at = _number(parts)
        if at is None:
            continue
        path, block = ".".join(parts[:at]), ".".join(parts[: at + 1])
        block = next((label for end in (at + 2, at + 3) if (label := ".".join(parts[:end])) in inner), block)
        _add(stacks, home, path, block, key, place, elements)
    largest = max((s.elements for s in stacks.values() if len(s.order) > 1), default=0)
    kept = [s for s in stacks.values() if len(s.order) > 1 and s.elements >= _SMALLEST_SHARE * largest]
    for stack in kept:
        _settle_stages(stack, home)
    return {key: place for key, place in home.items() if any(place[0] is s for s in kept)}, kept


def _add(
    stacks: dict[str, _Stack], home: Home, path: str, block: str, key: str, place: int, elements: int
) -> None:
    stack = stacks.setdefault(path, _Stack(path, [], place, place))
    if block not in stack.order:
        stack.order.append(block)
    stack.last = place
    stack.elements += elements
    home[key] = (stack, block)


def _inner_blocks(keys: Mapping[str, int]) -> set[str]:
    """The blocks inside stages: ``stages.0.blocks.1``, ``blocks.0.1``, ``layer1.0``.

    A numbered container holds stages when most of its elements lie in numbered parts that are built alike; the
    parts of one block (its attention and its feed-forward layer) are not.
    """
    whole: dict[str, int] = {}
    nested: dict[str, int] = {}
    inside: dict[str, set[str]] = {}
    of: dict[str, str] = {}
    for key, elements in keys.items():
        parts = _parts(key)
        at = _number(parts)
        if at is None:
            continue
        path = ".".join(parts[:at])
        whole[path] = whole.get(path, 0) + elements
        second = next((i for i in (at + 1, at + 2) if i < len(parts) - 1 and parts[i].isdigit()), None)
        # A block has parts; the layers of a small Sequential have none.
        if second is not None and len(parts) > second + 2:
            label = ".".join(parts[: second + 1])
            nested[path] = nested.get(path, 0) + elements
            inside.setdefault(label, set()).add(".".join(parts[second + 1 :]))
            of[label] = path
    labels: dict[str, list[str]] = {}
    for label, path in of.items():
        labels.setdefault(path, []).append(label)
    return {
        label
        for path, own in labels.items()
        if 2 * nested[path] > whole[path] and _alike([inside[each] for each in own])
        for label in own
    }


def _alike(parts: list[set[str]]) -> bool:
    """Whether most neighbours have mostly the same names inside."""
    pairs = list(pairwise(parts))
    same = sum(2 * len(one & other) > len(one | other) for one, other in pairs)
    return 2 * same > len(pairs)


def _parts(key: str) -> list[str]:
    """The parts of a key; ``layer1`` of ``layer1.0.conv1.weight`` is a number too, since blocks lie below it."""
    parts = key.split(".")
    split: list[str] = []
    for place, part in enumerate(parts):
        stem = part.rstrip("0123456789")
        if stem not in ("", part) and place + 3 < len(parts) and parts[place + 1].isdigit():
            split += [stem, part[len(stem) :]]
        else:
            split.append(part)
    return split


def _number(parts: list[str]) -> int | None:
    return next((i for i, part in enumerate(parts[:-1]) if part.isdigit()), None)


def _settle_stages(stack: _Stack, home: Home) -> None:
    """What a stage has beside its blocks (its downsampling) goes with the stage's first block."""
    stages = [name for name in stack.order if any(other.startswith(name + ".") for other in stack.order)]
    for stage in stages:
        first = next(other for other in stack.order if other.startswith(stage + "."))
        for key, (own, block) in home.items():
            if own is stack and block == stage:
                home[key] = (stack, first)
        stack.order.remove(stage)


def _nearest(key: str, place: int, stacks: list[_Stack]) -> _Stack:
    """The stack whose path shares the most with a key; among equals the next one in order, else the last."""

    def shared(stack: _Stack) -> int:
        count = 0
        for one, other in zip(_parts(key), stack.path.split("."), strict=False):
            if one != other:
                break
            count += 1
        return count

    most = max(shared(stack) for stack in stacks)
    close = [stack for stack in stacks if shared(stack) == most]
    return next((stack for stack in close if place < stack.last), close[-1])
