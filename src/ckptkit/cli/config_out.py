"""``-o FILE`` of the commands that find rules: the config as a file, which is never half and never in place of another."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..text import quoted
from ..yaml_text import write_yaml
from .output import print_note

if TYPE_CHECKING:
    from ..config.load import LoadConfig
    from ..findings import Finding


def check_config_name(path: str | None) -> None:
    """Refuse a name, before any work is done, that no command would read as a config.

    Raises:
        UsageError: neither YAML nor JSON.
    """
    if path is not None and os.path.basename(path) and not path.lower().endswith((".yaml", ".yml", ".json")):
        raise UsageError(
            f"-o {quoted(path)}: rules are written as .yaml, .yml or .json, by which remap reads them"
        )


_OF_FILES = {
    "version",
    "description",
    "root",
    "rules",
}  # what remap carries out; all else is for a load alone


def write_fix(
    path: str,
    findings: Sequence[Finding],
    *,
    overwrite: bool,
    before: LoadConfig | None = None,
    checkpoint: str | None = None,
) -> None:
    """Write the fixes that hold together as one LoadConfig, and say what to do with it.

    Args:
        path: the file.
        findings: best first.
        overwrite: whether a file that is there may be replaced.
        before: the config under which they were found.
        checkpoint: the file that they are about, where it is known.

    Raises:
        UsageError: no config repairs this.
        WriteError: as `write_config`.
    """
    from ..composing import document
    from ..config.load import LoadConfig as Config

    fields = document(findings, before)
    if fields is None:
        advice = findings[0].fix.advice if findings and findings[0].fix is not None else ""
        title = findings[0].title if findings else "nothing is known of it"
        raise UsageError(f"there is no config that repairs this: {title}; {advice}".rstrip("; "))
    Config.parse(fields)
    write_config(path, fields, overwrite=overwrite)
    if set(fields) <= _OF_FILES:
        name = "CHECKPOINT" if checkpoint is None else shlex.quote(checkpoint)
        then = f"python -m ckptkit remap {name} FIXED --config {shlex.quote(path)}"
    else:
        name = '"CHECKPOINT"' if checkpoint is None else json.dumps(checkpoint)
        # What changes shapes, or leaves keys to the model, is no change of a file.
        then = f"ckptkit.load(model, {name}, {json.dumps(path)})"
    print_note(f"wrote {Path(path)}; next: {then}")


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
