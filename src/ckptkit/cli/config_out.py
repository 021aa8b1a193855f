"""``-o FILE`` of the commands that find rules: the config as a file, which is never half and never in place of another."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from ..text import quoted
from ..yaml_text import write_yaml
from .output import print_note


def check_config_name(path: str | None) -> None:
    """Refuse a name, before any work is done, that no command would read as a config.

    Raises:
        UsageError: neither YAML nor JSON.
    """
    if path is not None and os.path.basename(path) and not path.lower().endswith((".yaml", ".yml", ".json")):
        raise UsageError(
            f"-o {quoted(path)}: rules are written as .yaml, .yml or .json, by which remap reads them"
        )


def write_config(path: str, document: Mapping[str, Any], *, overwrite: bool) -> None:
    """Write a config: JSON where the name ends in ``.json``, YAML otherwise.

    Args:
        path: the file.
        document: the config as plain data.
        overwrite: whether a file that is there may be replaced.

    Raises:
        WriteError: the file exists and may not be replaced, the config is larger than any that is read, or the
            system refuses.
    """
    from ..config.documents import MAX_BYTES
    from ..errors import WriteError
    from ..files.atomic import AtomicFile
    from ..files.copy import write_all

    as_json = path.lower().endswith(".json")
    text = json.dumps(document, indent=2) + "\n" if as_json else write_yaml(dict(document))
    data = text.encode()
    if len(data) > MAX_BYTES:
        raise WriteError(
            f"{path}: the rules take {len(data)} bytes, and a config may have {MAX_BYTES}; nothing was written. Without -o, "
            "--json prints them",
            file=path,
        )
    with AtomicFile(path, overwrite=overwrite, fsync=True) as file:
        write_all(file.fd, data, 0)
    for note in file.notes:
        print_note(note)
