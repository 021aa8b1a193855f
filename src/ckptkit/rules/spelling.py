r"""The right spelling of a rule that would make a strange name, tried on the key before it is offered.

People write ``blocks.*.q`` or ``blocks.$1.q`` where ``blocks.\1.q`` is meant, and globs where a regular expression is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError, PlanError
from ..naming import strange
from ..regexes import compile_regex, read_template
from ..text import quoted, single_quoted

_GROUP = re.compile(r"\$([0-9]+)|\$\{([0-9]+)\}|\$\{(\w+)\}|\\\\([0-9]+)|\{(\w+)(?::\w+)?\}|(\*)")
_REPEAT = re.compile(r"(?<![(\\])(?:\\[dw]\+|\[[^\]]*\][+*]|\.[*+])(?![?+)])")


def literal_name(rule: Any, key: str, new: str) -> PlanError:
    """The error for a rule that would give a key a strange name.

    Args:
        rule: which rule.
        key: the name that it has.
        new: the strange one.
    """
    sign = strange(new, key)
    what = f"with {single_quoted(sign)} as it stands" if sign else "with an empty segment"
    offer = next(_offers(rule, key, bool(sign)), None)
    if offer is not None:
        advice = f"did you mean {offer}? "
    elif sign in ("?", "["):
        advice = "wildcards are for patterns, a new name is written out; "
    elif sign:
        advice = r"write '\1' for the text of the first group in the pattern; "
    else:
        advice = "change the dots in the rule; "
    return PlanError(
        f"{quoted(key)} would become {single_quoted(new)}, {what}; {advice}allow_literal: true permits it",
        key=key,
    )


def _offers(rule: Any, key: str, sign: bool) -> Iterator[str]:
    if rule.op == "strip_prefix":
        prefix = f"{rule.prefix}."
        if key.startswith(prefix) and strange(key.removeprefix(prefix), key) is None:
            yield f"prefix {single_quoted(prefix)}"
    elif rule.op == "add_prefix":
        prefix = _closed(rule.prefix.lstrip("."))
        if prefix not in ("", rule.prefix) and strange(prefix + key, key) is None:
            yield f"prefix {single_quoted(prefix)}"
    else:
        for field, pattern, template in _pairs(rule):
            if not _makes_strange(rule.op, pattern, template, key):
                continue
            tries = _with_groups(pattern, template) if sign else _with_other_dots(pattern, template)
            for new_pattern, new_template in tries:
                if _suits(rule.op, new_pattern, new_template, key):
                    yield f"pattern {single_quoted(new_pattern)} with {field} {single_quoted(new_template)}"
                    break


def _pairs(rule: Any) -> Iterator[tuple[str, str, str]]:
    """Field, pattern and template of everything in a rule that makes names."""
    if rule.op == "rename":
        yield from (("replacement", *pair) for pair in rule.rewrites)
        return
    templates = rule.into if isinstance(rule.into, list) else [rule.into]
    patterns = rule.patterns if rule.op == "concat" else [rule.pattern]
    yield from (("into", p, t) for p in patterns if p is not None for t in templates)


def _names(op: str, pattern: str, template: str, key: str) -> str | None:
    """The name that a pattern and a template make of a key; None where they make none."""
    try:
        regex, read = compile_regex(pattern), read_template(pattern, template)
        if op == "rename":
            new, count = regex.subn(read, key)
            return new if count else None
        match = regex.fullmatch(key)
    except (ConfigError, PlanError):
        return None
    if match is None:
        return None
    new = read.fill(match)
    return new.replace("{index}", "0") if op == "unstack" else new


def _makes_strange(op: str, pattern: str, template: str, key: str) -> bool:
    new = _names(op, pattern, template, key)
    return new is not None and strange(new, key) is not None


def _suits(op: str, pattern: str, template: str, key: str) -> bool:
    new = _names(op, pattern, template, key)
    return bool(new) and new != key and strange(str(new), key) is None


def _with_groups(pattern: str, template: str) -> Iterator[tuple[str, str]]:
    r"""The template with ``\1`` for what was meant so, and the pattern with groups where it has none yet."""
    numbers = iter(range(1, 100))

    def spelled(found: re.Match[str]) -> str:
        number, braced, name, escaped, field, star = found.groups()
        if star:
            return f"\\{next(numbers)}"
        if field == "index":  # of unstack, which fills it in itself
            return found[0]
        return f"\\{number or braced or escaped}" if number or braced or escaped else f"\\g<{name or field}>"

    grouped = _GROUP.sub(spelled, template)
    yield pattern, grouped
    yield from ((each, grouped) for each in _grouped(pattern))


def _grouped(pattern: str) -> Iterator[str]:
    """A pattern with groups: a glob as a regular expression, or with brackets about its repeats."""
    plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if "*" in plain and not re.search(r"[\\()+|^$]", plain):
        pieces = [re.escape(piece) for piece in plain.split("*")]
        for group in (r"(\d+)", r"([^.]+)", "(.*)"):
            yield "^" + group.join(pieces)
    yield _REPEAT.sub(r"(\g<0>)", pattern)


def _with_other_dots(pattern: str, template: str) -> Iterator[tuple[str, str]]:
    yield pattern, _closed(template)
    for end in (template.rstrip("."), template.lstrip("."), template.strip(".")):
        yield pattern, _closed(end)
    yield f"{pattern.removesuffix('$')}\\.", template
    yield f"\\.{pattern}", template


def _closed(text: str) -> str:
    return re.sub(r"\.{2,}", ".", text)
