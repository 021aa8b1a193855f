"""Keys whose shapes differ, from a text: which size of the model is another one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod

from ..findings import Finding, Fix
from ..patterns import escape
from ..text import counted, folded
from ..vetoes import is_buffer
from .differing import example, keys_of, only_axis, source_of, target_of, without
from .layouts import moved
from .parsed import Parsed, ShapeMismatch
from .positions import POSITION, positions

_NO_WORDS = re.compile(r"(?i)quer(?:y|ies)|token_type|segment|time|position|(?:^|[._])pos|class_embed|label")
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
    for look in (_lora, _shards, _layout, positions, _channels, _vocabulary, _head):
        finding = look(parsed, whole, every)
        if finding is not None:
            return finding
    return None


def _apart(every: Sequence[ShapeMismatch]) -> list[list[ShapeMismatch]]:
    """Position tables, the first convolution, and the rest."""
    tables = [m for m in every if POSITION.search(m.key)]
    stems = [m for m in without(every, tables) if len(source_of(m)) >= 4 and only_axis(m) == 1]
    rest = without(every, [*tables, *stems])
    return [group for group in (tables, stems, rest) if group]


def _shards(parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]) -> Finding | None:
    if not whole:
        return None
    empty = [
        m
        for m in whole
        if 0 in (prod(source_of(m)) if source_of(m) else 1, prod(target_of(m)) if target_of(m) else 1)
        or (source_of(m) == (1,) and prod(target_of(m)) > 64)
    ]
    ratios = {
        max(x, y) // min(x, y) if min(x, y) and max(x, y) % min(x, y) == 0 else 0
        for m in whole
        if (axis := only_axis(m)) is not None
        for x, y in [(source_of(m)[axis], target_of(m)[axis])]
    }
    axes = {only_axis(m) for m in whole if len(source_of(m)) == 2}
    cut = (
        len(whole) >= 2
        and len(ratios) == 1
        and min(ratios) >= 2
        and axes == {0, 1}
        and all(only_axis(m) is not None for m in whole)
    )
    if len(empty) * 2 > len(whole):
        what = "one side is partitioned in memory (ZeRO-3, FSDP): its tensors are empty or placeholders"
        fix = "gather the parameters before loading, or load before partitioning; consolidate a sharded checkpoint first"
    elif cut and all(prod(source_of(m)) < prod(target_of(m)) for m in whole):
        what = (
            f"every differing weight is a {min(ratios)}th of the model's, cut along rows here and columns there: a "
            f"tensor-parallel shard of {min(ratios)}"
        )
        fix = f"merge the {min(ratios)} shards first; one of them is not the whole model"
    else:
        return None
    return Finding("sharding", what, example(whole), keys_of(whole), "likely", Fix(fix))


def _lora(parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]) -> Finding | None:
    found = [m for m in every if re.search(r"lora_[AB]|lora_(?:up|down)|lora_embedding", m.key)]
    if not found or 2 * len(found) < len(every):
        return None
    return Finding(
        "lora_adapter",
        "the adapter's rank, base model or layout is not the one it was trained with",
        example(found),
        keys_of(found),
        "likely",
        Fix(
            "build the adapter from its own adapter_config.json (r, target_modules, base model); no rule changes a rank"
        ),
    )


def _layout(parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]) -> Finding | None:
    same = [m for m in whole if prod(source_of(m)) == prod(target_of(m)) and source_of(m)]
    inflated = [
        m
        for m in whole
        if len(target_of(m)) == len(source_of(m)) + 1
        and (*target_of(m)[:2], *target_of(m)[3:]) == source_of(m)
    ]
    found = same if len(same) * 2 >= len(whole) else inflated if len(inflated) * 2 >= len(whole) else []
    if not found:
        return None
    if found is inflated:
        return Finding(
            "layout", "image kernels for a video model: the model's have a time dimension more", example(found),
            keys_of(found), "likely",
            Fix("repeat them over time", load={"adapt": [{"keys": [escape(m.key) for m in found], "method": "inflate"}]}),
        )  # fmt: skip
    return moved(found)


def _channels(
    parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]
) -> Finding | None:
    if len(every) != 1 or len(whole) != 1 or len(source_of(whole[0])) < 4 or only_axis(whole[0]) != 1:
        return None
    (m,) = whole
    return Finding(
        "input_channels",
        f"the first convolution takes {target_of(m)[1]} input channels, the checkpoint's took {source_of(m)[1]}",
        example(whole),
        keys_of(whole),
        "likely",
        Fix(
            "the checkpoint's channels are "
            + ("summed" if target_of(m)[1] == 1 else "repeated in turn and scaled")
            + "; check that the channels mean the same, or build the model for them",
            load={"adapt": [{"keys": [escape(m.key)], "method": "input_channels"}]},
        ),
    )


def _vocabulary(
    parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]
) -> Finding | None:
    rows = [m for m in whole if only_axis(m) == 0]
    biases = {m.key.rpartition(".")[0] for m in every if m.key.endswith(".bias")}
    tables = [
        m
        for m in rows
        if (_VOCABULARY.search(m.key) or (m.key == "weight" and "Embedding" in (parsed.class_name or "")))
        and len(source_of(m)) == 2 and not _NO_WORDS.search(m.key)
        and m.key.rpartition(".")[0] not in biases
    ]  # fmt: skip
    cut = [m for m in without(every, whole) if _VOCABULARY.search(m.key)]
    if parsed.missing or parsed.unexpected or not (tables or (cut and len(every) == len(cut))):
        return None
    if not tables:
        return Finding(
            "vocab_resize", f"the table {cut[0].key} has another number of rows", "the text is cut before the shapes",
            keys_of(cut), "guess",
            Fix("give the model the checkpoint's vocabulary (resize_token_embeddings) before loading"),
        )  # fmt: skip
    sizes = {(source_of(m)[0], target_of(m)[0]) for m in tables}
    same = [m for m in rows if (source_of(m)[0], target_of(m)[0]) in sizes]
    if every[0] not in same and 2 * len(same) < len(every):
        return None
    a, b = source_of(tables[0])[0], target_of(tables[0])[0]
    others = without(rows, same)
    if (
        others
        and b >= 2 * a
        and b % a == 0
        and all(target_of(m)[0] * a == source_of(m)[0] * b for m in others)
    ):
        return Finding(
            "sharding",
            f"every table and weight has 1/{b // a} of the model's rows: the file is one of {b // a} "
            f"tensor-parallel shards, or "
            "of a model that much narrower",
            example(tables),
            keys_of(rows),
            "likely",
            Fix(f"merge the {b // a} shards first; one of them is not the whole model"),
        )
    entry = {
        "keys": [escape(m.key) for m in same],
        **({"method": "pad", "fill": "mean"} if b > a else {"method": "crop"}),
    }
    alone = len(same) == len(every)
    parts = round(b / max(a, 1))
    if alone and parts >= 2 and abs(b - parts * a) * 50 <= b:
        # A table padded to a multiple and then cut: filling its other rows up would pass a part off as the whole.
        return Finding(
            "vocab_resize",
            f"the vocabulary has {a} entries in the checkpoint and {b} in the model, or the file is one of {parts} shards",
            example(tables),
            keys_of(same),
            "guess",
            Fix(
                f"look whether {parts - 1} more files belong to it and merge them first; else give the model {a} entries "
                f"(resize_token_embeddings({a})) before loading"
            ),
        )
    return Finding(
        "vocab_resize",
        f"the vocabulary has {a} entries in the checkpoint and {b} in the model",
        example(tables),
        keys_of(same),
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
        or only_axis(m) == 0
        or (source_of(m)[1:2] != target_of(m)[1:2] and len(source_of(m)) == 1)
    ]
    stems = {m.key.rpartition(".")[0] for m in every}
    sure = all(_SURE_HEAD.search(m.key.rpartition(".")[0]) for m in every)
    kernels = [
        m
        for m in whole
        if len(source_of(m)) == 4 and (source_of(m)[1] <= 4 or (not sure and source_of(m)[2] > 1))
    ]
    named = [
        m
        for m in every
        if (stems == {""} and re.match(r"(?i)\w*(?:Linear|Classif|Head)", parsed.class_name or ""))
        or _HEAD.search(m.key.rpartition(".")[0])
        or re.search(r"\.\d+$", m.key.rpartition(".")[0])
        or m.key.rpartition(".")[0] in parsed.ends
    ]
    if len(rows) < len(every) or len(stems) > 4 or kernels or len(named) < len(every):
        return None
    if parsed.missing or parsed.unexpected:
        return None
    counts = {(source_of(m)[0], target_of(m)[0]) for m in whole if source_of(m) and target_of(m)}
    detection = any(len(source_of(m)) == 4 for m in whole)
    first = next(iter(counts), None)
    where = folded(sorted(stems), 2)
    number = f"{first[0]} classes" if first else "the checkpoint's number"
    text = (
        f"the output layer {where} has {first[0]} classes in the checkpoint and {first[1]} in the model"
        if first and where
        else "the output layer has another number of classes"
    )
    keys = [escape(m.key) for m in every]
    fix = Fix(
        f"build the model with {number}; or keep the model's own values in {folded(sorted(stems), 3)}, which then stay new "
        f"and must be trained ({counted(len(every), 'tensor')})",
        load={"adapt": [{"keys": keys, "method": "reinit"}]},
    )
    if detection:
        fix = Fix(
            "build the model with the checkpoint's number of classes or anchors (look at the anchor scales and ratios)"
        )
    return Finding(
        "head_mismatch",
        text,
        example(every),
        keys_of(every),
        "likely",
        fix,
    )


def _other(parsed: Parsed, whole: Sequence[ShapeMismatch], every: Sequence[ShapeMismatch]) -> Finding:
    sizes = Counter(
        (a, b)
        for m in whole
        if len(source_of(m)) == len(target_of(m))
        for a, b in zip(source_of(m), target_of(m), strict=True)
        if a != b
    )
    ratios = Counter[Fraction]()
    for (a, b), count in sizes.items():
        if a:
            ratios[Fraction(b, a)] += count
    hint = ""
    if sizes:
        (a, b), _ = sizes.most_common(1)[0]
        hint = f": {b} in the model where the checkpoint has {a}"
    if len(whole) >= 3 and ratios:
        ratio, count = ratios.most_common(1)[0]
        hint += f"; the model's sizes are {ratio} of the checkpoint's in {count} places"
    return Finding(
        "arch_mismatch",
        f"the model is built with other sizes than the checkpoint{hint}",
        example(every),
        keys_of(every),
        "likely" if len(every) > 1 else "guess",
        Fix(
            "build the model with the checkpoint's sizes: look at the option behind "
            f"{folded([m.key for m in every], 2)} (width, depth, kernel or input size); no rule makes up weights"
        ),
    )
