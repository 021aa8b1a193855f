"""Expressions: how an output key is made from source keys. Small frozen data with shape laws.

An expression knows its result's shape and dtype from its inputs' alone; evaluating it needs torch
and is done by `evaluate`, which asks for source tensors one at a time.
"""

from __future__ import annotations

from .base import Expr, Read, evaluate, infer, with_reads
from .documents import from_json
from .joins import Concat, Stack
from .values import Cast, Resize
from .views import Permute, Reshape, Select, Slice, Transpose

__all__ = [
    "Cast",
    "Concat",
    "Expr",
    "Permute",
    "Read",
    "Reshape",
    "Resize",
    "Select",
    "Slice",
    "Stack",
    "Transpose",
    "evaluate",
    "from_json",
    "infer",
    "with_reads",
]
