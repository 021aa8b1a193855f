"""Which source key fills which target key: decided on names, shapes and dtypes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from .config.adapt import AdaptEntry, adapt_expr
from .config.load import LoadConfig
from .errors import PlanError
from .expr import Expr, Read
from .load_report import Adapted, Coverage, LoadReport, Mismatch, Tied
from .patterns import select
from .rules.base import no_match
from .signatures import Signature, TensorInfo
from .text import folded


@dataclass
class Match:
    """How a source fills a target.

    Args:
        fills: target key to the expression over source keys that fills it, in target order.
        missing, unexpected, mismatched, adapted, tied: as in `LoadReport`.
        conflicts: (target key, source key, other target key, its source key): two source tensors for
            one tied parameter; their bytes must be equal.
        reinit: target keys that keep the model's values on purpose.
        made: target keys that the model's own load hooks fill (an old BatchNorm's counter).
        used: how many source keys go anywhere, into a key of the target or a hook of the model.
    """

    fills: dict[str, Expr] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[Mismatch] = field(default_factory=list)
    adapted: list[Adapted] = field(default_factory=list)
    tied: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[tuple[str, str, str, str]] = field(default_factory=list)
    reinit: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    used: int = 0

    @property
    def idle(self) -> bool:
        """Whether nothing of the source is used; what hooks make of nothing is none of it."""
        return not self.fills and self.used <= 0


def match(
    source: Signature, target: Signature, config: LoadConfig, sources: Mapping[str, str] | None = None
) -> Match:
    """Match the keys of a source (after the rules) with those of a target.

    Args:
        source: the signature after the rules.
        target: the model's signature.
        config: the adapt entries and what to do about shapes that differ.
        sources: target-side name of each source key, where a module's own hooks rename keys on load.

    Raises:
        PlanError: an adapt entry does not suit a tensor, or a pattern of one matches nothing.
    """
    names = dict(sources) if sources is not None else {key: key for key in source}
    origin = {new: old for old, new in names.items()}
    result = Match()
    entries = _adapters(config, target)
    for key, wanted in target.tensors.items():
        old = origin.get(key)
        if old is None:
            result.missing.append(key)
            continue
        found = source[old]
        entry = entries.get(key)
        if entry is not None and entry.method == "reinit":
            result.reinit.append(key)
        elif entry is not None:
            expr = adapt_expr(entry, key, found, wanted, Read(old))
            result.fills[key] = expr
            if not isinstance(expr, Read):
                result.adapted.append(Adapted(key, found.shape, wanted.shape, entry.method))
        elif fits(found, wanted):
            result.fills[key] = Read(old)
        else:
            result.mismatched.append(Mismatch(key, found.shape, wanted.shape))
    result.unexpected = [old for old, new in names.items() if new not in target]
    result.used = len(source) - len(result.unexpected) - len(result.mismatched) - len(result.reinit)
    _settle_ties(source, target, result)
    return result


def fits(found: TensorInfo, wanted: TensorInfo) -> bool:
    """Whether torch would take the tensor as it is; a single number fits a 0-d parameter, as of old."""
    if wanted.kind == "object":
        return True  # an extra state may be anything: its module makes sense of it
    if found.kind != wanted.kind:
        return False
    return found.shape == wanted.shape or (found.shape == (1,) and wanted.shape == ())


def _adapters(config: LoadConfig, target: Signature) -> dict[str, AdaptEntry]:
    chosen: dict[str, AdaptEntry] = {}
    for number, entry in enumerate(config.adapt):
        found = select(entry.keys, target)
        if found.unmatched:
            raise PlanError(f"adapt.{number}: {no_match(found.unmatched[0], 'pattern', target)}")
        for key in found.keys:
            chosen.setdefault(key, entry)
    return chosen


def _settle_ties(source: Signature, target: Signature, result: Match) -> None:
    """A missing key whose partner is filled is tied; two sources for one parameter must agree."""
    same = {key: group[0] for group in source.tied for key in group}
    for group in target.tied:
        filled = [key for key in group if key in result.fills]
        if not filled:
            continue
        spared = [key for key in group if key in result.reinit]
        if spared:
            raise PlanError(
                f"adapt: {spared[0]!r} is to keep the model's values (reinit), and is tied with {filled[0]!r}, which the "
                "checkpoint would fill; give both the same method",
                key=spared[0],
            )
        first = filled[0]
        for key in group:
            if key in result.missing:
                result.missing.remove(key)
                result.tied.append((key, first))
        for key in filled[1:]:
            (a,), (b,) = result.fills[first].reads()[:1], result.fills[key].reads()[:1]
            if same.get(a, a) != same.get(b, b):
                result.conflicts.append((first, a, key, b))


def report(
    match: Match,
    target: Signature,
    config: LoadConfig,
    what: str,
    *,
    equal: Callable[[str, str], bool | None] | None = None,
    notes: Iterable[str] = (),
    stopped: Iterable[str] = (),
) -> LoadReport:
    """Judge a match by the config's permissions.

    Args:
        match: from `match`.
        target: the model's signature.
        config: what is permitted.
        what: the target's name for messages.
        equal: whether two source tensors have equal bytes; None when that cannot be known.
        notes: to add to the report.
        stopped: further reasons why it does not load.
    """
    errors = list(stopped)
    remarks = list(notes)
    kept = select(config.allow_missing, [*match.missing, *match.reinit])
    spared = select(config.allow_unexpected, match.unexpected)
    remarks += [f"allow_missing {p!r} matches no missing key" for p in kept.unmatched]
    remarks += [f"allow_unexpected {p!r} matches no unexpected key" for p in spared.unmatched]
    if config.strict:
        lost = [k for k in match.missing if k not in set(kept.keys)]
        surplus = [k for k in match.unexpected if k not in set(spared.keys)]
        if lost:
            errors.append(f"{len(lost)} missing: {folded(lost, 4)}")
        if surplus:
            errors.append(f"{len(surplus)} unexpected: {folded(surplus, 4)}")
    if match.mismatched and config.on_mismatch == "error":
        errors.append(
            f"{len(match.mismatched)} with another shape: {folded([m.key for m in match.mismatched], 4)}"
        )
    elif match.mismatched:
        remarks.append(f"{len(match.mismatched)} skipped, since their shapes differ (on_mismatch: skip)")
    if match.reinit:
        remarks.append(f"keep the model's own values (reinit): {folded(match.reinit, 4)}")
    for first, a, key, b in match.conflicts:
        if equal is not None and equal(a, b) is False:
            errors.append(
                f"{first!r} and {key!r} are one tied parameter, and the checkpoint has different tensors for them "
                f"({a!r}, {b!r}); drop one of them"
            )
    filled = coverage(match, target)
    wanted = [k for k, info in target.tensors.items() if info.kind == "tensor"]
    if wanted and match.idle:
        errors.append("nothing of the checkpoint would be loaded")
    if filled.parameters < config.min_loaded:
        errors.append(
            f"{filled.parameters:.1%} of the parameters would be filled; min_loaded asks for {config.min_loaded:.1%}"
        )
    return LoadReport(
        ok=not errors,
        loaded=tuple(k for k, e in match.fills.items() if isinstance(e, Read)),
        missing=(*match.missing, *match.reinit),
        unexpected=tuple(match.unexpected),
        mismatched=tuple(match.mismatched),
        adapted=tuple(match.adapted),
        tied=tuple(Tied(*pair) for pair in match.tied),
        coverage=filled,
        errors=tuple(errors),
        notes=tuple(remarks),
        what=what,
        config=config,
    )


def coverage(match: Match, target: Signature) -> Coverage:
    """Shares of the target's tensors and of its elements that are filled; 1.0 of an empty target."""
    filled = set() if match.idle else {*match.fills, *match.made, *(key for key, _ in match.tied)}
    again = {key for group in target.tied for key in group[1:]}
    tensors = [k for k, info in target.tensors.items() if info.kind == "tensor"]
    single = [k for k in tensors if k not in again]
    # A tied group counts as filled by any of its names.
    for group in target.tied:
        if any(key in filled for key in group):
            filled.add(group[0])
    count = sum(k in filled for k in tensors)
    elements = sum(target[k].numel for k in single)
    loaded = sum(target[k].numel for k in single if k in filled)
    return Coverage(count / len(tensors) if tensors else 1.0, loaded / elements if elements else 1.0)
