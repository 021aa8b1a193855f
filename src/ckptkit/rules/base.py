"""What a rule is: a validated step that turns one set of keyed expressions into the next."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from ..errors import ConfigError, PlanError
from ..expr import Expr, Read
from ..expr.base import MAX_DEPTH, MAX_NODES, countable
from ..expr.growth import LIMIT, check_growth
from ..naming import may_be_strange, strange
from ..patterns import compile_pattern, nearest, select
from ..regexes import compile_regex
from ..rewriting import MAX_TEMPLATE
from ..signatures import TensorInfo
from ..text import quote_list, quoted
from .refusals import check_key, collision
from .spelling import literal_name


def _pattern(text: str) -> str:
    try:
        compile_pattern(text)
    except ConfigError as error:
        raise ValueError(error.message) from None
    return text


def _regex(text: str) -> str:
    if not text:
        raise ValueError("the regular expression is empty and would match between all characters")
    try:
        compile_regex(text)
    except ConfigError as error:
        raise ValueError(error.message) from None
    return text


def _template(text: str) -> str:
    if len(text) > MAX_TEMPLATE:
        raise ValueError(f"the replacement is {len(text)} characters long; {MAX_TEMPLATE} is the limit")
    return text


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text has a lone surrogate, which no file can hold") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Template = Annotated[Text, AfterValidator(_template)]
Pattern = Annotated[Text, AfterValidator(_pattern)]
Regex = Annotated[Text, AfterValidator(_regex)]


def several(value: Any) -> Any:
    """One pattern may stand where a list of them is asked."""
    return [value] if isinstance(value, str) else list(value) if isinstance(value, tuple) else value


if TYPE_CHECKING:
    Patterns = Sequence[str]  # which text is, too
    Keys = Sequence[str]
else:
    Patterns = Annotated[
        list[Pattern], BeforeValidator(several, json_schema_input_type=list[Pattern] | Pattern)
    ]
    Keys = Annotated[
        list[Pattern],
        Field(min_length=1),
        BeforeValidator(
            several, json_schema_input_type=Annotated[list[Pattern], Field(min_length=1)] | Pattern
        ),
    ]


@dataclass(slots=True)
class Entry:
    """One key on its way through the rules.

    Args:
        expr: how it is made from source keys.
        info: its shape and dtype now.
        rules: indices of the rules that touched it.
        tie: whether it is one tensor with the other tied entries of an equal expression.
    """

    expr: Expr
    info: TensorInfo
    rules: tuple[int, ...] = ()
    tie: bool = False


class State:
    """Everything between two rules. Rules replace `entries`, they never change an `Entry`.

    Renames keep every key in its place, so they are noted at the touched places only: a list of
    rules costs what the rules touch, not the number of rules times the number of keys.

    Args:
        entries: the keys in state_dict order.

    Attributes:
        index, rule: the rule at work and its number.
        dropped: (key, rule index, expression) of what was dropped so far.
    """

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.index = 0
        self.rule: Rule | None = None
        self.dropped: list[tuple[str, int, Expr]] = []
        self._entries: dict[str, Entry] | None
        self._keys: list[str]
        self._slots: list[Entry]
        self._places: dict[str, int] | None
        # Depth and nodes of what rules made, by identity: equality would walk through the expression.
        self._weights: dict[int, tuple[Expr, int, int]] = {}
        self._source = {key: entry.info for key, entry in entries.items()}
        self.entries = entries

    @property
    def entries(self) -> dict[str, Entry]:
        """Key to entry, in state_dict order. Replace it as a whole; what is changed inside is lost."""
        if self._entries is None:
            self._entries = dict(zip(self._keys, self._slots, strict=True))
        return self._entries

    @entries.setter
    def entries(self, entries: dict[str, Entry]) -> None:
        self._entries = entries
        self._keys = list(entries)
        self._slots = list(entries.values())
        self._places = None

    @property
    def keys(self) -> list[str]:
        """The keys in state_dict order, as they are called now."""
        return list(self._keys)

    def move(self, renames: Mapping[str, str]) -> None:
        """Rename keys, all at once, each keeping its place.

        Args:
            renames: old to new key, for every touched key, also where both are equal.

        Raises:
            PlanError: two keys would end on one name, or a new name cannot be a key.
        """
        if self._places is None:
            self._places = {key: place for place, key in enumerate(self._keys)}
        places = self._places
        if may_be_strange(renames.values()):
            for key, new in renames.items():
                if new != key:
                    self.check_name(new, key)
        stay = [new for new in renames.values() if new in places and new not in renames]
        if stay or len(set(renames.values())) < len(renames):
            raise self._collision(renames)
        for key, new in renames.items():
            if new != key:
                check_key(new, key)
        # All old names go before the first new one comes: in a swap the two are the same.
        moved = [(places.pop(key), new) for key, new in renames.items()]
        for place, new in moved:
            entry = self._slots[place]
            self._slots[place] = Entry(entry.expr, entry.info, (*entry.rules, self.index), entry.tie)
            self._keys[place] = new
            places[new] = place
        self._entries = None

    def check_name(self, new: str, key: str) -> None:
        """Refuse a name that looks like a slip, unless the rule at work permits it.

        Raises:
            PlanError: with the right spelling, where one is found.
        """
        # Only rules that make names have the field.
        if getattr(self.rule, "allow_literal", None) is False and strange(new, key) is not None:
            raise literal_name(self.rule, key, new)

    def _collision(self, renames: Mapping[str, str]) -> PlanError:
        origin: dict[str, str] = {}
        for key in self._keys:
            new = renames.get(key, key)
            if new in origin:
                return collision(origin[new], key, new)
            origin[new] = key
        raise AssertionError("no two keys end on one name")

    def replace(self, make: Callable[[str, Entry], tuple[Expr, TensorInfo]], keys: Iterable[str]) -> None:
        """Give the touched keys a new expression, in place."""
        fresh = dict(self.entries)
        for key in keys:
            entry = fresh[key]
            expr, info = make(key, entry)
            if expr is not entry.expr:
                self._weigh(expr, key)
            fresh[key] = Entry(expr, info, (*entry.rules, self.index), entry.tie)
        self.entries = fresh

    def rebuild(self, made: Mapping[str, Sequence[tuple[str, Entry]]], gone: Iterable[str] = ()) -> None:
        """Put new keys where old ones stand, all at once.

        Args:
            made: old key to what stands in its place, which may hold the old key again.
            gone: other keys that have become part of something.

        Raises:
            PlanError: two keys would end on one name, or a new name cannot be a key.
        """
        away = set(gone)
        fresh: dict[str, Entry] = {}
        origin: dict[str, str] = {}
        for key, entry in self.entries.items():
            if key in away and key not in made:
                continue
            for name, value in made.get(key, ((key, entry),)):
                if name != key:
                    self.check_name(name, key)
                if name in fresh:
                    raise collision(origin[name], key, name)
                if name != key:
                    check_key(name, key)
                fresh[name] = value
                origin[name] = key
        self.entries = fresh

    def made(self, expr: Expr, key: str, *parts: Entry) -> Entry:
        """An entry that the rule at work makes of others.

        Args:
            expr: over the expressions of `parts`.
            key: the key it is made from, for messages.
            parts: what goes into it.

        Raises:
            PlanError: shapes or dtypes do not suit, or so many operations came together that nobody could carry
                them out; names the key.
        """
        known = {id(part.expr): part.info for part in parts}

        def info_of(node: Expr) -> TensorInfo:
            return known.get(id(node)) or countable(node.infer(tuple(info_of(e) for e in node.of)))

        try:
            info = info_of(expr)
            if info.nbytes > LIMIT:
                check_growth(info, expr.reads(), self._source)
        except PlanError as error:
            raise PlanError(f"{quoted(key)}: {error.message}", key=key) from None
        self._weigh(expr, key)
        rules = {number for part in parts for number in part.rules}
        return Entry(expr, info, (*sorted(rules - {self.index}), self.index), all(part.tie for part in parts))

    def _weigh(self, expr: Expr, key: str) -> None:
        depth, nodes = self._weight(expr)
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            what = (
                f"{MAX_DEPTH} operations one after another"
                if depth > MAX_DEPTH
                else f"{MAX_NODES} operations"
            )
            raise PlanError(
                f"{quoted(key)} would be made by more than {what}; remap in several steps", key=key
            )
        self._weights[id(expr)] = expr, depth, nodes

    def _weight(self, expr: Expr) -> tuple[int, int]:
        depth, nodes = 0, 1
        for e in expr.of:
            if isinstance(e, Read):
                nodes += 1
                continue
            known = self._weights.get(id(e))
            below, more = known[1:] if known is not None else self._weight(e)
            depth = max(depth, below)
            nodes += more
        return depth + 1, nodes

    def remove(self, keys: Iterable[str]) -> None:
        """Drop keys and remember which rule did it."""
        gone = set(keys)
        self.dropped.extend(
            (key, self.index, entry.expr) for key, entry in self.entries.items() if key in gone
        )
        self.entries = {key: entry for key, entry in self.entries.items() if key not in gone}

    def touch(self, keys: Iterable[str]) -> None:
        """Note that the rule touched keys without changing them."""
        self.replace(lambda _, entry: (entry.expr, entry.info), keys)


class Rule(BaseModel):
    """Base of all rules.

    Args:
        required: whether touching nothing (or a pattern without a match) is an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    required: bool = True

    @model_serializer(mode="wrap")
    def _with_op(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The op always stands in a written rule, and first, though it is a default of its class."""
        fields: dict[str, Any] = handler(self)
        return {"op": getattr(self, "op", None), **fields}

    @abstractmethod
    def apply(self, state: State) -> int:
        """Carry the rule out.

        Args:
            state: changed in place.

        Returns:
            How many keys the rule touched.

        Raises:
            PlanError: a collision, a pattern without a match, shapes that do not suit.
        """

    def selected(self, patterns: Sequence[str] | None, keys: Iterable[str]) -> list[str]:
        """The keys the patterns select; every pattern must match unless `required` is false.

        Raises:
            PlanError: a pattern matches nothing; names it and the nearest keys.
        """
        every = list(keys)
        if patterns is None:
            return every
        found = select(patterns, every)
        if found.unmatched and self.required:
            raise PlanError(no_match(found.unmatched[0], "pattern", every))
        return found.keys


class NamingRule(Rule):
    r"""Base of the rules that make names.

    Args:
        allow_literal: whether a new name may have an empty segment, a wildcard or the sign of a group (``*``, ``$1``,
            ``\1``) that the old one has not: without, that is taken for a slip.
    """

    allow_literal: bool = False


def no_match(wanted: str, what: str, keys: Iterable[str]) -> str:
    """The text for a pattern, prefix or key that matches nothing."""
    close = nearest(wanted, keys)
    hint = f"the nearest keys are {quote_list(close)}" if close else "there are no keys at all"
    return f"the {what} {quoted(wanted)} matches no key; {hint}; correct it, or set required: false"


def untouched(rule: Rule, keys: Iterable[str]) -> str:
    """The text for a rule that touches nothing."""
    described: dict[str, Any] = rule.model_dump(exclude_defaults=True, exclude={"required"})
    described.pop("op", None)
    wanted = next((v for v in described.values() if isinstance(v, str)), None)
    shown = ", ".join(f"{k}: {quoted(v)}" for k, v in described.items())
    close = nearest(wanted or "", keys)
    hint = f"; the nearest keys are {quote_list(close)}" if close else "; there are no keys at all"
    return f"it touches no key ({shown}){hint}; correct it, or set required: false"
