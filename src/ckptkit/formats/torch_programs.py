"""Archives that hold a program beside its weights: TorchScript and ``torch.export``. Only the weights are read."""

from __future__ import annotations

import os
from typing import Any

from ..errors import FormatError, UnsupportedFormatError
from ..files.regular import stamp
from .base import Region, Storage
from .described.export import NoWeights, weights
from .described.modules import NoStateDict
from .described.node import Described
from .described.script import script_state
from .json_text import BadJson, parse
from .pickled import Opaque, OrderedNode
from .zip_local import STORED
from .zipfmt import Archive

SCRIPT, EXPORT = "torch script", "torch export"
MAX_CODE = 16 << 20  # bytes of one file of a program
MAX_CONFIG = 256 << 20
_WEIGHTS, _CONFIG, _CONSTANTS = "data/weights/", "_weights_config.json", "data/constants/"


def program_kind(archive: Archive) -> str | None:
    """`SCRIPT` or `EXPORT`; None for an archive without a program."""
    names = archive.entries
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return SCRIPT
    if "archive_format" in names or any(
        name.startswith(("models/", "serialized_exported")) for name in names
    ):
        return EXPORT
    return None


def script_tree(archive: Archive, tree: Any) -> Described:
    """The state_dict of a TorchScript archive.

    Args:
        archive: opened.
        tree: what its ``data.pkl`` describes.

    Raises:
        UnsupportedFormatError: the program says in another way which attributes are saved.
    """

    def code(name: str) -> str | None:
        if f"code/{name}" not in archive.entries:
            return None
        try:
            return archive.read(f"code/{name}", MAX_CODE).decode()
        except UnicodeDecodeError:
            raise NoStateDict(f"the file code/{name[:120]} is no text") from None

    try:
        if type(tree) is not Opaque:
            raise NoStateDict("its data.pkl holds no module")
        state = script_state(tree, code)
    except NoStateDict as reason:
        raise UnsupportedFormatError(
            f"{archive.path}: a TorchScript archive whose weights cannot be told: {reason}; load it with torch.jit.load and "
            "torch.save its state_dict()",
            file=archive.path,
        ) from None
    if not state and any(name.startswith("constants/") for name in archive.entries):
        # Its state_dict is empty in torch, too: written out, nothing would be left of the model.
        raise UnsupportedFormatError(
            f"{archive.path}: a frozen TorchScript archive, in which the weights are constants of the program and no "
            "state_dict; give the archive that was saved before torch.jit.freeze",
            file=archive.path,
        )
    return state


def export_tree(archive: Archive) -> tuple[Any, dict[str, Storage]]:
    """The weights of a ``torch.export`` archive: of its only model, or of each by name; and the storages.

    Raises:
        UnsupportedFormatError: an archive of before torch 2.9.
        FormatError: it is damaged.
    """
    lists = [name for name in archive.entries if name.startswith(_WEIGHTS) and name.endswith(_CONFIG)]
    if not lists:
        raise UnsupportedFormatError(
            f"{archive.path}: a torch.export (.pt2) archive without a list of its weights, as torch before 2.9 wrote "
            "it; load it with torch.export.load and torch.save its state_dict",
            file=archive.path,
        )
    storages = _storages(archive)
    trees: dict[str, OrderedNode] = {}
    for name in lists:
        try:
            document = parse(archive.read(name, MAX_CONFIG).decode())
            sizes = {key.removeprefix("weights/"): held.nbytes for key, held in storages.items()}
            trees[name.removeprefix(_WEIGHTS).removesuffix(_CONFIG)] = weights(document, sizes, "weights")
        except (BadJson, NoWeights, UnicodeDecodeError) as reason:
            raise FormatError(
                f"{archive.path}: {ascii(name)[1:-1][:120]} is no list of weights: {reason}",
                file=archive.path,
            ) from None
    return (next(iter(trees.values())) if len(trees) == 1 else trees), storages


def _storages(archive: Archive) -> dict[str, Storage]:
    storages = {}
    for name, entry in archive.entries.items():
        if not name.startswith(_WEIGHTS) or name.endswith(_CONFIG):
            continue
        key, region = name.removeprefix("data/"), None
        if entry.method == STORED:
            place = archive.base + entry.offset
            region = Region(archive.path, place, entry.usize, entry.crc or None, stamp(os.fstat(archive.fd)))
        else:
            archive.check_bound(entry)
        storages[key] = Storage(key, entry.usize, region)
    return storages
