"""From the text of a load failure to its cause, its evidence and the rules that repair it."""

from __future__ import annotations

from .causes import findings_of
from .explaining_text import Explanation, explain
from .parsed import Parsed, ShapeMismatch
from .shapes import shape_findings

__all__ = ["Explanation", "Parsed", "ShapeMismatch", "explain", "findings_of", "shape_findings"]
