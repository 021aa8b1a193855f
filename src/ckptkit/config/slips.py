"""Slips that people make when they write a config by hand, and how to mend them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..text import clipped, single_quoted

_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|$)')
_WITHOUT_BLANK = re.compile(r"([A-Za-z_]+):([^\s:]\S*)")
_FIELD_WITHOUT_BLANK = re.compile(r"\s*(?:-\s+)*([A-Za-z_]+):([^\s:]\S*)\s*")
_VALUE = re.compile(r"\s*(?:-\s+)*(?:[\w.]+:\s+)?")


def malformed(error: Any, text: str) -> str:
    """What is wrong with a YAML file, in the words of who wrote it where the slip is known.

    Args:
        error: a `yaml.MarkedYAMLError`.
        text: the file.
    """
    mark, problem = error.problem_mark, str(error.problem or error.context)
    if mark is None:
        return f"malformed YAML: {clipped(problem)}"
    lines = text.split("\n")
    here, before = (lines[n] if 0 <= n < len(lines) else "" for n in (mark.line, mark.line - 1))
    if "unexpected end of stream" in problem and error.context_mark:
        slip: str | None = (
            f"the end of the file is inside a quote that begins in line {error.context_mark.line + 1}"
        )
    else:
        slip = _slip(problem, here, mark.column, before)
    if problem.startswith("expected ',' or") and error.context_mark and error.context_mark.line != mark.line:
        slip = f"{slip}; the first one begins in line {error.context_mark.line + 1}"
    return f"malformed YAML in line {mark.line + 1}, column {mark.column + 1}: {slip or clipped(problem)}"


def json_slip(problem: str, text: str, at: int) -> str:
    """What is wrong with a JSON file at a place, in the words of who wrote it where the slip is known.

    Args:
        problem: what Python says.
        text: the file.
        at: the index of the place.
    """
    before, after = text[max(at - 200, 0) : at].rstrip(), text[at : at + 200].lstrip()
    if "escape" in problem:
        return f"{problem}; every backslash is written twice in JSON"
    if (before.endswith(",") and after[:1] in ("}", "]")) or "trailing comma" in problem:
        return "a comma stands before a closing bracket; leave it out"
    if after[:1] == "'":
        return "text stands in double quotes in JSON, not in single ones"
    if after[:2] in ("//", "/*") or after[:1] == "#":
        return "JSON has no comments; leave it out, or write YAML"
    if after[:4] in ("True", "Fals", "None"):
        return "JSON writes true, false and null"
    return problem


def _slip(problem: str, line: str, column: int, before: str) -> str | None:
    """The slip and its mend; None when it is none that is known."""
    if "unknown escape character" in problem:
        for found in _DOUBLE_QUOTED.finditer(line):
            if found.start() < column <= found.end():
                raw = found[1].replace('\\"', '"').replace("\\\\", "\\")
                return (
                    f"a backslash in double quotes begins an escape; use single quotes: {single_quoted(raw)}"
                )
        return "a backslash in double quotes begins an escape; use single quotes"
    if "expected alphabetic or numeric character" in problem:
        start = max(line.rfind("*", 0, column + 1), line.rfind("&", 0, column + 1))
        return _begins_with_sign(line[start:]) if start >= 0 else None
    if "found character '\\t'" in problem:
        return "a tab stands where YAML wants blanks; indent with blanks"
    if "that cannot start any token" in problem:
        return _begins_with_sign(line[column:])
    if problem.startswith("mapping values are not allowed"):
        field = _FIELD_WITHOUT_BLANK.fullmatch(before)
        return _blank_missing(field) if field else _colon(line)
    if problem.startswith("expected <block end>, but found '<scalar>'"):
        value = line[_value_start(line) :].strip()
        if value.startswith("'"):
            return "a single quote inside single quotes is written twice, ''"
        return (
            f"a value that begins with {value[:1]} stands in quotes: {single_quoted(value)}"
            if value
            else None
        )
    if problem.startswith("expected ',' or"):
        return "a value in brackets that holds a bracket, a brace or a colon stands in quotes, and each bracket is closed"
    return None


def _begins_with_sign(text: str) -> str:
    """The mend of a value whose first sign means something to YAML."""
    value = re.split(r"[\s,\]}]", text, maxsplit=1)[0]
    return f"a value that begins with {value[:1]} stands in quotes: {single_quoted(value)}"


def without_blank(texts: Iterable[Any], known: Iterable[str] = ()) -> str | None:
    """The mend of ``op:drop``, which is a text and no field.

    Args:
        texts: names of fields, or what stands in the place of some.
        known: the names that fields can have; any without.
    """
    for text in texts:
        found = _WITHOUT_BLANK.fullmatch(text) if isinstance(text, str) else None
        if found and (not known or found[1] in known):
            return _blank_missing(found)
    return None


def _blank_missing(found: re.Match[str]) -> str:
    return f"a blank is missing after the colon: {clipped(found[1])}: {clipped(found[2])}"


def _value_start(line: str) -> int:
    found = _VALUE.match(line)
    return found.end() if found else 0


def _colon(line: str) -> str | None:
    value = line[_value_start(line) :].strip()
    if ": " in value or value.endswith(":"):
        return f"a value with a colon and a blank in it stands in quotes: {single_quoted(value)}"
    return None
