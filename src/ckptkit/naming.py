"""Names that a slip makes: with an empty segment, or with a wildcard or a group's sign where its text was meant."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SIGN = re.compile(r"\*|\?|\[|\$(?:[0-9]+|&|\{\w+\})|\\(?:[0-9]+|g<)|\{\w+(?::\w+)?\}")
_FIRST = re.compile(r"[*?\[$\\{]")  # of a sign; looking for one of six characters is quick


def strange(new: str, old: str = "-") -> str | None:
    r"""What is strange about a name that another one had not.

    Args:
        new: the name that a key would get.
        old: the name that it has; without, one that has nothing strange.

    Returns:
        "" for an empty segment (``a..b``, ``.a``, ``a.``), the wildcard or sign of a group (``*``, ``?``, ``[``, ``$1``,
        ``${x}``, ``\1``, ``\g<``, ``{x}``), or None.
    """
    if _FIRST.search(new):
        for found in _SIGN.finditer(new):
            if found[0] not in old:
                return found[0]
    return "" if new and _has_gap(new) and not _has_gap(old) else None


def may_be_strange(names: Iterable[str]) -> bool:
    """Whether any of many names may be strange, which is soon known of all together."""
    text = "\n".join(["", *names, ""])
    return bool(_FIRST.search(text)) or any(gap in text for gap in ("..", "\n.", ".\n"))


def _has_gap(name: str) -> bool:
    return not name or ".." in name or name.startswith(".") or name.endswith(".")
