"""Plans: what a list of rules does to one signature. Pure data, made before any tensor is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..config import RemapConfig
from ..expr import Expr, Read, with_reads
from ..expr.inverse import Equal, Inverse
from ..signatures import Signature, TensorInfo, tied_groups
from .describing import describe
from .refusal import refusal


@dataclass(frozen=True, slots=True)
class Output:
    """One key of the result.

    Args:
        key: its name.
        info: its shape and dtype.
        expr: how it is made from source keys.
        rules: indices of the rules that touched it.
        tie: whether a rule made it one tensor with the other such outputs of an equal expression.
    """

    key: str
    info: TensorInfo
    expr: Expr
    rules: tuple[int, ...] = ()
    tie: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The result's shape."""
        return self.info.shape

    @property
    def dtype(self) -> str:
        """The name of the result's dtype."""
        return self.info.dtype


@dataclass(frozen=True, slots=True)
class RuleUse:
    """What became of one rule: its place, its op, and how many keys it touched."""

    index: int
    op: str
    matched: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A key that a rule dropped.

    Args:
        key: as it was called then.
        rule: index of the rule.
        expr: how it was made; None in a plan read from a file.
    """

    key: str
    rule: int
    expr: Expr | None = None


class FileKeys(NamedTuple):
    """One of several files, and its keys."""

    file: str
    keys: tuple[str, ...]


Layout = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Plan:
    """What rules do to one signature: every output key with the expression that makes it.

    Args:
        outputs: in state_dict order.
        dropped: what rules dropped.
        rules: one `RuleUse` per rule.
        source: the signature the plan was made for.
        config: the config it was made from, None for a plan read from a file.
        equal: what must be equal when it is applied.
        restores: of an inverse, the signature that it gives back, whose ties and metadata it has.
        layout: (file name, its keys) of the source's files, when they are several.
        target_layout: of an inverse, the files that a folder is to get.
    """

    outputs: tuple[Output, ...]
    dropped: tuple[Dropped, ...]
    rules: tuple[RuleUse, ...]
    source: Signature
    config: RemapConfig | None = None
    equal: tuple[Equal, ...] = ()
    restores: Signature | None = None
    layout: Layout = ()
    target_layout: Layout = ()

    def __post_init__(self) -> None:
        for name in ("layout", "target_layout"):
            object.__setattr__(self, name, tuple(FileKeys(*each) for each in getattr(self, name)))

    @property
    def source_hash(self) -> str:
        """SHA-256 over the source's keys, shapes, dtypes and ties; equal signatures have equal hashes."""
        return signature_hash(self.source)

    @property
    def signature(self) -> Signature:
        """Keys, shapes, dtypes and ties of the result."""
        return Signature(
            {o.key: o.info for o in self.outputs},
            self.ties,
            self.source.metadata if self.restores is None else self.restores.metadata,
            self.source.root,
            self.source.roots,
        )

    @property
    def ties(self) -> tuple[tuple[str, ...], ...]:
        """Output keys that are one tensor, since their source keys are, or since a rule ties them."""
        if self.restores is not None:
            return self.restores.tied
        if not self.source.tied and not any(output.tie for output in self.outputs):
            return ()
        group_of = {key: group[0] for group in self.source.tied for key in group}
        seen: set[Expr] = set()
        pairs: list[tuple[str, object]] = []
        for output in self.outputs:
            reads = output.expr.reads()
            if output.tie or (output.expr not in seen and any(key in group_of for key in reads)):
                pairs.append((output.key, _canonical(output.expr, group_of)))
            seen.add(output.expr)
        return tied_groups(pairs)

    @property
    def untied(self) -> tuple[tuple[str, ...], ...]:
        """Output keys that are no longer one tensor, since rules did different things to them."""
        if not self.source.tied:
            return ()
        tie_of = {key: number for number, group in enumerate(self.ties) for key in group}
        group_of = {key: number for number, group in enumerate(self.source.tied) for key in group}
        made: dict[int, dict[Expr, str]] = {}
        for output in self.outputs:
            reads = output.expr.reads()
            number = group_of.get(reads[0]) if reads else None
            if number is not None:
                made.setdefault(number, {}).setdefault(output.expr, output.key)
        apart = []
        for number in sorted(made):
            keys = list(made[number].values())
            if len({tie_of.get(key, key) for key in keys}) > 1:
                apart.append(tuple(keys))
        return tuple(apart)

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.plan`` document."""
        return {
            "format": "ckptkit.plan",
            "version": 1,
            "outputs": [
                {
                    "key": o.key,
                    "shape": list(o.info.shape),
                    "dtype": o.info.dtype,
                    "expr": o.expr.to_json(),
                    "rules": list(o.rules),
                    **({"tie": True} if o.tie else {}),
                }
                for o in self.outputs
            ],
            "dropped": [{"key": gone.key, "rule": gone.rule} for gone in self.dropped],
            "rules": [{"index": r.index, "op": r.op, "matched": r.matched} for r in self.rules],
            "source": self.source.to_json(),
            "source_hash": self.source_hash,
            **self._way_back(),
        }

    def _way_back(self) -> dict[str, Any]:
        """What only inverses and plans of several files have."""
        more: dict[str, Any] = {}
        if self.equal:
            more["equal"] = [
                {"key": e.key, "one": e.one.to_json(), "other": e.other.to_json()} for e in self.equal
            ]
        if self.restores is not None:
            more["restores"] = self.restores.to_json()
        for name, layout in (("layout", self.layout), ("target_layout", self.target_layout)):
            if layout:
                more[name] = [{"file": file, "keys": list(keys)} for file, keys in layout]
        return more

    def invert(self) -> Plan:
        """The plan that makes the source from the result, names and bytes.

        A source key that several outputs hold whole comes back from the first; the others must be equal by
        bytes when the inverse is applied. Slices must tile their source. Dropping one of two tied names
        loses nothing.

        Raises:
            PlanError: something is lost; `problems` names every rule that loses something, and what.
        """
        return _inverse(self)

    def __str__(self) -> str:
        return describe(self)


def _canonical(expr: Expr, group_of: Mapping[str, str]) -> Expr:
    """The expression with every tied key replaced by its group's first one."""
    return with_reads(expr, lambda key: Read(group_of.get(key, key)))


def signature_hash(signature: Signature) -> str:
    """SHA-256 over keys, shapes, dtypes and ties, in state_dict order, as ``sha256:<hex>``."""
    document = [
        [[key, list(info.shape), info.dtype] for key, info in signature.tensors.items()],
        [list(group) for group in signature.tied],
    ]
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _inverse(plan: Plan) -> Plan:
    walk = Inverse([(o.key, o.expr) for o in plan.outputs], plan.source)
    recovered = walk.recovered
    equal = list(walk.equal)
    for group in plan.source.tied:
        there = [(key, recovered[key]) for key in group if key in recovered]
        for key, expr in there[1:]:
            if expr != there[0][1]:
                equal.append(Equal(key, there[0][1], expr))
        if there:
            for key in group:
                recovered.setdefault(key, there[0][1])
    outputs = [
        Output(key, info, recovered[key]) for key, info in plan.source.tensors.items() if key in recovered
    ]
    lost = [key for key in plan.source if key not in recovered]
    if lost:
        raise refusal(plan, walk.losses, lost)
    used = {name for output in outputs for name in output.expr.reads()}
    used |= {name for each in equal for expr in (each.one, each.other) for name in expr.reads()}
    # What no source key comes back from must still be what the rules make of what came back.
    for made in plan.outputs:
        if made.key not in used:
            again = _again(made.expr, recovered)
            if again is not None:
                equal.append(Equal(made.key, Read(made.key), again))
    return Plan(
        tuple(outputs),
        (),
        (),
        plan.signature,
        equal=tuple(dict.fromkeys(equal)),
        restores=plan.source,
        layout=(),
        target_layout=plan.layout,
    )


def _again(expr: Expr, recovered: Mapping[str, Expr]) -> Expr | None:
    """An output's expression over what came back; None where not all of it did."""
    if any(key not in recovered for key in expr.reads()):
        return None
    return with_reads(expr, lambda key: recovered[key])
