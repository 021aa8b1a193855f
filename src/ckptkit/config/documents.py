"""Strict reading of YAML, JSON and TOML: no aliases, tags, duplicates or surprises; small and shallow."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ConfigError
from ..files.regular import open_regular
from ..text import clipped, quoted, single_quoted
from ..yaml_text import YAML_1_1_BREAK
from .places import line_of
from .slips import json_slip, malformed, without_blank

SUFFIXES = (".yaml", ".yml", ".json", ".toml")
MAX_BYTES = 1_000_000
MAX_DEPTH = 100
MAX_VALUES = 50_000  # YAML takes a thousand bytes for each, the report of a wrong one even more


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a config file by its suffix; as `read_with_lines`, without the lines."""
    return read_with_lines(path)[0]


def read_with_lines(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], Callable[[str], int | None]]:
    """Read a config file by its suffix.

    Args:
        path: a ``.yaml``, ``.yml``, ``.json`` or ``.toml`` file of at most 1 MB, nested at most 100 deep.

    Returns:
        The top-level mapping, and what tells the line of a field, if it is known.

    Raises:
        ConfigError: unreadable, malformed, an unknown suffix, or no mapping at the top level.
    """
    name = os.fspath(path)
    suffix = Path(name).suffix.lower()
    readers = dict(zip(SUFFIXES, (_yaml, _yaml, _json, _toml), strict=True))
    if suffix not in readers:
        raise ConfigError(
            f"{name}: a config file ends in .yaml, .yml, .json or .toml, not in {quoted(suffix)}", file=name
        )
    text = _text(name)
    try:
        document = readers[suffix](text)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.message}", file=name) from None
    except RecursionError:
        raise ConfigError(f"{name}: nested more than {MAX_DEPTH} deep", file=name) from None
    if document is None:
        raise ConfigError(
            f"{name}: the file is empty, and a config that says nothing is more often a mistake than meant; write {{}} for "
            "all defaults",
            file=name,
        )
    if not isinstance(document, dict):
        slip = without_blank([document])
        raise ConfigError(
            f"{name}: the top level must be a mapping, not a {type(document).__name__}; "
            + (slip or "write the field that it is for above it, as in rules:"),
            file=name,
        )
    _check_size(document, name)
    return document, partial(line_of, text, suffix)


def _text(name: str) -> str:
    with open_regular(name) as file:
        raw: bytes = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES} bytes, which no config needs", file=name)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 text (byte {error.start})", file=name) from None
    return text


def _check_size(document: Any, name: str) -> None:
    level, count = [document], 0
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        count += len(level)
        if count > MAX_VALUES:
            raise ConfigError(f"{name}: {_TOO_MANY}", file=name)
        if not level:
            return
    raise ConfigError(f"{name}: nested more than {MAX_DEPTH} deep", file=name)


_TOO_MANY = f"more than {MAX_VALUES} values, which no config needs"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ConfigError(f"the field {quoted(key)} stands twice in one object")
            seen.add(key)
    return result


def _no_constant(name: str) -> NoReturn:
    raise ConfigError(f"{name} is not a JSON number")


def _small_int(digits: str) -> int:
    if len(digits) > 30:
        raise ConfigError(f"the number {digits[:12]}... has {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ConfigError(f"the number {digits[:20]} is too large")
    return number


def _json(text: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_small_int,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"malformed JSON in line {error.lineno}, column {error.colno}: {json_slip(error.msg, text, error.pos)}"
        ) from None


# Strings and comments of TOML, each matched to its end, or to where a malformed one could end at the latest.
_TOML_TEXT = re.compile(
    r"""["]{3}(?:[^"\\]|\\.?|"{1,2}(?!"))*+"{0,5}"""
    r"""|[']{3}(?:[^']|'{1,2}(?!'))*+'{0,5}"""
    r"""|"(?:[^"\\\n]|\\[^\n])*+["\\]?"""
    r"""|'[^'\n]*+'?|#[^\n]*+""",
    re.DOTALL,
)


def _toml(text: str) -> Any:
    # tomllib takes quadratic time and memory for the parts of a dotted key, so they are counted first.
    for run in re.finditer(r"[A-Za-z0-9_\-. \t]+", _TOML_TEXT.sub("_", text)):
        if run[0].count(".") >= MAX_DEPTH:
            raise ConfigError(f"nested more than {MAX_DEPTH} deep")
    try:
        return tomllib.loads(text, parse_float=_finite)
    except tomllib.TOMLDecodeError as error:
        mend = ""
        if "Unescaped '\\'" in str(error):
            mend = "; a backslash in double quotes begins an escape; use single quotes"
        elif "Invalid value" in str(error):
            mend = "; text stands in quotes, a list in [ ], and true and false have small letters"
        raise ConfigError(f"malformed TOML: {clipped(str(error))}{mend}") from None
    except ValueError:
        raise ConfigError("malformed TOML: a number has too many digits") from None


def _yaml_float(loader: Any, node: Any) -> float:
    return _finite(loader.construct_scalar(node))


def _yaml(text: str) -> Any:
    import yaml

    hidden = YAML_1_1_BREAK.search(text)
    if hidden is not None:
        line = text.count("\n", 0, hidden.start()) + 1
        raise ConfigError(
            f"line {line}: the character {hidden[0]!r} ends a line for some readers of YAML and not for others, nor for "
            "editors; write it as an escape in double quotes, or end the line with a line feed"
        )

    class Loader(yaml.SafeLoader):
        """YAML's plain data only: what JSON can say."""

        depth = 0
        count = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            where = f"line {event.start_mark.line + 1}"
            if isinstance(event, yaml.events.AliasEvent):
                raise ConfigError(
                    f"{where}: YAML aliases (*{clipped(str(event.anchor))}) are not allowed; write the value out, or "
                    f"put a pattern in quotes: {single_quoted('*' + str(event.anchor))}"
                )
            if event.anchor:
                raise ConfigError(
                    f"{where}: YAML anchors (&{clipped(str(event.anchor))}) are not allowed; write the value out"
                )
            if getattr(event, "tag", None):
                raise ConfigError(f"{where}: YAML tags ({clipped(event.tag)}) are not allowed")
            self.count += 1
            if self.count > MAX_VALUES:
                raise ConfigError(f"{where}: {_TOO_MANY}")
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise ConfigError(f"{where}: nested more than {MAX_DEPTH} deep")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                where = f"line {key_node.start_mark.line + 1}"
                if not isinstance(key_node, yaml.ScalarNode):
                    raise ConfigError(f"{where}: a field name must be plain text")
                if key_node.tag == "tag:yaml.org,2002:merge":
                    raise ConfigError(f"{where}: YAML merge keys (<<) are not allowed")
                key = self.construct_object(key_node)
                if key in seen:
                    raise ConfigError(f"{where}: the field {quoted(key)} stands twice")
                seen.add(key)
            return super().construct_mapping(node, deep=True)

    # YAML 1.2 numbers: 1e-3 is a number, 1_000 and 0o17 and 12:30:45 and dates are text.
    Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag.rsplit(":", 1)[1] in ("null", "merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
    )
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,29})$"), list("-+0123456789")
    )
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(
            r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?|[0-9]+[eE][-+]?[0-9]{1,3})$"
        ),
        list("-+.0123456789"),
    )
    Loader.add_constructor("tag:yaml.org,2002:float", _yaml_float)
    try:
        loader = Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(malformed(error, text)) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"malformed YAML: {clipped(str(error).splitlines()[0])}") from None
