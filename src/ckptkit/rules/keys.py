"""Rules that rename, keep and drop keys."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ..errors import ConfigError, PlanError
from ..regexes import Budget, compile_regex, read_template, required_literal
from ..rewriting import rewrite
from ..text import quoted
from .base import Keys, NamingRule, Regex, Rule, State, Template, Text, no_match


def _int_keys(value: Any) -> Any:
    """JSON and TOML have text keys only: {"3": 0} means {3: 0}."""
    if not isinstance(value, dict):
        return value
    found: dict[Any, Any] = {}
    for key, new in value.items():
        number = int(key) if isinstance(key, str) and re.fullmatch(r"[0-9]{1,9}", key) else key
        if number in found:
            raise ValueError(f"the number {quoted(number)} stands twice in map")
        found[number] = new
    return found


class StripPrefix(NamingRule):
    """Remove a prefix, once, from the keys that carry it.

    Args:
        prefix: literal text at the start of a key, e.g. ``module.``.
        keys: only among the keys these patterns select.
    """

    op: Literal["strip_prefix"] = "strip_prefix"
    prefix: Annotated[Text, Field(min_length=1)]
    keys: Keys | None = None

    def apply(self, state: State) -> int:
        size = len(self.prefix)
        renames = {
            key: key[size:] for key in self.selected(self.keys, state.keys) if key.startswith(self.prefix)
        }
        if renames:
            state.move(renames)
        return len(renames)


class AddPrefix(NamingRule):
    """Put a prefix before the selected keys (all of them without `keys`).

    Args:
        prefix: literal text, e.g. ``model.``.
        keys: only the keys these patterns select.
    """

    op: Literal["add_prefix"] = "add_prefix"
    prefix: Annotated[Text, Field(min_length=1)]
    keys: Keys | None = None

    def apply(self, state: State) -> int:
        renames = {key: self.prefix + key for key in self.selected(self.keys, state.keys)}
        if renames:
            state.move(renames)
        return len(renames)


class Rename(NamingRule):
    r"""Rewrite keys with `re.sub` semantics.

    Every occurrence of the pattern in a key is replaced; ``\1`` and ``\g<name>`` refer to groups.
    Either `pattern` with `replacement`, or `pairs`, of which the first that matches a key rewrites it.

    Args:
        pattern: a regular expression, searched anywhere in the key.
        replacement: the template for what it matched.
        pairs: several [pattern, replacement]; each key is rewritten by one of them at most.
        keys: only among the keys these patterns select.
    """

    op: Literal["rename"] = "rename"
    pattern: Regex | None = None
    replacement: Template | None = None
    pairs: (
        Annotated[list[Annotated[list[Template], Field(min_length=2, max_length=2)]], Field(min_length=1)]
        | None
    ) = None
    keys: Keys | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pairs is None and (self.pattern is None or self.replacement is None):
            raise ValueError("rename needs pattern and replacement, or pairs")
        if self.pairs is not None and (self.pattern is not None or self.replacement is not None):
            raise ValueError("rename takes either pattern and replacement, or pairs, not both")
        for pattern, replacement in self.rewrites:
            if not pattern:
                raise ValueError("the regular expression is empty and would match between all characters")
            try:
                read_template(pattern, replacement)
            except ConfigError as error:
                raise ValueError(error.message) from None
        return self

    @property
    def rewrites(self) -> list[tuple[str, str]]:
        """The (pattern, replacement) pairs, however they were given."""
        if self.pairs is not None:
            return [(pattern, replacement) for pattern, replacement in self.pairs]
        return [(self.pattern or "", self.replacement or "")]

    def apply(self, state: State) -> int:
        candidates = self.selected(self.keys, state.keys)
        renames, hits = rewrite(candidates, self.rewrites)
        if self.required and self.pairs is not None and 0 in hits:
            raise PlanError(no_match(self.rewrites[hits.index(0)][0], "pair's pattern", candidates))
        if renames:
            state.move(renames)
        return len(renames)


class Renumber(NamingRule):
    r"""Shift or remap the block number of the keys a pattern matches.

    Args:
        pattern: a regular expression with a group ``(?P<index>\d+)``, searched at any place of the key.
        offset: added to the number.
        map: old number to new number; keys with other numbers are left alone.
        keys: only among the keys these patterns select.
    """

    op: Literal["renumber"] = "renumber"
    pattern: Regex
    offset: int | None = None
    map: Annotated[dict[int, int], BeforeValidator(_int_keys), Field(min_length=1)] | None = None
    keys: Keys | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "index" not in compile_regex(self.pattern).groupindex:
            raise ValueError(r"the pattern of renumber needs a group named index, e.g. (?P<index>\d+)")
        if (self.offset is None) == (self.map is None):
            raise ValueError("renumber needs either offset or map")
        if self.map is not None and any(n < 0 for pair in self.map.items() for n in pair):
            raise ValueError("block numbers in map must not be negative")
        return self

    def apply(self, state: State) -> int:
        literal, regex, budget = required_literal(self.pattern), compile_regex(self.pattern), Budget()
        renames: dict[str, str] = {}
        for key in self.selected(self.keys, state.keys):
            match = regex.search(key, budget) if literal in key else None
            if match is None or match.group("index") is None:
                continue
            old = match.group("index")
            if not re.fullmatch(r"[0-9]{1,18}", old):
                raise PlanError(
                    f"renumber: the group index matched {quoted(old)} in {quoted(key)}, which is no block number",
                    key=key,
                )
            if self.map is not None:
                if int(old) not in self.map:
                    continue
                number = self.map[int(old)]
            else:
                number = int(old) + (self.offset or 0)
            if number < 0:
                raise PlanError(
                    f"renumber: {quoted(key)} would get the negative number {number} (offset {self.offset})",
                    key=key,
                )
            start, end = match.span("index")
            renames[key] = f"{key[:start]}{number}{key[end:]}"
        if renames:
            state.move(renames)
        return len(renames)


class Keep(Rule):
    """Keep only the selected keys; the others are dropped.

    Args:
        keys: patterns of the keys to keep.
    """

    op: Literal["keep"] = "keep"
    keys: Keys

    def apply(self, state: State) -> int:
        chosen = set(self.selected(list(self.keys), state.keys))
        state.remove([key for key in state.keys if key not in chosen])
        state.touch(chosen)
        return len(chosen)


class Drop(Rule):
    """Drop the selected keys.

    Args:
        keys: patterns of the keys to drop.
    """

    op: Literal["drop"] = "drop"
    keys: Keys

    def apply(self, state: State) -> int:
        gone = self.selected(list(self.keys), state.keys)
        state.remove(gone)
        return len(gone)
