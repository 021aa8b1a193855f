"""Quoting what was pasted: never more of it than a person reads."""

from __future__ import annotations

SHORT = 120  # characters


def short(text: str, most: int = SHORT) -> str:
    """A text in full, or its beginning and its end.

    Args:
        text: a key, a name, a line.
        most: characters of the result.
    """
    return text if len(text) <= most else f"{text[: most * 2 // 3]}...{text[-(most // 4) :]}"
