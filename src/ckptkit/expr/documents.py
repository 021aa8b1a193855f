"""Expressions from the contract's JSON; a plan read from a file is input like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import PlanError
from ..resize import freeze
from ..text import quoted
from .base import MAX_DEPTH, Expr, Read
from .joins import Concat, Stack
from .values import Cast, Resize
from .views import Permute, Reshape, Select, Slice, Transpose

_MAX_DIMS = 64  # that a tensor of torch can have


def from_json(document: Any, depth: int = 0) -> Expr:
    """Read an expression.

    Raises:
        PlanError: it is no expression, of an unknown operation, or nested more than 200 deep.
    """
    if isinstance(document, dict) and isinstance(document.get("read"), str) and len(document) == 1:
        return Read(document["read"])
    if not isinstance(document, dict) or not isinstance(document.get("of"), list):
        raise PlanError(f"not an expression: {quoted(document)}")
    if depth > MAX_DEPTH:
        raise PlanError(f"an expression in the plan is nested more than {MAX_DEPTH} deep")
    op = document.get("op")
    make = _OPS.get(op) if isinstance(op, str) else None
    if make is None:
        raise PlanError(f"unknown operation {quoted(op)} in a plan; known are read, {', '.join(_OPS)}")
    of = tuple(from_json(e, depth + 1) for e in document["of"])
    if not of or (len(of) > 1 and op not in _JOINS):
        raise PlanError(f"the operation {quoted(op)} in a plan has {len(of)} inputs")
    try:
        return make(document, of)
    except KeyError as error:
        raise PlanError(f"the operation {quoted(op)} in a plan lacks its field {error}") from None


def _integer(document: dict[str, Any], name: str, least: int | None = None) -> int:
    value = document[name]
    if type(value) is not int or (least is not None and value < least):
        raise PlanError(f"{name} of {quoted(document['op'])} in a plan cannot be {quoted(value)}")
    return value


def _integers(document: dict[str, Any], name: str, count: int | None = None) -> tuple[int, ...]:
    value = document[name]
    whole = isinstance(value, list) and len(value) <= _MAX_DIMS and all(type(n) is int for n in value)
    if not whole or (count is not None and len(value) != count):
        raise PlanError(f"{name} of {quoted(document['op'])} in a plan cannot be {quoted(value)}")
    return tuple(value)


def _transpose(document: dict[str, Any], of: tuple[Expr, ...]) -> Transpose:
    one, other = _integers(document, "dims", 2)
    return Transpose((one, other), of)


def _slice(document: dict[str, Any], of: tuple[Expr, ...]) -> Slice:
    step = _integer(document, "step", 1) if "step" in document else 1
    return Slice(_integer(document, "dim"), _integer(document, "start"), _integer(document, "stop"), of, step)


def _cast(document: dict[str, Any], of: tuple[Expr, ...]) -> Cast:
    if not isinstance(document["dtype"], str):
        raise PlanError(f"dtype of 'cast' in a plan cannot be {quoted(document['dtype'])}")
    return Cast(document["dtype"], of, document.get("allow_overflow", False) is True)


def _resize(document: dict[str, Any], of: tuple[Expr, ...]) -> Resize:
    method, args = document["method"], document["args"]
    shape = _integers(document, "shape")
    if not isinstance(method, str) or not isinstance(args, dict) or any(n < 0 for n in shape):
        raise PlanError("a resize in a plan needs a method, a shape of sizes, and args as a mapping")
    return Resize(method, shape, freeze(args), of)


_OPS: dict[str, Callable[[dict[str, Any], tuple[Expr, ...]], Expr]] = {
    "transpose": _transpose,
    "permute": lambda a, of: Permute(_integers(a, "dims"), of),
    "reshape": lambda a, of: Reshape(_integers(a, "shape"), of),
    "slice": _slice,
    "select": lambda a, of: Select(_integer(a, "dim"), _integer(a, "index"), of),
    "concat": lambda a, of: Concat(_integer(a, "dim"), of),
    "stack": lambda a, of: Stack(_integer(a, "dim"), of),
    "cast": _cast,
    "resize": _resize,
}
_JOINS = ("concat", "stack")
