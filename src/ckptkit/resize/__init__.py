"""Shape adapters: the laws of their shapes and arguments, and what they do to a tensor.

`shapes` knows shapes and arguments and needs no torch; `methods` computes.
"""

from __future__ import annotations

from .shapes import METHODS, Args, Value, check_dtype, freeze, resolve

__all__ = ["METHODS", "Args", "Value", "check_dtype", "freeze", "resolve"]
