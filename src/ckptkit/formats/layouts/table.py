"""The table of layouts, in the order in which they are asked. docs/formats.md shows it."""

from __future__ import annotations

from . import hub, parallel, training

TABLE = (*parallel.LAYOUTS, *hub.LAYOUTS, *training.LAYOUTS)


def as_markdown() -> str:
    """The table as it stands in the docs."""
    head = "| a folder is | told by | opened is | beside it | refused, and the next step |\n|---|---|---|---|---|\n"
    return head + "".join(
        f"| {each.name} | {each.markers} | {each.checkpoint} | {each.beside} | {each.refused} |\n"
        for each in TABLE
    )
