"""Names of files that a checkpoint gives to its parts: plain, and the same file on every system."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Any

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
# model.safetensors.index.json; with a variant, model.safetensors.index.fp16.json.
INDEX = re.compile(
    r"(?i)(?P<stem>.+?)(?:\.(?P<suffix>safetensors|bin|pt|pth))?\.index(?:\.(?P<variant>[\w-]+))?\.json"
)
NUMBERED = re.compile(r"-(\d{5})-of-(\d{5})\.")
# Windows knows devices by the name before the first dot, without the spaces around it; superscripts count as digits.
_DEVICE = re.compile(r"(?i)(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(?:\..*)?")


def is_index(path: str) -> bool:
    """Whether a file is named like an index of shards, of any variant."""
    return INDEX.fullmatch(os.path.basename(path)) is not None


def bad_name(name: Any, suffixes: tuple[str, ...] = WEIGHTS) -> str | None:
    """Why a name cannot be that of a file beside the one that gives it; None when it can.

    Args:
        name: as it was read.
        suffixes: in lower case; the name must end in one of them.
    """
    if type(name) is not str:
        return "is no text"
    if not name or name in (".", "..") or any(c in name for c in '/\\:*?"<>|\0'):
        return "is no plain file name on every system"
    try:
        if len(name.encode()) > 255:
            return "is longer than 255 bytes"
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    if not name.isprintable():
        return "holds characters that do not show, so that it may look like another name"
    stem, dot, _ = name.rpartition(".")
    if name != name.rstrip(". ") or (dot and stem != stem.rstrip(". ")) or _DEVICE.fullmatch(name.lstrip()):
        return "is no file name on Windows"
    if not name.lower().endswith(suffixes):
        return "has no suffix of a checkpoint file"
    return None


def folded(name: str) -> str:
    """What is equal for two names that are one file on some system: where case, or how accents are spelled, is nothing."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
