"""The ``_metadata`` of a state_dict (module path to version), carried through renames.

torch's `Module.state_dict` stores each module's ``_version`` there, and `_load_from_state_dict`
reads it to migrate old layouts; a rename that lost it would switch those migrations off or on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .expr import Read
from .plans import Plan


def renamed_state_metadata(metadata: Mapping[str, Any] | None, plan: Plan) -> dict[str, Any] | None:
    """Module paths renamed as the keys below them are.

    Args:
        metadata: module path to its entry, "" for the root module; None when the state_dict has none.
        plan: the renames.

    Returns:
        The entries of the modules that the result still has, and the root's.
    """
    if metadata is None:
        return None
    paths: dict[str, str] = {}
    for output in plan.outputs:
        if isinstance(output.expr, Read):
            _note_modules(output.expr.key, output.key, paths)
    result: dict[str, Any] = {}
    for old, entry in metadata.items():
        if old == "":
            result.setdefault("", entry)
        elif old in paths:
            result.setdefault(paths[old], entry)
    return result


def _note_modules(old: str, new: str, paths: dict[str, str]) -> None:
    """From one renamed key: which module path became which, upwards while the names below agree."""
    while True:
        old_parent, old_dot, old_leaf = old.rpartition(".")
        new_parent, new_dot, new_leaf = new.rpartition(".")
        if not old_dot or not new_dot or old_leaf != new_leaf or old_parent in paths:
            return
        paths[old_parent] = new_parent
        old, new = old_parent, new_parent
