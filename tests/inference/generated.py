"""Made-up models and what can happen to their keys, each with the truth beside it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

import ckptkit
from ckptkit.signatures import Signature, TensorInfo

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


def signature(shapes: Shapes) -> Signature:
    return Signature({key: TensorInfo(shape, "float32") for key, shape in shapes.items()})


def linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def transformer(layers: int = 4, width: int = 32, inner: int = 128, vocabulary: int = 500) -> Shapes:
    """An encoder as many libraries name it."""
    shapes = {"embed_tokens.weight": (vocabulary, width), "embed_positions.weight": (77, width)}
    for n in range(layers):
        block = f"layers.{n}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{block}self_attn.{part}", width, width)
        shapes |= norm(f"{block}self_attn_layer_norm", width)
        shapes |= linear(f"{block}fc1", inner, width) | linear(f"{block}fc2", width, inner)
        shapes |= norm(f"{block}final_layer_norm", width)
    return shapes | norm("final_norm", width) | {"lm_head.weight": (vocabulary + 1, width)}


def residual(widths: tuple[int, ...] = (16, 32, 64), depth: int = 2) -> Shapes:
    """A convolutional network in stages."""
    shapes: Shapes = {"conv1.weight": (widths[0], 3, 7, 7)} | batch_norm("bn1", widths[0])
    before = widths[0]
    for stage, width in enumerate(widths, 1):
        for n in range(depth):
            block = f"layer{stage}.{n}."
            shapes |= {f"{block}conv1.weight": (width, before, 3, 3)} | batch_norm(f"{block}bn1", width)
            shapes |= {f"{block}conv2.weight": (width, width, 3, 3)} | batch_norm(f"{block}bn2", width)
            if before != width:
                shapes |= {f"{block}downsample.0.weight": (width, before, 1, 1)}
                shapes |= batch_norm(f"{block}downsample.1", width)
            before = width
    return shapes | linear("fc", 10, widths[-1])


def batch_norm(name: str, width: int) -> Shapes:
    shapes: Shapes = {
        f"{name}.{leaf}": (width,) for leaf in ("weight", "bias", "running_mean", "running_var")
    }
    return shapes | {f"{name}.num_batches_tracked": ()}


@dataclass
class Case:
    """A source, and a target made from it.

    Args:
        truth: target key to the expression that makes it from source keys.
    """

    source: Shapes
    target: Shapes
    truth: dict[str, Any]
    done: list[str] = field(default_factory=list)

    def renamed(self, what: str, change: Callable[[str], str]) -> Case:
        names = {key: change(key) for key in self.target}
        assert len(set(names.values())) == len(names), what
        return Case(
            self.source,
            {names[k]: s for k, s in self.target.items()},
            {names[k]: e for k, e in self.truth.items()},
            [*self.done, what],
        )


def unchanged(shapes: Shapes) -> Case:
    return Case(shapes, dict(shapes), {key: {"read": key} for key in shapes})


def fused(case: Case) -> Case:
    """Queries, keys and values as one projection."""
    target: Shapes = {}
    truth: dict[str, Any] = {}
    for key, shape in case.target.items():
        if "self_attn.k_proj" in key or "self_attn.v_proj" in key:
            continue
        if "self_attn.q_proj" in key:
            parts = [key.replace("q_proj", f"{p}_proj") for p in "qkv"]
            new = key.replace("q_proj", "qkv_proj")
            target[new] = (3 * shape[0], *shape[1:])
            truth[new] = {"op": "concat", "dim": 0, "of": [case.truth[p] for p in parts]}
        else:
            target[key], truth[key] = shape, case.truth[key]
    return Case(case.source, target, truth, [*case.done, "fused"])


def backwards(case: Case) -> Case:
    """The other way round: what was concatenated is cut. Only for cases of reads and concats of reads."""
    source, target = case.target, dict(case.source)
    truth: dict[str, Any] = {}
    for key, expr in case.truth.items():
        if "read" in expr:
            truth[expr["read"]] = {"read": key}
            continue
        start = 0
        for part in expr["of"]:
            stop = start + case.source[part["read"]][0]
            truth[part["read"]] = {
                "op": "slice",
                "dim": 0,
                "start": start,
                "stop": stop,
                "of": [{"read": key}],
            }
            start = stop
    return Case(source, target, truth, [*case.done, "backwards"])


def transposed(case: Case) -> Case:
    """Inputs before outputs in every matrix of a block that is not square."""
    target: Shapes = {}
    truth: dict[str, Any] = {}
    for key, shape in case.target.items():
        turn = key.endswith("weight") and len(shape) == 2 and ".fc" in key
        target[key] = shape[::-1] if turn else shape
        truth[key] = {"op": "transpose", "dims": [0, 1], "of": [case.truth[key]]} if turn else case.truth[key]
    return Case(case.source, target, truth, [*case.done, "transposed"])


def renames(old: str, new: str) -> Callable[[Case], Case]:
    return lambda case: case.renamed(f"{old} -> {new}", lambda key: key.replace(old, new))


def prefixed(prefix: str) -> Callable[[Case], Case]:
    return lambda case: case.renamed(f"prefix {prefix}", lambda key: prefix + key)


def shifted(offset: int) -> Callable[[Case], Case]:
    def change(key: str) -> str:
        tokens = key.split(".")
        if tokens[0].startswith("layers") and len(tokens) > 1 and tokens[1].isdigit():
            tokens[1] = str(int(tokens[1]) + offset)
        return ".".join(tokens)

    return lambda case: case.renamed(f"shifted {offset}", change)


# Each leaves names that a person would recognise.
CHANGES: tuple[Callable[[Case], Case], ...] = (
    renames("self_attn.", "attention."),
    renames("q_proj", "query"),
    renames("out_proj", "output_proj"),
    renames("final_layer_norm", "mlp_norm"),
    renames("embed_tokens", "word_embeddings"),
    renames("fc1", "up_proj"),
    renames("fc2", "down_proj"),
)


@st.composite
def changed_transformers(draw: st.DrawFn) -> Case:
    """A transformer whose keys went through several changes, in any combination."""
    case = unchanged(transformer(draw(st.integers(2, 5)), draw(st.sampled_from([24, 32]))))
    if draw(st.booleans()):
        case = shifted(draw(st.integers(1, 3)))(case)
    if draw(st.booleans()):
        case = fused(case)
    if draw(st.booleans()):
        case = transposed(case)
    for change in draw(st.lists(st.sampled_from(CHANGES), unique=True, max_size=4)):
        case = change(case)
    if draw(st.booleans()):
        case = renames("layers.", draw(st.sampled_from(["blocks.", "encoder.layer.", "h."])))(case)
    if draw(st.booleans()):
        case = prefixed(draw(st.sampled_from(["module.", "model.", "net.encoder."])))(case)
    return case


def random_words(case: Case, seed: int) -> Case:
    """Every word of the target's module names replaced by a random one."""
    chance = random.Random(seed)
    known: dict[str, str] = {}

    def word(token: str) -> str:
        if token.isdigit() or token in (
            "weight",
            "bias",
            "running_mean",
            "running_var",
            "num_batches_tracked",
        ):
            return token
        stem = token.rstrip("0123456789")
        if stem not in known:
            known[stem] = "".join(chance.choice("bdfgmprtz") + chance.choice("aeiou") for _ in range(3))
        return known[stem] + token[len(stem) :]

    return case.renamed("random words", lambda key: ".".join(word(t) for t in key.split(".")))


def inferred(case: Case) -> ckptkit.Inference:
    return ckptkit.infer(signature(case.source), signature(case.target))
