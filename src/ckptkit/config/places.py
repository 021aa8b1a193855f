"""On which line of a config file a field stands."""

from __future__ import annotations

import re
from typing import Any

_LARGEST = 200_000  # characters that are looked through without a parser in C


def line_of(text: str, suffix: str, location: str) -> int | None:
    """The line of a field, or of what should hold it; None when that is not known.

    Args:
        text: a config that was read without a complaint.
        suffix: of its file.
        location: e.g. ``rules.3.pattern``.
    """
    if suffix == ".toml":
        return _in_toml(text, location)
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if loader is yaml.SafeLoader and len(text) > _LARGEST:
        return None
    try:
        # JSON is YAML but for its tabs, which stand between values only.
        node = yaml.compose(text.replace("\t", " ") if suffix == ".json" else text, Loader=loader)
    except yaml.YAMLError:
        return None
    return _in_node(node, location, yaml)


def _in_node(node: Any, location: str, yaml: Any) -> int | None:
    line: int | None = None
    while location and node is not None:
        inside = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = str(key.value)
                if location == name or location.startswith(f"{name}."):
                    line, inside, location = key.start_mark.line + 1, value, location[len(name) + 1 :]
                    break
        elif isinstance(node, yaml.SequenceNode):
            number, _, rest = location.partition(".")
            if number.isdecimal() and int(number) < len(node.value):
                inside, location = node.value[int(number)], rest
                line = inside.start_mark.line + 1
        node = inside
    return line


def _in_toml(text: str, location: str) -> int | None:
    if '"""' in text or "'''" in text:
        return None  # what looks like a field may be text
    wanted = location.split(".")
    counts: dict[str, int] = {}
    here: list[str] = []
    line = None
    for number, content in enumerate(text.splitlines(), 1):
        array = re.match(r"\s*\[\[\s*(\w+)\s*\]\]", content)
        table = re.match(r"\s*\[\s*(\w+)\s*\]", content)
        if array:
            counts[array[1]] = counts.get(array[1], -1) + 1
            here = [array[1], str(counts[array[1]])]
        elif table:
            here = [table[1]]
        field = re.match(r"""\s*["']?(\w+)["']?\s*=""", content)
        path = [*here, field[1]] if field else here
        if (array or table or field) and wanted[: len(path)] == path:
            line = number
    return line
