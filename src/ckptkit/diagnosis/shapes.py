"""Causes that show in shapes: transposed, another vocabulary, class count, grid, width, a shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import isqrt, prod

from ..errors import PlanError
from ..findings import Finding, Fix
from ..load_report import LoadReport, Mismatch
from ..patterns import escape
from ..resize import resolve
from ..signatures import Signature
from ..text import counted, folded


def shape_findings(report: LoadReport, target: Signature) -> Iterator[Finding]:
    """Findings from keys whose shapes differ, each key in one of them at most."""
    left = list(report.mismatched)
    for look in (
        _transposed,
        _same_elements,
        _input_channels,
        _positions,
        _shards,
        _vocabulary,
        _head,
        _width,
    ):
        if not left:
            return
        finding = look(left, report, target)
        if finding is not None:
            yield finding
            told = set(finding.keys)
            left = [m for m in left if m.key not in told]


def _keys(found: Sequence[Mismatch]) -> tuple[str, ...]:
    return tuple(m.key for m in found)


def _example(m: Mismatch) -> str:
    return f"{m.key}: checkpoint {list(m.source_shape)}, model {list(m.target_shape)}"


def _share(found: Sequence[Mismatch], target: Signature) -> str:
    """The share of parameters that skipping would leave new."""
    share = sum(prod(m.target_shape) for m in found) / max(target.numel, 1)
    return f"{share:.2%} of the parameters"


def _leave(found: Sequence[Mismatch], target: Signature, better: str) -> Fix:
    """Keep the model's own values, with the price named first, and what would be better."""
    return Fix(
        f"{better}; or keep the model's own values there: {_share(found, target)} stay new and must be trained",
        load={"adapt": [{"keys": [escape(m.key) for m in found], "method": "reinit"}]},
    )


def _adapt(found: Sequence[Mismatch], method: str, what: str, **given: str) -> Fix | None:
    """Bring the checkpoint's tensors to the model's shapes, where the shapes prove how."""
    for m in found:
        try:
            resolve(method, m.source_shape, m.target_shape, given)
        except PlanError:
            return None
    return Fix(what, load={"adapt": [{"keys": [escape(m.key) for m in found], "method": method, **given}]})


def _one_axis(m: Mismatch) -> int | None:
    """The only dimension that differs."""
    if len(m.source_shape) != len(m.target_shape):
        return None
    axes = [i for i, (a, b) in enumerate(zip(m.source_shape, m.target_shape, strict=True)) if a != b]
    return axes[0] if len(axes) == 1 else None


def _transposed(left: Sequence[Mismatch], report: LoadReport, target: Signature) -> Finding | None:
    found = [m for m in left if len(m.source_shape) == 2 and m.source_shape == m.target_shape[::-1]]
    if not found:
        return None
    square = _square_siblings(found, report, target)
    return Finding(
        "layout",
        f"{counted(len(found), 'weight')} {'is' if len(found) == 1 else 'are'} transposed "
        "(Conv1D stores [in, out], Linear [out, in])",
        _example(found[0]),
        _keys(found),
        "likely",
        Fix(
            "transpose them"
            + (
                f", and the {len(square)} square weights of the same blocks, which fit as they are: all other "
                "weights there are transposed"
                if square
                else "; a square weight that fits as it is may need it too, so compare the outputs"
            ),
            ({"op": "transpose", "keys": [escape(key) for key in (*_keys(found), *square)]},),
        ),
    )


def _square_siblings(found: Sequence[Mismatch], report: LoadReport, target: Signature) -> list[str]:
    """Square weights of blocks in which every other matrix is transposed."""
    blocks = {_block(m.key) for m in found}
    fitting = [k for k in report.loaded if len(target[k].shape) == 2 and _block(k) in blocks]
    against = {_block(k) for k in fitting if target[k].shape[0] != target[k].shape[1]}
    return [k for k in fitting if _block(k) not in against]


def _block(key: str) -> str:
    """The numbered block a key belongs to: what stands before the last number, and the number."""
    parts = key.split(".")
    last = max((i for i, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[: last + 1])


def _same_elements(left: Sequence[Mismatch], report: LoadReport, target: Signature) -> Finding | None:
    found = [m for m in left if prod(m.source_shape) == prod(m.target_shape)]
    if not found:
        return None
    return Finding(
        "layout",
        f"{counted(len(found), 'tensor')} with the same number of elements in another shape",
        _example(found[0]),
        _keys(found),
        "likely",
        Fix(
            "reshape them, if the order of the elements is the same",
            tuple(
                {
                    "op": "reshape",
                    "keys": [escape(m.key) for m in found if m.target_shape == shape],
                    "shape": [*shape],
                }
                for shape in dict.fromkeys(m.target_shape for m in found)
            ),
        ),
    )


def _input_channels(left: Sequence[Mismatch], report: LoadReport, target: Signature) -> Finding | None:
    found = [m for m in left if len(m.source_shape) >= 4 and _one_axis(m) == 1]
    if len(found) != 1:
        return None
    (m,) = found
    return Finding(
        "input_channels",
        f"the first convolution takes {m.target_shape[1]} input channels, the checkpoint's took {m.source_shape[1]}",
        _example(m),
        _keys(found),
        "certain",
        _adapt(
            found,
            "input_channels",
            "the checkpoint's channels are "
            + ("summed" if m.target_shape[1] == 1 else "repeated in turn and scaled")
            + "; check that the channels mean the same",
        )
        or _leave(found, target, "bring the checkpoint's weight to the model's input channels yourself"),
    )


def _positions(left: Sequence[Mismatch], report: LoadReport, target: Signature) -> Finding | None:
    found = []
    for m in left:
        axis = _one_axis(m)
        table = "relative_position" in m.key or "rel_pos" in m.key
        if axis is None or axis == len(m.source_shape) - 1 or not ("pos" in m.key.lower() or table):
            continue
        found.append((m, axis))
    if not found:
        return None
    m, axis = found[0]
    a, b = m.source_shape[axis], m.target_shape[axis]
    every = [m for m, _ in found]
    tables = all("relative_position" in m.key or "rel_pos" in m.key for m in every)
    grids = f"the grid{_grid(a)} is interpolated to the model's{_grid(b)}"
    return Finding(
        "pos_embed",
        f"the position embedding has {a} positions in the checkpoint and {b} in the model",
        _example(m),
        _keys(every),
        "likely",
        _adapt(every, "rel_pos_table" if tables else "interpolate", grids)
        or _leave(
            every,
            target,
            "interpolate with adapt and the grids [rows, columns], which the shapes do not tell",
        ),
    )


def _grid(count: int) -> str:
    """The square grid behind a number of positions, when there is exactly one."""
    sides = {isqrt(count - prefix): prefix for prefix in (0, 1, 2, 5) if _square(count - prefix)}
    if len(sides) != 1:
        return ""
    ((side, prefix),) = sides.items()
    return f" ({side}x{side}{f' and {prefix} prefix tokens' if prefix else ''})"


def _square(n: int) -> bool:
    return n > 0 and isqrt(n) ** 2 == n


def _shards(left: Sequence[Mismatch], report: LoadReport, target: Signature) -> Finding | None:
    """Tensor-parallel shards: one integer ratio, rows of some weights and columns of others."""
    ratios: set[int] = set()
    axes: set[int] = set()
    for m in left:
        axis = _one_axis(m)
        if axis is None or not m.source_shape[axis] or m.target_shape[axis] % m.source_shape[axis]:
            return None
        ratios.add(m.target_shape[axis] // m.source_shape[axis])
        if len(m.source_shape) > 1:
            axes.add(axis)
    if len(ratios) != 1 or len(axes) < 2 or min(ratios) < 2:
        return None
    (ratio,) = ratios
    return Finding(
        "sharding",
        f"every differing weight is a {ratio}th of the model's, cut along rows here and columns there: a "
        f"tensor-parallel shard of {ratio}",
        _example(left[0]),
        _keys(left),
        "likely",
        Fix(f"merge the {ratio} shards with the tool that wrote them; one of them is not the whole model"),
    )


def _vocabulary(left: Sequence[Mismatch], report: LoadReport, target: Signature) -> Finding | None:
    rows: dict[tuple[int, int], list[Mismatch]] = {}
    for m in left:
        if _one_axis(m) == 0 and len(m.source_shape) <= 2:
            rows.setdefault((m.source_shape[0], m.target_shape[0]), []).append(m)
    for (a, b), found in rows.items():
        embedding = any("embed" in m.key.lower() or "wte" in m.key or "tok" in m.key.lower() for m in found)
        if not embedding or min(a, b) < 100:
            continue
        return Finding(
            "vocab_resize",
            f"the vocabulary has {a} entries in the checkpoint and {b} in the model",
            _example(found[0]),
            _keys(found),
            "likely",
            _rows(found, a, b) or _leave(found, target, f"give the model a vocabulary of {a} entries"),
        )
    return None


def _rows(found: Sequence[Mismatch], a: int, b: int) -> Fix | None:
    check = f"check that the first {min(a, b)} tokens are the same in both tokenizers"
    if b < a:
        return _adapt(found, "crop", f"the last {a - b} of {a} rows are left out; {check}")
    return _adapt(
        found, "pad", f"{b - a} new rows get the mean of the old ones, to be trained; {check}", fill="mean"
    )


def _head(left: Sequence[Mismatch], report: LoadReport, target: Signature) -> Finding | None:
    found = [m for m in left if _one_axis(m) == 0]
    modules = {m.key.rpartition(".")[0] for m in found}
    counts = {(m.source_shape[0], m.target_shape[0]) for m in found}
    if not found or len(found) != len(left) or len(counts) != 1 or len(modules) > 2:
        return None
    ((a, b),) = counts
    return Finding(
        "head_mismatch",
        f"the output layer {folded(modules, 2)} has {a} classes in the checkpoint and {b} in the model",
        _example(found[0]),
        _keys(found),
        "likely",
        _leave(found, target, f"build the model with {a} classes"),
    )


def _width(left: Sequence[Mismatch], report: LoadReport, target: Signature) -> Finding | None:
    ratios: dict[Fraction, int] = {}
    for m in left:
        if len(m.source_shape) == len(m.target_shape):
            for a, b in zip(m.source_shape, m.target_shape, strict=True):
                if a != b and a:
                    ratio = Fraction(b, a)
                    ratios[ratio] = ratios.get(ratio, 0) + 1
    if len(left) < 3 or not ratios:
        return None
    ratio, count = max(ratios.items(), key=lambda item: item[1])
    return Finding(
        "arch_mismatch",
        f"{len(left)} tensors differ; the model's sizes are {ratio} of the checkpoint's in {count} places: "
        "another width, not the same architecture",
        _example(left[0]),
        _keys(left),
        "likely",
        Fix(
            "build the model with the checkpoint's sizes (width, heads, hidden size); no rule can make up weights"
        ),
    )
