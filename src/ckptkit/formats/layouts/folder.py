"""A folder as the recogniser sees it: the names in it, and the few small files that say what it is."""

from __future__ import annotations

import json
import os
import re
from functools import cached_property
from typing import Any

from ...errors import CkptkitError, FormatError
from ...files.regular import open_regular, read_exactly
from ..recognise import HEAD, recognise

_MOST_TEXT = 1 << 16


class Folder:
    """The names in one folder, read once.

    Args:
        path: the folder.
        variant: the variant of the weights that was asked for (``fp16``), None for the plain ones.

    Attributes:
        files: the names of its files, sorted. A folder with the name of a file is none of them.
        folders: the names of the folders in it, sorted.

    Raises:
        FormatError: the folder cannot be read.
    """

    def __init__(self, path: str, variant: str | None = None) -> None:
        self.path = path
        self.variant = variant
        try:
            with os.scandir(path or ".") as entries:
                found = [(entry.name, entry.is_dir()) for entry in entries]
        except OSError as error:
            raise FormatError(f"{path}: the folder cannot be read: {error.strerror}", file=path) from None
        self.files = tuple(sorted(name for name, is_folder in found if not is_folder))
        self.folders = tuple(sorted(name for name, is_folder in found if is_folder))

    @cached_property
    def names(self) -> frozenset[str]:
        """Its files and folders."""
        return frozenset((*self.files, *self.folders))

    def join(self, *names: str) -> str:
        """A path inside the folder."""
        return os.path.join(self.path, *names)

    def enter(self, name: str) -> Folder:
        """A folder in this one."""
        return Folder(self.join(name), self.variant)

    def matching(self, pattern: str) -> list[re.Match[str]]:
        """The files whose whole name a regular expression matches."""
        return [match for name in self.files if (match := re.fullmatch(pattern, name))]

    def folders_matching(self, pattern: str) -> list[re.Match[str]]:
        """The folders whose whole name a regular expression matches."""
        return [match for name in self.folders if (match := re.fullmatch(pattern, name))]

    def text(self, name: str) -> str | None:
        """A small text file without surrounding blanks; None when it is not there, not small or no text."""
        if name not in self.files:
            return None
        try:
            with open_regular(self.join(name)) as file:
                size = os.fstat(file.fileno()).st_size
                if size > _MOST_TEXT:
                    return None
                return read_exactly(file.fileno(), 0, size, self.join(name)).decode().strip()
        except (CkptkitError, OSError, UnicodeDecodeError):
            return None

    def json(self, name: str) -> dict[str, Any]:
        """A small JSON object; empty when it is not there or is none."""
        document = self._parsed(name)
        return document if isinstance(document, dict) else {}

    def json_list(self, name: str) -> list[Any]:
        """A small JSON list; empty when it is not there or is none."""
        document = self._parsed(name)
        return document if isinstance(document, list) else []

    def _parsed(self, name: str) -> Any:
        try:
            return json.loads(self.text(name) or "null")
        except (ValueError, RecursionError):
            return None

    def kind(self, name: str) -> str:
        """What a file is by its first bytes, as `recognise` says it; "unreadable" when they cannot be read."""
        try:
            with open_regular(self.join(name)) as file:
                size = os.fstat(file.fileno()).st_size
                return recognise(read_exactly(file.fileno(), 0, min(HEAD, size), name), size)
        except (CkptkitError, OSError):
            return "unreadable"
