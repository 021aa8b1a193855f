"""Whether a checkpoint fits a target, decided without changing or reading anything it need not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

from ..checkpoint import open as open_checkpoint
from ..checkpoint import signature as signature_of
from ..config import RemapConfig
from ..config.fields import LoadFields
from ..config.giving import as_config
from ..config.load import LoadConfig
from ..diagnosis import diagnose
from ..errors import CkptkitError, FormatError
from ..formats.base import Source
from ..formats.tensor_bytes import flat_bytes
from ..load_report import LoadReport, Mismatch
from ..matching import Match, match, report
from ..planned import PlannedSource
from ..plans import make_plan
from ..rules.keys import StripPrefix
from ..signatures import Signature
from ..text import quote_list
from ..threads import one_thread
from .aliasing import disagreements
from .obstacles import obstacles
from .rehearsal import Rehearsal, rehearse
from .targets import Target, describe

if TYPE_CHECKING:
    from ..config.giving import AnyLoad


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before a parameter changes.

    Args:
        match: which source key fills which target key.
        rehearsal: what the modules' own hooks do to the keys.
        report: the outcome.
        withheld: keys (as the hooks leave them) that must not reach the modules.
    """

    match: Match
    rehearsal: Rehearsal
    report: LoadReport
    withheld: tuple[str, ...]


def fitted(target: Target, base: Source, config: LoadConfig) -> tuple[PlannedSource, Prepared]:
    """The rules carried out and their result matched with a live module.

    Where the module is wrapped (torch.compile, DataParallel) and keys have what the wrappers put before them when
    such a model is saved, they are tried without it, too; what fits and fills most is taken.

    Args:
        target: the module.
        base: the checkpoint.
        config: rules, permissions, dtypes.

    Raises:
        PlanError: the rules cannot be carried out, or an adapt entry does not suit.
        IncompatibleKeysError: a module's own hook refuses.
    """
    rules = list(config.rules)
    plain = _planned(base, config, rules)
    prefixes = [p for p in target.wrapped if any(key.startswith(p) for key in plain.signature)]
    found, refused = [], []
    for prefix in ["", *prefixes]:
        try:
            planned = _planned(base, config, [*rules, StripPrefix(prefix=prefix)]) if prefix else plain
            prepared = prepare(target, planned, config)
        except CkptkitError as error:
            if not prefixes:
                raise
            refused.append(error)
            continue
        if prefix:
            note = f"the keys stand behind {prefix!r}, as a wrapped model is saved"
            told = replace(prepared.report, notes=(note, *prepared.report.notes))
            prepared = replace(prepared, report=told)
        found.append((planned, prepared))
    if not found:
        raise refused[0]
    return max(found, key=lambda each: (each[1].report.ok, len(each[1].report.loaded)))


def _planned(base: Source, config: LoadConfig, rules: list[Any]) -> PlannedSource:
    return PlannedSource(base, make_plan(base.signature, RemapConfig(root=config.root, rules=rules)))


def prepare(target: Target, source: PlannedSource, config: LoadConfig) -> Prepared:
    """Match a checkpoint (after the rules) with a live module.

    Raises:
        PlanError: an adapt entry does not suit.
        IncompatibleKeysError: a module's own hook refuses.
    """
    rehearsal = rehearse(target.module, source, source.state_metadata)
    wanted = Signature({**target.signature.tensors, **rehearsal.reshaped}, target.signature.tied)
    matched = match(source.signature, wanted, config, rehearsal.names)
    _settle_made(matched, rehearsal, wanted)
    stopped = [*rehearsal.refusals, *obstacles(target, source, matched, config)]
    if not stopped:
        stopped += disagreements(target, source, matched, config)
    notes = list(source.notes)
    if rehearsal.overriding:
        classes = sorted({cls for _, cls in rehearsal.overriding} - _STOCK)
        if classes:
            notes.append(
                f"classes that load in their own way (kept aside and restored on error): {', '.join(classes)}"
            )
    if config.assign:
        left = _left_on_meta(target, matched)
        if left:
            notes.append(
                f"stay on the meta device, since the checkpoint does not fill them: {quote_list(left)}"
            )
    outcome = judged(source, wanted, matched, config, target.what, notes, stopped)
    withheld = (*(m.key for m in matched.mismatched), *matched.reinit)
    return Prepared(matched, rehearsal, outcome, withheld)


def _settle_made(matched: Match, rehearsal: Rehearsal, target: Signature) -> None:
    """What hooks make themselves, do without, or miss beside the model's own keys."""
    for key in list(matched.missing):
        if key in rehearsal.made or key in rehearsal.forgiven:
            matched.missing.remove(key)
            shape = rehearsal.made.get(key)
            if shape is None or shape == target[key].shape or target[key].kind == "object":
                matched.made.append(key)
            else:
                matched.mismatched.append(Mismatch(key, shape, target[key].shape))
    known = {*target, *matched.unexpected}
    matched.missing += [key for key in rehearsal.missing if key not in known]
    matched.unexpected += [key for key in rehearsal.unexpected if key not in known]
    matched.unexpected += [key for key in rehearsal.made if key not in known]


# torch's own classes whose overrides only migrate old layouts.
_STOCK = {
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "SyncBatchNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
}


def judged(
    source: Source,
    target: Signature,
    matched: Match,
    config: LoadConfig,
    what: str,
    notes: list[str],
    stopped: Sequence[str] = (),
) -> LoadReport:
    """The report of a match, with findings when it does not fit; `stopped` are further reasons why not."""
    outcome = report(matched, target, config, what, equal=_equal(source), notes=notes, stopped=stopped)
    if outcome.ok:
        return outcome
    return replace(outcome, findings=diagnose(outcome, source.signature, target))


def _equal(source: Source) -> Callable[[str, str], bool | None]:
    """Compares two tensors of a source by their bytes; None when it has no data."""

    def equal(a: str, b: str) -> bool | None:
        try:
            one, other = source.loaded(a), source.loaded(b)
        except FormatError:
            return None
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        import torch

        left, right = (flat_bytes(t) for t in (one, other))
        with one_thread(left):
            return torch.equal(left, right)

    return equal


def _left_on_meta(target: Target, matched: Match) -> list[str]:
    tied = {key for key, _ in matched.tied}
    kept = {*matched.fills, *tied}
    every = [*target.module.named_parameters(), *target.module.named_buffers()]
    return [name for name, value in every if value.is_meta and name not in kept]


def check(
    target: Any, source: Any, config: AnyLoad | None = None, **fields: Unpack[LoadFields]
) -> LoadReport:
    """Whether a checkpoint would load; changes nothing.

    Args:
        target: an `nn.Module` (on any device, meta included), a Signature, a Checkpoint, or a path.
        source: a path, a mapping of tensors, a Checkpoint, a Signature, or an `nn.Module`.
        config: a `LoadConfig` or `RemapConfig`, fields, a list of rules, or the path of a config file.
        fields: a LoadConfig's, which count before those of `config`.

    Returns:
        The report that `load` would give; `ok` says whether it would load.

    Raises:
        PlanError: the rules cannot be carried out.
        FormatError: a checkpoint is damaged.
    """
    settings = as_config(LoadConfig, config, fields)
    if isinstance(source, Signature):
        base: Source = _Described(source)
    else:
        base = open_checkpoint(source, root=settings.root).source
    if hasattr(target, "named_parameters") and hasattr(target, "state_dict"):
        return fitted(describe(target), base, settings)[1].report
    planned = _planned(base, settings, list(settings.rules))
    signature = signature_of(target, part=False)
    matched = match(planned.signature, signature, settings)
    return judged(planned, signature, matched, settings, "the target", list(planned.notes))


class _Described(Source):
    """A signature without data, where a source is wanted."""

    format = "signature"

    def __init__(self, signature: Signature) -> None:
        self.signature = signature

    def view(self, key: str) -> Any:
        raise FormatError(f"{key!r} has no data: only a signature was given", key=key)

    def read(self, storage: Any, start: int, stop: int) -> Any:
        raise FormatError("only a signature was given, which has no data")

    def tensor(self, key: str) -> Any:
        raise FormatError(f"{key!r} has no data: only a signature was given", key=key)
