"""One file per format behind one small protocol (`base`); formats know bytes, never rules."""

from __future__ import annotations

from .opening import open_source, open_whole, writer_for

__all__ = ["open_source", "open_whole", "writer_for"]
