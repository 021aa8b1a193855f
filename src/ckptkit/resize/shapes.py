"""The laws of the shape adapters: which shapes and arguments each method takes. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import dtypes
from ..errors import PlanError
from ..text import quoted
from .grids import Grid, shown, span, table_windows, token_grids

Shape = tuple[int, ...]
Value = str | bool | int | float | tuple[int, ...]
Args = tuple[tuple[str, Value], ...]

# Each method and the arguments it takes.
METHODS: dict[str, tuple[str, ...]] = {
    "interpolate": ("grid", "target_grid", "prefix_tokens", "layout", "mode", "antialias"),
    "rel_pos_table": ("grid", "target_grid", "extra_rows", "mode", "antialias"),
    "crop": ("dims",),
    "pad": ("dims", "fill"),
    "repeat": ("dims",),
    "input_channels": ("base_channels",),
    "inflate": ("mode",),
}
# The modes of interpolation by the grid's dimensions; the first is the default.
GRID_MODES = {1: ("linear", "nearest"), 2: ("bicubic", "bilinear", "nearest"), 3: ("trilinear", "nearest")}
MODES = {
    "interpolate": tuple(dict.fromkeys(mode for modes in GRID_MODES.values() for mode in modes)),
    "rel_pos_table": ("geometric", "bicubic", "bilinear"),
    "inflate": ("average", "center"),
}
LAYOUTS = ("tokens", "channels_first", "channels_last")
ANTIALIASED = ("bicubic", "bilinear")

_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38}


def freeze(given: Mapping[str, Any]) -> Args:
    """Arguments from plain data, hashable and in the order of their names.

    Raises:
        PlanError: a value that no argument can have.
    """

    def value(name: str, raw: Any) -> Value:
        if isinstance(raw, list | tuple) and all(type(n) is int for n in raw):
            return tuple(raw)
        if isinstance(raw, str | bool | int | float):
            return raw
        raise PlanError(f"the argument {name} of a resize is {quoted(raw)}")

    return tuple(sorted((str(name), value(str(name), raw)) for name, raw in given.items()))


def resolve(method: str, source: Shape, target: Shape, given: Mapping[str, Any]) -> Args:
    """Everything a method needs to know to make one shape from another.

    Resolved arguments resolve to themselves.

    Args:
        method: one of `METHODS`.
        source, target: the shapes before and after.
        given: the arguments that are stated; what can be proved may be left out.

    Raises:
        PlanError: the method cannot do that, or something must be stated.
    """
    if method not in METHODS:
        raise PlanError(f"unknown resize method {quoted(method)}; known are {', '.join(METHODS)}")
    surplus = [name for name in given if name not in METHODS[method]]
    if surplus:
        raise PlanError(f"{method} takes no {surplus[0]}; it takes {', '.join(METHODS[method])}")
    if 0 in source or 0 in target:
        raise PlanError("a tensor without elements cannot be resized")
    stated = dict(freeze(given))
    for name, value in stated.items():
        if not _is(name, value):
            raise PlanError(f"{name} of {method} cannot be {quoted(value)}")
    return freeze(_LAWS[method](source, target, stated))


def _is(name: str, value: Value) -> bool:
    """Whether a value is of the kind its argument has; plans read from files may hold anything."""
    if name in ("grid", "target_grid"):
        return isinstance(value, tuple) and bool(value) and all(side > 0 for side in value)
    if name in ("prefix_tokens", "extra_rows", "base_channels"):
        return type(value) is int and value >= 0
    kinds = {"dims": tuple, "antialias": bool, "mode": str, "layout": str}
    return isinstance(value, kinds.get(name, object))


def check_dtype(dtype: str, fill: object = None) -> None:
    """Whether tensors of a dtype can be resized.

    Args:
        dtype: its name.
        fill: a number that the tensor must be able to hold, or anything else.

    Raises:
        PlanError: they cannot.
    """
    kind = dtypes.DTYPES.get(dtype)
    if kind is None or kind.kind != "float":
        raise PlanError(
            f"{dtype} tensors cannot be resized, since indices, masks and counters mean another thing at another "
            "size; keep the model's own with method: reinit"
        )
    if kind.bits < 16:
        raise PlanError(f"{dtype} values are scaled by another tensor; cast to a wider dtype before resizing")
    if isinstance(fill, int | float) and abs(fill) > _LARGEST.get(dtype, float("inf")):
        raise PlanError(f"the fill {fill} does not fit into {dtype}")


def _interpolate(source: Shape, target: Shape, given: dict[str, Any]) -> dict[str, Any]:
    if len(source) != len(target):
        raise PlanError("interpolate keeps the number of dimensions; reshape first")
    layout = given.get("layout")
    if layout is not None and layout not in LAYOUTS:
        raise PlanError(f"layout is one of {', '.join(LAYOUTS)}, not {quoted(layout)}")
    known: dict[str, Any]
    if layout == "tokens" or (layout is None and len(source) <= 3):
        known = _tokens(source, target, given)
    else:
        known = _spatial(source, target, given)
    dims = len(known["grid"])
    if dims not in GRID_MODES:
        raise PlanError(f"a grid has 1, 2 or 3 dimensions, not {dims}")
    mode = _mode(given, GRID_MODES[dims], f"interpolate over {dims} dimension{'s' if dims > 1 else ''}")
    return known | {"mode": mode, "antialias": _antialias(given, mode, mode in ANTIALIASED)}


def _tokens(source: Shape, target: Shape, given: dict[str, Any]) -> dict[str, Any]:
    if len(source) not in (2, 3):
        raise PlanError("tokens have the shape [N, C] or [1, N, C]")
    if source[-1] != target[-1] or source[:-2] != target[:-2]:
        raise PlanError(
            "interpolate changes the number of positions (the last dimension but one) and nothing else; "
            "another width is another model"
        )
    grids = token_grids(
        source[-2], target[-2], given.get("grid"), given.get("target_grid"), given.get("prefix_tokens")
    )
    return {
        "layout": "tokens",
        "grid": grids.grid,
        "target_grid": grids.target,
        "prefix_tokens": grids.others,
    }


def _spatial(source: Shape, target: Shape, given: dict[str, Any]) -> dict[str, Any]:
    """Grids that stand in the shape itself: [1, C, H, W] or [1, H, W, C]."""
    if given.get("prefix_tokens"):
        raise PlanError("a table with a dimension for each side of its grid has no prefix tokens")
    if len(source) < 3:
        raise PlanError("channels_first is [1, C, H, W], channels_last is [1, H, W, C]")
    found: dict[str, tuple[Grid, Grid]] = {}
    if source[:2] == target[:2]:
        found["channels_first"] = source[2:], target[2:]
    if source[0] == target[0] and source[-1] == target[-1]:
        found["channels_last"] = source[1:-1], target[1:-1]
    fitting = {
        layout: grids
        for layout, grids in found.items()
        if given.get("layout") in (None, layout)
        and given.get("grid") in (None, grids[0])
        and given.get("target_grid") in (None, grids[1])
    }
    if len(fitting) > 1:
        choices = " or ".join(f"{k} ({shown(a)} -> {shown(b)})" for k, (a, b) in fitting.items())
        raise PlanError(f"layout could be {choices}; give layout")
    if not fitting:
        stated = any(given.get(name) for name in ("layout", "grid", "target_grid"))
        raise PlanError(
            "the stated layout or grids are not those of the shapes"
            if stated and found
            else "interpolate changes the grid and nothing else: [1, C, H, W] or [1, H, W, C] with equal C"
        )
    ((layout, (grid, target_grid)),) = fitting.items()
    return {"layout": layout, "grid": grid, "target_grid": target_grid}


def _rel_pos_table(source: Shape, target: Shape, given: dict[str, Any]) -> dict[str, Any]:
    window, target_window = given.get("grid"), given.get("target_grid")
    for name, value in (("grid", window), ("target_grid", target_window)):
        if value is not None and len(value) != 2:
            raise PlanError(f"{name} of rel_pos_table is a window [rows, columns], not {list(value)}")
    if len(source) == len(target) == 2 and source[1] == target[1]:
        grids = table_windows(source[0], target[0], window, target_window, given.get("extra_rows"))
        known = {"grid": grids.grid, "target_grid": grids.target, "extra_rows": grids.others}
    elif len(source) == len(target) == 3 and source[0] == target[0]:
        if given.get("extra_rows"):
            raise PlanError("a table of the shape [heads, rows, columns] has no extra_rows")
        for name, sides, stated in (("grid", source[1:], window), ("target_grid", target[1:], target_window)):
            if any(side % 2 == 0 for side in sides) or (stated is not None and span(stated) != sides):
                of = "a window" if stated is None else f"{name} {shown(stated)}"
                raise PlanError(f"{shown(sides)} is no table of {of}, which has 2n-1 positions a side")
        halves = [tuple((side + 1) // 2 for side in shape[1:]) for shape in (source, target)]
        known = {"grid": halves[0], "target_grid": halves[1]}
    else:
        raise PlanError(
            "rel_pos_table takes [(2h-1)*(2w-1) + extra_rows, heads] or [heads, 2h-1, 2w-1] with equal heads"
        )
    mode = _mode(given, MODES["rel_pos_table"], "rel_pos_table")
    return known | {"mode": mode, "antialias": _antialias(given, mode, default=False)}


def _crop(source: Shape, target: Shape, given: dict[str, Any]) -> dict[str, Any]:
    dims = _changed(source, target, given, "crop")
    for dim in dims:
        if target[dim] > source[dim]:
            raise PlanError(
                f"dimension {dim} grows from {source[dim]} to {target[dim]}; crop cuts, pad extends"
            )
    return {"dims": dims}


def _pad(source: Shape, target: Shape, given: dict[str, Any]) -> dict[str, Any]:
    dims = _changed(source, target, given, "pad")
    for dim in dims:
        if target[dim] < source[dim]:
            raise PlanError(
                f"dimension {dim} shrinks from {source[dim]} to {target[dim]}; pad extends, crop cuts"
            )
    fill = given.get("fill")
    if fill not in ("zero", "mean") and (isinstance(fill, str | bool) or not isinstance(fill, int | float)):
        raise PlanError("pad needs fill: zero, mean or a number")
    if fill != fill or fill in (float("inf"), float("-inf")):
        raise PlanError(f"pad needs a finite fill, not {fill}")
    return {"dims": dims, "fill": fill}


def _repeat(source: Shape, target: Shape, given: dict[str, Any]) -> dict[str, Any]:
    dims = _changed(source, target, given, "repeat")
    for dim in dims:
        if target[dim] % source[dim]:
            raise PlanError(
                f"dimension {dim} of {target[dim]} is no multiple of {source[dim]}, so repeat cannot fill it"
            )
    return {"dims": dims}


def _input_channels(source: Shape, target: Shape, given: dict[str, Any]) -> dict[str, Any]:
    if len(source) not in (3, 4, 5):
        raise PlanError("input_channels takes a convolution's weight [out, in, kernel sides ...]")
    if len(source) != len(target) or source[0] != target[0] or source[2:] != target[2:]:
        raise PlanError("input_channels changes dimension 1, the input channels, and nothing else")
    base = given.get("base_channels", source[1])
    if not isinstance(base, int) or base < 1 or source[1] % base:
        raise PlanError(f"base_channels {base} does not divide the {source[1]} input channels")
    if base != source[1] and target[1] * base != source[1]:
        raise PlanError(
            f"groups of {base} channels can only be summed to {source[1] // base} channels, not to {target[1]}"
        )
    return {"base_channels": base}


def _inflate(source: Shape, target: Shape, given: dict[str, Any]) -> dict[str, Any]:
    if len(source) != 4 or len(target) != 5 or source != (*target[:2], *target[3:]):
        raise PlanError(
            "inflate makes a kernel [out, in, time, h, w] from one [out, in, h, w], all else equal"
        )
    return {"mode": _mode(given, MODES["inflate"], "inflate")}


def _changed(source: Shape, target: Shape, given: dict[str, Any], method: str) -> tuple[int, ...]:
    """The dimensions that differ; each must be one of those the user named, rows without."""
    if len(source) != len(target):
        raise PlanError(f"{method} keeps the number of dimensions; reshape first")
    named = given.get("dims", (0,))
    if not isinstance(named, tuple) or any(not -len(source) <= dim < len(source) for dim in named):
        raise PlanError(f"dims {list(named)} are not dimensions of a tensor with {len(source)}")
    allowed = {dim % len(source) for dim in named}
    differ = tuple(dim for dim, (a, b) in enumerate(zip(source, target, strict=True)) if a != b)
    other = [dim for dim in differ if dim not in allowed]
    if other:
        raise PlanError(
            f"dimension {other[0]} differs too ({source[other[0]]} and {target[other[0]]}), and dims "
            f"{'names' if 'dims' in given else 'is'} only {sorted(allowed)}; if {method} is meant there too, "
            f"give dims: {sorted(allowed | set(differ))}"
        )
    return differ


def _mode(given: dict[str, Any], modes: tuple[str, ...], what: str) -> str:
    mode = given.get("mode", modes[0])
    if mode not in modes:
        raise PlanError(f"the mode of {what} is {' or '.join(modes)}, not {quoted(mode)}")
    return str(mode)


def _antialias(given: dict[str, Any], mode: str, default: bool) -> bool:
    antialias = given.get("antialias", default)
    if antialias and mode not in ANTIALIASED:
        raise PlanError(f"antialias is for the modes {' and '.join(ANTIALIASED)}, not for {mode}")
    return bool(antialias)


_LAWS: dict[str, Callable[[Shape, Shape, dict[str, Any]], dict[str, Any]]] = {
    "interpolate": _interpolate,
    "rel_pos_table": _rel_pos_table,
    "crop": _crop,
    "pad": _pad,
    "repeat": _repeat,
    "input_channels": _input_channels,
    "inflate": _inflate,
}
