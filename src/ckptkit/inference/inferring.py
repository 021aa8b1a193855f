"""``ckptkit.infer``: from two signatures to rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..checkpoint import open as open_checkpoint
from ..checkpoint import signature as signature_of
from ..collector import gc_paused
from ..config import RemapConfig
from ..expr import Read
from ..plans import make_plan
from ..signatures import Signature
from .confidence import judged
from .contents import ALIKE, Contents
from .groups import Shape
from .matching import matched
from .result import Confidence, Inference, Inferred, TiedTarget
from .steps import Steps, steps
from .synthesis import selection, synthesised
from .words import ordinary

CHANCE = 20  # one guess in so many keys is no mapping


def infer(source: Any, target: Any, *, drop_unused: bool = False, values: bool = False) -> Inference:
    """Find the rules that turn one checkpoint's keys into another's, from names and shapes alone.

    Args:
        source: a path, a mapping of tensors, a Checkpoint, a Signature or an `nn.Module`.
        target: likewise.
        drop_unused: end the rules with a drop of what the target does not have.
        values: both hold data; compare it where names and shapes do not decide. Needs torch.

    Returns:
        The rules, what they do to each target key, and how far each is to be trusted. Data is only read
        with `values`.

    Raises:
        FormatError: a file cannot be read, or holds no data that `values` could compare.
    """
    if values:
        with open_checkpoint(source) as one, open_checkpoint(target) as other:
            return _infer(one.signature, other.signature, drop_unused, Contents(one, other))
    mine, theirs = signature_of(source, part=False), signature_of(target, part=False)
    with gc_paused():
        return _infer(mine, theirs, drop_unused, None)


def _infer(mine: Signature, theirs: Signature, drop_unused: bool, contents: Contents | None) -> Inference:
    ties = {key: group for group in theirs.tied for key in group}
    wanted = _wanted(mine, theirs, ties, contents)
    found = _answered(mine, theirs, wanted, ties, drop_unused, contents)
    if found.outputs and _by_chance(found.outputs, min(len(mine), len(theirs))):
        found = _answered(mine, theirs, Steps(), ties, drop_unused, contents)
    return found


def _answered(
    mine: Signature,
    theirs: Signature,
    wanted: Steps,
    ties: Mapping[str, Sequence[str]],
    drop_unused: bool,
    contents: Contents | None,
) -> Inference:
    """The rules that do what is wanted, and what they really do."""
    rules, plan = synthesised(mine, theirs, wanted)
    if drop_unused:
        surplus = [o.key for o in plan.outputs if o.key not in theirs]
        if surplus:
            drop = {"op": "drop", "keys": selection(surplus, [o.key for o in plan.outputs])}
            rules = [*rules, drop]
            plan = make_plan(mine, RemapConfig.parse({"rules": rules}))
    made = {o.key: o.expr for o in plan.outputs if o.key in theirs}
    outputs = []
    used: set[str] = set()
    verdicts: dict[int, tuple[Confidence, str]] = {}
    verdict: tuple[Confidence, str]
    owner = {key: next((k for k in group if k in made), None) for key, group in ties.items()}
    for key in theirs:
        if key not in made:
            continue
        used.update(made[key].reads())
        if owner.get(key, key) != key:
            continue  # one tensor with a key that is filled already
        match = wanted.match_of.get(key)
        if match is None and not ordinary(key) and made[key] == Read(key) and mine[key] == theirs[key]:
            verdict = ("certain", "same name, same shape")
        elif match is None:
            verdict = ("guess", "the rules leave this key as it is; nothing else speaks for it")
        else:
            verdict = verdicts.get(id(match)) or verdicts.setdefault(id(match), judged(match))
            if verdict[0] == "certain" and made[key] != Read(key) and _has(mine, key, theirs[key].shape):
                verdict = (
                    "likely",
                    "the source has this key too, in this shape; verify which of the two is wanted",
                )
        if contents is not None:
            alike = contents.verdict(made[key], key)
            verdict = verdict if alike is None else _seen(alike, verdict)
        outputs.append(Inferred(key, made[key], *verdict))
    tied = []
    for key, partner in owner.items():
        if partner is not None and partner != key:
            tied.append(TiedTarget(key, partner))
    settled = made.keys() | {key for key, _ in tied}
    return Inference(
        RemapConfig.parse({"rules": rules}),
        tuple(outputs),
        tuple(key for key in theirs if key not in settled),
        tuple(key for key in mine if key not in used),
        tuple(tied),
    )


def _wanted(
    mine: Signature, theirs: Signature, ties: Mapping[str, Sequence[str]], contents: Contents | None
) -> Steps:
    wanted = steps(*matched(_shapes(mine), _shapes(theirs), contents))
    for key, info in theirs.tensors.items():
        if not ordinary(key) and mine.tensors.get(key) == info:
            wanted.exprs[key] = {"read": key}
    for twin, key in list(wanted.copies):
        # A tied target is one tensor: what fills its partner fills it.
        if key in ties and twin in ties[key]:
            wanted.copies.remove((twin, key))
            del wanted.exprs[key]
    return wanted


def _has(signature: Signature, key: str, shape: Shape) -> bool:
    return key in signature and signature[key].kind == "tensor" and signature[key].shape == shape


def _by_chance(outputs: Sequence[Inferred], keys: int) -> bool:
    """Whether all that was found is what two unrelated models of so many keys would show as well."""
    return len(outputs) * CHANCE <= keys and all(o.confidence == "guess" for o in outputs)


def _seen(alike: float, verdict: tuple[Confidence, str]) -> tuple[Confidence, str]:
    """A verdict after a look at the data."""
    if alike > 1.5:
        return "certain", "the data of both sides are equal"
    if alike >= ALIKE:
        return verdict[0], f"the data of both sides are alike (cosine {alike:.3f}); {verdict[1]}"
    return (
        "guess",
        f"the data of both sides differ (cosine {alike:.3f}), as after training anew; {verdict[1]}",
    )


def _shapes(signature: Signature) -> dict[str, Shape]:
    """Key to shape; entries that are no tensors get one that no tensor has."""
    return {k: t.shape if t.kind == "tensor" else (-1,) for k, t in signature.tensors.items() if ordinary(k)}
