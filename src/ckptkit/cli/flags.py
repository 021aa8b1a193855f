"""The short forms of rules: options that become rules in the order written, and errors that name them."""

from __future__ import annotations

import re
import shlex
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..errors import CkptkitError, Problem

_SHORT_FORMS = (
    ("--strip-prefix", ("P",), "remove a prefix, once, from the keys that carry it"),
    ("--add-prefix", ("P",), "put a prefix before every key"),
    ("--rename", ("PATTERN", "REPLACEMENT"), "rewrite keys as Python's re.sub does"),
    ("--drop", ("PATTERN",), "drop the keys that a glob, or re:EXPR, matches"),
    ("--keep", ("PATTERN",), "keep only the keys that a glob, or re:EXPR, matches"),
    ("--cast", ("DTYPE",), "change the dtype of floating tensors"),
)
_SPELLING = re.compile(r"(?:pattern ('(?:[^']|'')*') with replacement|prefix) ('(?:[^']|'')*')(?=\?)")
_PLACE = re.compile(r"rules\.(\d+)(?![0-9])")


class Flag:
    """One rule given by options.

    Args:
        rule: as plain data.
        text: the options as they were written.
    """

    def __init__(self, rule: dict[str, Any], text: str) -> None:
        self.rule = rule
        self.text = text


class _RuleAction(Action):
    """Collects rules in one list, whatever option they come from."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        flags: list[Flag] = list(getattr(namespace, "flags", None) or [])
        text = shlex.join([str(option_string), *values])
        rule = _rule(self.dest, values)
        last = flags[-1] if flags else None
        if last is not None and self.dest in ("keep", "drop") and last.rule["op"] == self.dest:
            # Several in a row mean one rule: the second keep would else look at what the first one left.
            flags[-1] = Flag({**rule, "keys": [*last.rule["keys"], *rule["keys"]]}, f"{last.text} {text}")
        else:
            flags.append(Flag(rule, text))
        namespace.flags = flags


def add_short_forms(parser: ArgumentParser) -> None:
    """Add the options; they end up in ``arguments.flags``."""
    group = parser.add_argument_group("rules, applied in the order written")
    for option, metavar, words in _SHORT_FORMS:
        shown = metavar if len(metavar) > 1 else metavar[0]
        group.add_argument(option, action=_RuleAction, nargs=len(metavar), metavar=shown, help=words)
    parser.set_defaults(flags=[])


def in_options_words(error: CkptkitError, flags: Sequence[Flag], first: int = 0) -> CkptkitError:
    """An error about rules that were given as options, naming those instead of numbers nobody wrote.

    Args:
        error: from reading or planning the rules; any other comes back as it is.
        flags: the rules that were given as options.
        first: the number of the first of them: how many rules of a config come before.
    """
    problems = []
    for problem in error.problems:
        place = _PLACE.match(problem.location)
        number = int(place[1]) - first if place else -1
        if not 0 <= number < len(flags):
            return error
        words = problem.message.replace("; correct it, or set required: false", "; correct it")
        words = words.replace("allow_literal: true permits", "allow_literal: true in a --config permits")
        words = _SPELLING.sub(partial(_as_option, flags[number].rule["op"]), words)
        problems.append(Problem(flags[number].text, words))
    if not problems:
        return error
    message = "\n".join(f"{problem.location}: {problem.message}" for problem in problems)
    return type(error)(message, file=error.file, key=error.key, problems=problems, findings=error.findings)


def _as_option(op: str, found: re.Match[str]) -> str:
    """A spelling as the option to give, for the shell."""
    values = [value[1:-1].replace("''", "'") for value in found.groups() if value]
    return " ".join([f"--{op.replace('_', '-')}", *map(_in_quotes, values)])


def _in_quotes(text: str) -> str:
    return shlex.quote(text) if "'" in text else f"'{text}'"


def _rule(name: str, values: Sequence[str]) -> dict[str, Any]:
    if name == "rename":
        return {"op": "rename", "pattern": values[0], "replacement": values[1]}
    if name in ("keep", "drop"):
        return {"op": name, "keys": [values[0]]}
    return {"op": name, "dtype" if name == "cast" else "prefix": values[0]}
