"""A signature for people: a header, a table with repeated blocks folded, totals."""

from __future__ import annotations

from collections.abc import Mapping

from ..formats.base import Source
from ..signatures import Signature
from ..stats import Stats
from ..text import fold, human_bytes, human_count


def header_lines(source: Source, signature: Signature) -> list[str]:
    """What was opened, and where the weights lie in it."""
    lines = [f"{source.path} ({source.format})"]
    if signature.root is not None:
        lines.append(f"root: {signature.root}")
    others = [f"{r.path or 'none'} ({r.kind}, {r.tensors} tensors)" for r in signature.roots if not r.chosen]
    if others:
        lines.append(f"other roots: {', '.join(others)}")
    if source.surroundings:
        shown = ", ".join(source.surroundings[:8])
        more = len(source.surroundings) - 8
        lines.append(f"beside the root: {shown}{f' and {more} more' if more > 0 else ''}")
    if signature.metadata:
        pairs = [f"{k}={v if len(v) <= 60 else v[:57] + '...'}" for k, v in list(signature.metadata.items())[:12]]
        lines.append(f"metadata: {', '.join(pairs)}")
    return lines


def rows(signature: Signature, stats: Mapping[str, Stats] | None = None) -> list[list[str]]:
    """One row per block of equal keys: label, shape, dtype, count; with `stats` one row per key."""
    infos = signature.tensors
    if stats is not None:
        head = ["key", "shape", "dtype", "min", "max", "mean", "std", "nan", "inf"]
        return [head, *(_stats_row(signature, key, s) for key, s in stats.items())]
    table = []
    for block in fold(infos, ((t.shape, t.dtype, t.kind) for t in infos.values())):
        info = infos[block.keys[0]]
        shape = "object" if info.kind == "object" else str(list(info.shape))
        count = f"x{len(block.keys)}" if len(block.keys) > 1 else ""
        table.append([block.label, shape, "" if info.kind == "object" else info.dtype, count])
    return table


def _stats_row(signature: Signature, key: str, s: Stats) -> list[str]:
    info = signature[key]
    numbers = [f"{value:.4g}" for value in (s.min, s.max, s.mean, s.std)]
    return [key, str(list(info.shape)), info.dtype, *numbers, str(s.nan), str(s.inf)]


def total_lines(signature: Signature) -> list[str]:
    """Ties, and how much there is."""
    lines = [f"tied: {' = '.join(group)}" for group in signature.tied[:20]]
    if len(signature.tied) > 20:
        lines.append(f"and {len(signature.tied) - 20} more tied groups")
    per_dtype: dict[str, list[int]] = {}
    repeated = {key for group in signature.tied for key in group[1:]}
    tensors = {k: t for k, t in signature.tensors.items() if t.kind == "tensor"}
    for key, info in tensors.items():
        entry = per_dtype.setdefault(info.dtype, [0, 0])
        entry[0] += 1
        entry[1] += 0 if key in repeated else info.nbytes
    objects = len(signature) - len(tensors)
    total = f"{len(tensors)} tensors, {human_count(signature.numel)} parameters ({signature.numel}), {human_bytes(signature.nbytes)}"
    lines.append(total + (f", {objects} objects" if objects else ""))
    if len(per_dtype) > 1:
        parts = [f"{name} {count} tensors {human_bytes(size)}" for name, (count, size) in per_dtype.items()]
        lines.append("; ".join(parts))
    return lines
