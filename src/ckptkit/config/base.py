"""What all configs share: frozen, strict, all problems reported at once with their locations."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ..errors import ConfigError, Problem
from ..text import clipped, quoted
from ..yaml_text import write_yaml
from .documents import read_with_lines
from .plain import strange_values
from .slips import without_blank

MAX_SHOWN = 50  # problems in a message; the error has all


def _number_one(value: Any) -> Any:
    """A literal is compared by ==, and True and 1.0 are equal to 1."""
    if type(value) is not int:
        raise ValueError(f"must be 1, the only version there is, not {quoted(value)}")
    return value


class Config(BaseModel):
    """Base of all configs.

    Args:
        version: of the config format; 1.
        description: what it is for, in the author's words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)
    listed: ClassVar[str]  # the field that a list given in the config's place is for

    version: Annotated[Literal[1], BeforeValidator(_number_one)] = 1
    description: str | None = None

    def __init__(self, /, **fields: Any) -> None:
        problems = strange_values(fields)
        if not problems:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                found = error.errors(include_url=False)
                problems = [_problem(detail, type(self), fields) for detail in found]
        if problems:
            raise _config_error(problems, type(self), None)

    @classmethod
    def parse(
        cls, document: Any, *, file: str | None = None, line_of: Callable[[str], int | None] | None = None
    ) -> Self:
        """A config from plain data.

        Args:
            document: mappings, lists, strings and numbers as a config file holds them.
            file: the file it came from, for messages.
            line_of: tells the line of a field in it, for messages.

        Raises:
            ConfigError: with one `Problem` for everything that is wrong.
        """
        if not isinstance(document, Mapping):
            where = f"{file}: " if file else ""
            raise ConfigError(
                f"{where}a {cls.__name__} is a mapping, not a {type(document).__name__}", file=file
            )
        if "op" in document and "rules" in cls.model_fields:
            where = f"{file}: " if file else ""
            raise ConfigError(
                f"{where}this is one rule, and a config has a list of them; write rules: above it, and - before op",
                file=file,
            )
        fields = {name: value for name, value in document.items() if isinstance(name, str)}
        problems = [
            Problem(
                quoted(name), "a field name must be text; known fields are " + ", ".join(cls.model_fields)
            )
            for name in document
            if not isinstance(name, str)
        ]
        try:
            config = cls(**fields)
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise _config_error(problems, cls, file, line_of)
        return config

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read a config from a YAML, JSON or TOML file.

        Raises:
            ConfigError: with one `Problem` for everything that is wrong.
        """
        document, line_of = read_with_lines(path)
        return cls.parse(document, file=os.fspath(path), line_of=line_of)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `parse` reads back; defaults are left out."""
        fields = self.model_dump(exclude_defaults=True)
        return {"version": self.version, **{k: v for k, v in fields.items() if k != "version"}}

    def to_yaml(self) -> str:
        """The config as YAML that `from_file` reads back; defaults are left out."""
        return write_yaml(self.to_dict())


def _config_error(
    problems: list[Problem],
    cls: type[Config],
    file: str | None,
    line_of: Callable[[str], int | None] | None = None,
) -> ConfigError:
    def told(problem: Problem) -> str:
        line = line_of(problem.location) if line_of else None
        return f"{problem.location}{f' (line {line})' if line else ''}: {problem.message}"

    where = f"{file}: " if file else ""
    if len(problems) == 1:
        message = f"{where}{told(problems[0])}"
    else:
        lines = [f"  {told(problem)}" for problem in problems[:MAX_SHOWN]]
        if len(problems) > MAX_SHOWN:
            lines.append(f"  and {len(problems) - MAX_SHOWN} more")
        message = "\n".join([f"{where}{len(problems)} problems in this {cls.__name__}:", *lines])
    return ConfigError(message, file=file, problems=problems)


def _problem(detail: Any, cls: type[Config], document: Any) -> Problem:
    """One pydantic error as location and plain words."""
    location, _ = _walk(detail["loc"], document)
    kind, context, given = detail["type"], detail.get("ctx", {}), detail.get("input")
    name = clipped(str(detail["loc"][-1])) if detail["loc"] else ""
    if kind == "extra_forbidden":
        known = _fields(cls, detail["loc"])
        close = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        message = (
            f"unknown field; {hint}{'K' if hint else 'k'}nown fields are {', '.join(known)}"
            if known
            else "unknown field"
        )
        slip = without_blank([name], known)
        message = slip or message
    elif kind == "union_tag_invalid":
        tag = clipped(str(context.get("tag")))
        known = [t.strip().strip("'") for t in str(context.get("expected_tags", "")).split(",")]
        close = difflib.get_close_matches(tag, known, 1, 0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        location = f"{location}.op" if location else "op"
        message = f"unknown op {quoted(tag)}; {hint}{'K' if hint else 'k'}nown ops are {', '.join(known)}"
    elif kind == "union_tag_not_found":
        slip = without_blank(given if isinstance(given, dict) else (), ("op",))
        message = slip or "a rule needs the field op, e.g. op: rename"
    elif kind == "missing":
        message = "this field is required"
    elif kind == "value_error":
        message = str(context.get("error", detail["msg"]))
    else:
        message = _MUST.get(kind) or re.sub("^Input should be ", "must be ", clipped(str(detail["msg"])))
        if not isinstance(given, dict | list) or len(quoted(given)) < 60:
            message += f", not {quoted(given)}"
        slip = without_blank([given], ("op",)) or _slip(kind, given)
        message += f"; {slip}" if slip else ""
    return Problem(location or "config", message)


_MUST = {
    "list_type": "must be a list",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "dict_type": "must be a mapping of fields",
    "model_type": "must be a mapping of fields",
    "model_attributes_type": "must be a mapping of fields, e.g. {op: drop, keys: [a.*]}",
}


def _slip(kind: str, given: Any) -> str | None:
    """How to write what was meant, where its type alone is wrong."""
    if kind == "list_type" and isinstance(given, Mapping):
        return "put [ ] around it, or begin it with - in YAML"
    if kind == "string_type" and isinstance(given, int | float):
        return f"put it in quotes: '{str(given).lower() if isinstance(given, bool) else given}'"
    if kind in ("bool_type", "int_type", "float_type") and isinstance(given, str):
        return "write true or false, without quotes" if kind == "bool_type" else "write it without quotes"
    return None


def _walk(loc: tuple[int | str, ...], document: Any) -> tuple[str, Any]:
    """The location as a reader of the file would write it: union tags that pydantic adds are left out."""
    parts: list[str] = []
    node = document
    for position, step in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(node, Mapping) and step in node:
            node = node[step]
        elif isinstance(node, list | tuple) and isinstance(step, int) and step < len(node):
            node = node[step]
        elif not last or (isinstance(node, Mapping) and node.get("op") == step):
            continue
        elif isinstance(node, str) or (isinstance(step, str) and not isinstance(node, Mapping)):
            continue  # text that stands for a list of one; nothing in it has a name
        else:
            node = None
        parts.append(clipped(str(step)))
    return ".".join(parts), node


def _fields(cls: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The known fields of the model that an unknown field was given to."""
    if len(loc) == 1:
        return list(cls.model_fields)
    field = cls.model_fields.get(str(loc[0]))
    if field is None:
        return []
    stack: list[Any] = [field.annotation]
    while stack:
        annotation = stack.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            op = annotation.model_fields.get("op")
            if op is None or op.default in loc:
                return list(annotation.model_fields)
        stack.extend(get_args(annotation))
    return []
