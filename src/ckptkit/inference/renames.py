"""Few anchored rewrites for many moved keys.

The keys form a trie, and each moved key asks for a rewrite of one of its prefixes. Choosing the fewest
(prefix, rewrite) pairs of which the longest that matches wins is the problem of aggregating routing tables;
the bottom-up vote and top-down pass here are those of R. Draves et al., "Constructing optimal IP routing
tables", INFOCOM 1999.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .words import as_regex, shown

Tokens = tuple[str, ...]


@dataclass(slots=True)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    label: Tokens | None = None
    labels: frozenset[Tokens] | None = None  # None: nothing below inherits, so anything may pass by


def rewrites(moves: Iterable[tuple[Tokens, Tokens]]) -> list[tuple[str, str]]:
    r"""Pairs for one rename rule, the most specific first.

    Args:
        moves: templates of source keys and of the target keys they move to; ``{}`` marks an index, ``{1|2}``
            one of these; the n-th index of the one is the n-th of the other.

    Returns:
        (pattern, replacement), each anchored at the start of a key, whole tokens long.
    """
    root = _Node()
    for source, target in moves:
        node = root
        for token in source:
            node = node.children.setdefault(token, _Node())
        node.label = target
    _vote(root)
    found: list[tuple[Tokens, Tokens, bool]] = []
    _emit(root, (), (), found)
    found.sort(key=lambda f: (-len(f[0]), -sum("{" not in t for t in f[0]), f[0]))
    return [(as_regex(pattern), shown(replacement)) for pattern, replacement in (_pair(*f) for f in found)]


def _vote(node: _Node) -> None:
    votes: Counter[Tokens] = Counter()
    for token, child in node.children.items():
        _vote(child)
        if child.labels is None:
            continue
        for label in child.labels:
            if label and _same(token, label[-1]):
                votes[label[:-1]] += 1
    if node.label is not None:
        node.labels = frozenset((node.label,))
    elif votes:
        most = max(votes.values())
        node.labels = frozenset(label for label, n in votes.items() if n == most)


def _same(source: str, target: str) -> bool:
    return source == target or (target == "{}" and bool(_RESTRICTED.fullmatch(source)))


_RESTRICTED = re.compile(r"\{[0-9|]+\}")
_INDEX = re.compile(r"\{([0-9|]*)\}")


def _emit(node: _Node, path: Tokens, inherited: Tokens, found: list[tuple[Tokens, Tokens, bool]]) -> None:
    if node.labels is not None and inherited not in node.labels:
        inherited = min(node.labels, key=lambda label: (len(label), label))
        found.append((path, inherited, node.label is None))
    for token in sorted(node.children):
        plain = _INDEX.sub("{}", token) if "{" in token else token
        _emit(node.children[token], (*path, token), (*inherited, plain), found)


def _pair(source: Tokens, target: Tokens, prefix: bool) -> tuple[str, str]:
    pattern = "^" + r"\.".join(regex(t, grouped=True) for t in source)
    replacement = numbered(".".join(target))
    if not prefix:
        return pattern + "$", replacement
    return pattern + (r"\." if source else ""), replacement + ("." if target else "")


def regex(token: str, *, grouped: bool) -> str:
    r"""A template's token as a regular expression; an index becomes ``(\d+)`` or ``\d+``."""
    parts = _INDEX.split(token)
    text = re.escape(parts[0])
    for choice, literal in zip(parts[1::2], parts[2::2], strict=True):
        inner = choice or r"\d+"
        text += (f"({inner})" if grouped else f"(?:{inner})" if choice else inner) + re.escape(literal)
    return text


def numbered(template: str) -> str:
    r"""A replacement: the n-th ``{}`` becomes ``\n``, written so that no digit after it joins the number."""
    parts = template.replace("\\", "\\\\").split("{}")
    text = parts[0]
    for n, part in enumerate(parts[1:], 1):
        text += (f"\\g<{n}>" if part[:1].isdigit() else f"\\{n}") + part
    return text
