"""What rules do to a name, when nothing but the name is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..patterns import compile_pattern

_BESIDE = {"cast", "copy"}  # the key stays what it is


def renamed(rules: Sequence[dict[str, Any]], key: str) -> str | None:
    """A key's name after rules; None when it is dropped, "" when it becomes something else than it was.

    Args:
        rules: as plain data, of the kinds that a text can give.
        key: of the checkpoint.
    """
    for rule in rules:
        op, keys = rule["op"], rule.get("keys")
        selected = keys is None or any(compile_pattern(each).matches(key) for each in keys)
        if (op == "drop" and selected) or (op == "keep" and not selected):
            return None
        if not selected or op == "keep" or op in _BESIDE:
            continue
        if op == "strip_prefix":
            key = key.removeprefix(str(rule["prefix"]))
        elif op == "add_prefix":
            key = str(rule["prefix"]) + key
        elif op == "rename":
            key = re.sub(str(rule["pattern"]), str(rule["replacement"]), key)
        else:
            return ""
    return key
