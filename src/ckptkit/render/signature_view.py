"""A checkpoint's signature as people read it: repeated blocks in one row, ties, roots, totals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..formats.base import Source
from ..signatures import Signature, TensorInfo
from ..text import fold, human_bytes, human_count, one_line
from .blocks import Block, Line, Span, Table, line

SHORT = 80  # columns of metadata that fit beside its title
SHOWN_VALUE = 300  # characters of one metadata value
STATS = ("min", "max", "mean", "std", "nan", "inf")


def header(source: Source) -> list[Block]:
    """What the file is: name, format, metadata, roots, and what lies beside the weights."""
    signature = source.signature
    shards = f", {len(source.files)} files" if len(source.files) > 1 else ""
    blocks: list[Block] = [line(Span(source.path or "memory", "title"), ": ", source.format, shards)]
    if signature.part_of is not None:
        blocks.append(line(Span("this is ", "dim"), Span(str(signature.part_of), "bad")))
    if signature.root:
        blocks.append(line(Span("root: ", "dim"), signature.root))
    if len(signature.roots) > 1:
        blocks.append(line(Span("roots:", "dim")))
        rows = [
            [
                Span(root.path or "(top level)", "key"),
                Span(root.kind),
                Span(_count(root.tensors, "tensor")),
                Span("opened" if root.chosen else "", "good"),
            ]
            for root in signature.roots
        ]
        blocks.append(Table(rows, right=frozenset({2}), indent=2))
    if source.surroundings:
        blocks.append(
            line(Span("beside the root: ", "dim"), ", ".join(one_line(s) for s in source.surroundings))
        )
    blocks.extend(_metadata(signature.metadata))
    if source.companions:
        names = ", ".join(one_line(_last(path)) for path in source.companions)
        blocks.append(line(Span("files beside the weights: ", "dim"), names))
    return blocks


def _last(path: str) -> str:
    """The name that a path ends on; a folder keeps its final /."""
    name = os.path.basename(path.rstrip(os.sep))
    return f"{name}/" if path.endswith(os.sep) else name


def _metadata(metadata: Mapping[str, str]) -> list[Block]:
    """On one line when it is short, as it mostly is."""
    if not metadata:
        return []
    title = Span("metadata: ", "dim")
    joined = ", ".join(f"{one_line(key)}={one_line(value)}" for key, value in metadata.items())
    if len(joined) <= SHORT:
        return [line(title, joined)]
    blocks: list[Block] = [line(title)]
    for key, value in metadata.items():
        more = f"... ({len(value)} characters; --json has them all)" if len(value) > SHOWN_VALUE else ""
        blocks.append(line(Span(key, "key"), "=", value[:SHOWN_VALUE], Span(more, "dim"), indent=2))
    return blocks


def keys_table(signature: Signature) -> Table:
    """One row per block of keys: ``layers.{0..31}.attn.q.weight  [4096, 4096]  bfloat16  x32``."""
    infos = signature.tensors
    rows = []
    for each in fold(infos, [(info.shape, info.dtype, info.kind) for info in infos.values()]):
        count = f"x{len(each.keys)}" if len(each.keys) > 1 else ""
        rows.append([*_described(each.label, infos[each.keys[0]]), Span(count, "number")])
    return Table(rows)


def stats_table(signature: Signature, stats: Mapping[str, Mapping[str, Any] | None]) -> Table:
    """One row per key with the figures of its values; a dash where there are none."""
    rows = []
    for key, info in signature.tensors.items():
        figures = stats.get(key)
        cells = [Span("-" if figures is None else _figure(figures[name])) for name in STATS]
        cells[4:] = [Span(c.text, "bad" if c.text not in ("0", "-") else "") for c in cells[4:]]
        rows.append([*_described(key, info), *cells])
    return Table(rows, ("key", "shape", "dtype", *STATS), frozenset(range(3, 9)))


def ties(groups: Sequence[Sequence[str]]) -> list[Block]:
    """One line per group of keys that are one tensor; groups that differ only in block numbers share one."""
    if not groups:
        return []
    together: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for group in groups:
        together.setdefault((*(_template(key) for key in group), _numbers_if_equal(group)), []).append(group)
    blocks: list[Block] = [line(Span("tied, one tensor under several keys:", "dim"))]
    for same in together.values():
        labels = [fold([group[i] for group in same]) for i in range(len(same[0]))]
        if all(len(folds) == 1 for folds in labels):
            count = f"  x{len(same)}" if len(same) > 1 else ""
            blocks.append(
                line(" = ".join(folds[0].label for folds in labels), Span(count, "number"), indent=2)
            )
        else:
            blocks.extend(line(" = ".join(group), indent=2) for group in same)
    return blocks


def totals(signature: Signature) -> list[Block]:
    """How many tensors, parameters and bytes, in all and per dtype; tied ones counted once."""
    tensors = [info for info in signature.tensors.values() if info.kind == "tensor"]
    objects = len(signature) - len(tensors)
    spans = [
        Span(_count(len(tensors), "tensor"), "number"),
        Span(f", {_parameters(signature.numel)}, {_bytes(signature.nbytes)}"),
    ]
    if signature.tied:
        spans.append(Span(" (tied ones counted once)", "dim"))
    if objects:
        spans.append(
            Span(f", and {_count(objects, 'object')} that {'is' if objects == 1 else 'are'} no tensor")
        )
    blocks: list[Block] = [Line(tuple(spans))]
    dtypes = _per_dtype(signature)
    if len(dtypes) > 1:
        rows = [
            [
                Span(dtype, "dtype"),
                Span(_count(count, "tensor")),
                Span(_parameters(numel)),
                Span(human_bytes(nbytes)),
            ]
            for dtype, (count, numel, nbytes) in dtypes.items()
        ]
        blocks.append(Table(rows, right=frozenset({1, 2, 3}), indent=2))
    elif dtypes:
        blocks[0] = Line((*spans, Span(f", all {next(iter(dtypes))}")))
    return blocks


def _described(key: str, info: TensorInfo) -> list[Span]:
    if info.kind == "object":
        return [Span(key, "key"), Span(""), Span("object", "dtype")]
    return [Span(key, "key"), Span(str(list(info.shape)), "shape"), Span(info.dtype, "dtype")]


def _per_dtype(signature: Signature) -> dict[str, tuple[int, int, int]]:
    repeated = {key for group in signature.tied for key in group[1:]}
    sums: dict[str, tuple[int, int, int]] = {}
    for key, info in signature.tensors.items():
        if info.kind != "tensor":
            continue
        count, numel, nbytes = sums.get(info.dtype, (0, 0, 0))
        if key in repeated:
            sums[info.dtype] = (count + 1, numel, nbytes)
        else:
            sums[info.dtype] = (count + 1, numel + info.numel, nbytes + info.nbytes)
    return dict(sorted(sums.items(), key=lambda item: -item[1][2]))


def _template(key: str) -> str:
    return ".".join("#" if part.isdigit() else part for part in key.split("."))


def _numbers_if_equal(group: Sequence[str]) -> str:
    """Empty when all keys of a group carry the same block numbers; only then may groups share a line."""
    numbers = {tuple(part for part in key.split(".") if part.isdigit()) for key in group}
    return "" if len(numbers) == 1 else repr(group)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _parameters(count: int) -> str:
    exact = f" ({count:,})" if count >= 1000 else ""
    return f"{human_count(count)} parameter{'' if count == 1 else 's'}{exact}"


def _bytes(count: int) -> str:
    return human_bytes(count)


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
