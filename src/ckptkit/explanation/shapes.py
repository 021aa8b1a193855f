"""Keys whose shapes differ, from a text: which size of the model is another one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

from ..errors import PlanError
from ..findings import Finding, Fix
from ..patterns import escape
from ..resize import resolve
from ..text import counted, folded
from ..vetoes import is_buffer
from .layouts import moved
from .parsed import Parsed, Shape, ShapeMismatch

_POSITION = re.compile(
    r"(?i)(?:^|[._])(?:abs_?|rel_?)?pos(?:\d|ition|_|emb|itional|$|\.)|position|pos_?emb|(?:^|\.)wpe\.|relative_\w{0,40}bias|rel_[hw]$"
)
_TEXT_POSITION = re.compile(
    r"(?i)(?:^|[._])(?:wpe|embed_positions|position_embeddings?|position_embed|pos_embeddings?|positional_embeddings?)\.weight$"
)
_IMAGE = re.compile(r"(?i)patch|visual|vision|image|vit|pixel")
_NO_WORDS = re.compile(r"(?i)quer(?:y|ies)|token_type|segment|time|position|(?:^|[._])pos|class_embed|label")
_SINGLE_AXIS = re.compile(r"(?i)rel_pos(?:_[hwt])?$|rel_[hw]$")
_VOCABULARY = re.compile(r"(?i)embed|wte|word|tok|symbol|vocab|lookup|emb_g|speaker")
_SURE_HEAD = re.compile(r"(?i)head|classif|logit|segmentation|final_conv|outc|out_conv")
_HEAD = re.compile(
    r"(?i)head|classif|cls|fc|logit|score|pred|proposal|out_proj|output|linear|last|decoder|final|outc|out_conv|conv_out|class_"
)


def shape_findings(parsed: Parsed) -> Iterator[Finding]:
    """The most telling cause of shapes that differ; several where the keys fall apart into several."""
    every = [m for m in parsed.mismatched if not is_buffer(m.key)]
    if not every:
        return
    # What surplus buffers and modules say of themselves says nothing of the shapes.
    alone = all(is_buffer(key) for key in parsed.missing)
    parsed = replace(parsed, missing=[], unexpected=[]) if alone else parsed
    finding = _of_one_cause(parsed, parsed.mismatched)
    if finding is not None:
        yield finding
        return
    groups = _apart(every)
    found = [_of_one_cause(parsed, group) for group in groups] if len(groups) > 1 else []
    if found and all(each is not None for each in found):
        yield from (each for each in found if each is not None)
        return
    whole = [m for m in every if m.source_shape is not None and m.target_shape is not None]
    yield _other(parsed, whole, parsed.mismatched)


def _of_one_cause(parsed: Parsed, every: Sequence[ShapeMismatch]) -> Finding | None:
    whole = [m for m in every if m.source_shape is not None and m.target_shape is not None]
    for look in (_lora, _shards, _layout, _positions, _channels, _vocabulary, _head):
        finding = look(parsed, whole, every)
        if finding is not None:
            return finding
    return None


def _apart(every: Sequence[ShapeMismatch]) -> list[list[ShapeMismatch]]:
    """Position tables, the first convolution, and the rest."""
    positions = [m for m in every if _POSITION.search(m.key)]
    stems = [m for m in _without(every, positions) if len(_source(m)) >= 4 and _axis(m) == 1]
    rest = _without(every, [*positions, *stems])
    return [group for group in (positions, stems, rest) if group]


def _without(found: Sequence[ShapeMismatch], others: Sequence[ShapeMismatch]) -> list[ShapeMismatch]:
    left = set(others)
    return [m for m in found if m not in left]


def _source(m: ShapeMismatch) -> Shape:
    return m.source_shape or ()


def _target(m: ShapeMismatch) -> Shape:
    return m.target_shape or ()


def _axis(m: ShapeMismatch) -> int | None:
    """The only dimension that differs."""
    a, b = _source(m), _target(m)
    if len(a) != len(b):
        return None
    axes = [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
    return axes[0] if len(axes) == 1 else None


def _keys(found: Sequence[ShapeMismatch]) -> tuple[str, ...]:
    return tuple(m.key for m in found)


def _example(found: Sequence[ShapeMismatch]) -> str:
    m = next((m for m in found if m.target_shape is not None), found[0])
    a = "?" if m.source_shape is None else list(m.source_shape)
    b = "?" if m.target_shape is None else list(m.target_shape)
    return f"{m.key}: checkpoint {a}, model {b}"


def _shards(parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]) -> Finding | None:
    if not whole:
        return None
    empty = [
        m
        for m in whole
        if 0 in (prod(_source(m)) if _source(m) else 1, prod(_target(m)) if _target(m) else 1)
        or (_source(m) == (1,) and prod(_target(m)) > 64)
    ]
    ratios = {
        max(x, y) // min(x, y) if min(x, y) and max(x, y) % min(x, y) == 0 else 0
        for m in whole
        if (axis := _axis(m)) is not None
        for x, y in [(_source(m)[axis], _target(m)[axis])]
    }
    axes = {_axis(m) for m in whole if len(_source(m)) == 2}
    cut = (
        len(whole) >= 2
        and len(ratios) == 1
        and min(ratios) >= 2
        and axes == {0, 1}
        and all(_axis(m) is not None for m in whole)
    )
    if len(empty) * 2 > len(whole):
        what = "one side is partitioned in memory (ZeRO-3, FSDP): its tensors are empty or placeholders"
        fix = "gather the parameters before loading, or load before partitioning; consolidate a sharded checkpoint first"
    elif cut and all(prod(_source(m)) < prod(_target(m)) for m in whole):
        what = (
            f"the file is one of {min(ratios)} tensor-parallel shards: cut along rows here and columns there"
        )
        fix = f"merge the {min(ratios)} shards first; one of them is not the whole model"
    else:
        return None
    return Finding("sharding", what, _example(whole), _keys(whole), "likely", Fix(fix))


def _lora(parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]) -> Finding | None:
    found = [m for m in every if re.search(r"lora_[AB]|lora_(?:up|down)|lora_embedding", m.key)]
    if not found or 2 * len(found) < len(every):
        return None
    return Finding(
        "lora_adapter",
        "the adapter's rank, base model or layout is not the one it was trained with",
        _example(found),
        _keys(found),
        "likely",
        Fix(
            "build the adapter from its own adapter_config.json (r, target_modules, base model); no rule changes a rank"
        ),
    )


def _layout(parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]) -> Finding | None:
    same = [m for m in whole if prod(_source(m)) == prod(_target(m)) and _source(m)]
    inflated = [
        m
        for m in whole
        if len(_target(m)) == len(_source(m)) + 1 and (*_target(m)[:2], *_target(m)[3:]) == _source(m)
    ]
    found = same if len(same) * 2 >= len(whole) else inflated if len(inflated) * 2 >= len(whole) else []
    if not found:
        return None
    if found is inflated:
        return Finding(
            "layout", "image kernels for a video model: the model's have a time dimension more", _example(found),
            _keys(found), "likely",
            Fix("repeat them over time", load={"adapt": [{"keys": [escape(m.key) for m in found], "method": "inflate"}]}),
        )  # fmt: skip
    return moved(found)


def _positions(
    parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]
) -> Finding | None:
    found = [
        m for m in whole
        if _POSITION.search(m.key) and len(_source(m)) == len(_target(m)) and _source(m)[-1:] == _target(m)[-1:]
        and not is_buffer(m.key) and len(_source(m)) >= 2
    ]  # fmt: skip
    others = [m for m in _without(every, found) if not is_buffer(m.key)]
    if not found or len(others) > len(found):
        return None
    if all(len(_source(m)) == 2 and _TEXT_POSITION.search(m.key) and not _IMAGE.search(m.key) for m in found):
        return _text_positions(found)
    if all(_SINGLE_AXIS.search(m.key) for m in found):
        return Finding(
            "pos_embed",
            "the relative position tables are for another input size",
            _example(found),
            _keys(found),
            "likely",
            Fix(
                "build the model for the checkpoint's input size; or interpolate each table along its one axis yourself"
            ),
        )
    found = [m for m in found if not _SINGLE_AXIS.search(m.key)]
    table = all("bias" in m.key for m in found)
    method = "rel_pos_table" if table else "interpolate"
    try:
        for m in found:
            resolve(method, _source(m), _target(m), {})
        fix = Fix(
            "interpolate them to the model's grid",
            load={"adapt": [{"keys": [escape(m.key) for m in found], "method": method}]},
        )
    except PlanError as error:
        fix = Fix(
            f"interpolate with an explicit grid, or build the model for the checkpoint's input size: {error.message}"
        )
    return Finding(
        "pos_embed",
        "the position table is for another input size or length",
        _example(found),
        _keys(found),
        "likely",
        fix,
    )


def _text_positions(found: Sequence[ShapeMismatch]) -> Finding:
    """Tables with one row for each token of a text, of another length."""
    a, b = _source(found[0])[0], _target(found[0])[0]
    shorter = b < a
    keys = [escape(m.key) for m in found]
    return Finding(
        "pos_embed",
        f"the position table has {a} rows in the checkpoint and {b} in the model",
        _example(found),
        _keys(found),
        "likely",
        Fix(
            f"the first {b} positions can be kept (crop); or build the model for {a} positions"
            if shorter
            else f"build the model for {a} positions; the {b - a} further ones were never trained",
            load={"adapt": [{"keys": keys, "method": "crop"}]} if shorter else {},
        ),
    )


def _channels(
    parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]
) -> Finding | None:
    if len(every) != 1 or len(whole) != 1 or len(_source(whole[0])) < 4 or _axis(whole[0]) != 1:
        return None
    (m,) = whole
    return Finding(
        "input_channels",
        f"the first convolution takes {_target(m)[1]} input channels, the checkpoint's took {_source(m)[1]}",
        _example(whole),
        _keys(whole),
        "likely",
        Fix(
            "sum or repeat the checkpoint's channels, if they mean the same; or build the model for them",
            load={"adapt": [{"keys": [escape(m.key)], "method": "input_channels"}]},
        ),
    )


def _vocabulary(
    parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]
) -> Finding | None:
    rows = [m for m in whole if _axis(m) == 0]
    biases = {m.key.rpartition(".")[0] for m in every if m.key.endswith(".bias")}
    tables = [
        m
        for m in rows
        if (_VOCABULARY.search(m.key) or (m.key == "weight" and "Embedding" in (parsed.class_name or "")))
        and len(_source(m)) == 2 and not _NO_WORDS.search(m.key)
        and m.key.rpartition(".")[0] not in biases
    ]  # fmt: skip
    cut = [m for m in _without(every, whole) if _VOCABULARY.search(m.key)]
    if parsed.missing or parsed.unexpected or not (tables or (cut and len(every) == len(cut))):
        return None
    if not tables:
        return Finding(
            "vocab_resize", f"the table {cut[0].key} has another number of rows", "the text is cut before the shapes",
            _keys(cut), "guess", Fix("give the model the checkpoint's vocabulary (resize_token_embeddings) before loading"),
        )  # fmt: skip
    sizes = {(_source(m)[0], _target(m)[0]) for m in tables}
    same = [m for m in rows if (_source(m)[0], _target(m)[0]) in sizes]
    if every[0] not in same and 2 * len(same) < len(every):
        return None
    a, b = _source(tables[0])[0], _target(tables[0])[0]
    others = _without(rows, same)
    if others and b >= 2 * a and b % a == 0 and all(_target(m)[0] * a == _source(m)[0] * b for m in others):
        return Finding(
            "sharding",
            f"every table and weight has 1/{b // a} of the model's rows: the file is one of {b // a} "
            f"tensor-parallel shards, or "
            "of a model that much narrower",
            _example(tables),
            _keys(rows),
            "likely",
            Fix(f"merge the {b // a} shards first; one of them is not the whole model"),
        )
    entry = {
        "keys": [escape(m.key) for m in same],
        **({"method": "pad", "fill": "mean"} if b > a else {"method": "crop"}),
    }
    alone = len(same) == len(every)
    return Finding(
        "vocab_resize",
        f"the vocabulary has {a} entries in the checkpoint and {b} in the model",
        _example(tables),
        _keys(same),
        "likely",
        Fix(
            f"give the model {a} entries (resize_token_embeddings({a})) before loading; or take the first {min(a, b)} "
            "rows, if both tokenizers agree on them",
            load={"adapt": [entry]} if alone else {},
        ),
    )


def _head(parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]) -> Finding | None:
    rows = [
        m
        for m in every
        if m.target_shape is None
        or _axis(m) == 0
        or (_source(m)[1:2] != _target(m)[1:2] and len(_source(m)) == 1)
    ]
    stems = {m.key.rpartition(".")[0] for m in every}
    sure = all(_SURE_HEAD.search(m.key.rpartition(".")[0]) for m in every)
    kernels = [
        m for m in whole if len(_source(m)) == 4 and (_source(m)[1] <= 4 or (not sure and _source(m)[2] > 1))
    ]
    named = [
        m
        for m in every
        if (stems == {""} and re.match(r"(?i)\w*(?:Linear|Classif|Head)", parsed.class_name or ""))
        or _HEAD.search(m.key.rpartition(".")[0])
        or re.search(r"\.\d+$", m.key.rpartition(".")[0])
    ]
    if len(rows) < len(every) or len(stems) > 4 or kernels or len(named) < len(every):
        return None
    if parsed.missing or parsed.unexpected:
        return None
    counts = {(_source(m)[0], _target(m)[0]) for m in whole if _source(m) and _target(m)}
    detection = any(len(_source(m)) == 4 for m in whole)
    first = next(iter(counts), None)
    text = f" ({first[0]} in the checkpoint, {first[1]} in the model)" if first else ""
    keys = [escape(m.key) for m in every]
    fix = Fix(
        f"build the model with the checkpoint's number; or keep the model's own values in {folded(sorted(stems), 3)}, which "
        f"then stay new and must be trained ({counted(len(every), 'tensor')})",
        load={"adapt": [{"keys": keys, "method": "reinit"}]},
    )
    if detection:
        fix = Fix(
            "build the model with the checkpoint's number of classes or anchors (look at the anchor scales and ratios)"
        )
    return Finding(
        "head_mismatch",
        f"the output layer has another number of classes{text}",
        _example(every),
        _keys(every),
        "likely",
        fix,
    )


def _other(parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]) -> Finding:
    ratios = [
        (b, a)
        for m in whole
        if len(_source(m)) == len(_target(m))
        for a, b in zip(_source(m), _target(m), strict=True)
        if a != b
    ]
    pair = Counter(ratios).most_common(1)[0][0] if ratios else None
    hint = f": {pair[0]} in the model where the checkpoint has {pair[1]}" if pair else ""
    return Finding(
        "arch_mismatch",
        f"the model is built with other sizes than the checkpoint{hint}",
        _example(every),
        _keys(every),
        "likely" if len(every) > 1 else "guess",
        Fix(
            "build the model with the checkpoint's sizes: look at the option behind "
            f"{folded([m.key for m in every], 2)} (width, depth, kernel or input size); no rule makes up weights"
        ),
    )
