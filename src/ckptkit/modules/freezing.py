"""Freeze parts of a model by key patterns, and the way back: decided first, then done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from ..config.fields import FreezeFields
from ..config.freeze import FreezeConfig
from ..config.giving import as_config
from ..errors import PlanError, Problem, UsageError
from ..formats.module_tree import check_tree
from ..freeze_report import FreezeReport, TiedConflict, Weight
from ..patterns import nearest, select
from ..text import folded, quote_list
from .frozen_norms import has_statistics, hold, is_held, release
from .frozen_undo import RECORD, all_or_nothing
from .interrupts import Held
from .targets import Target, describe, unwrap

if TYPE_CHECKING:
    import torch

    from ..config.giving import AnyFreeze


@dataclass(frozen=True)
class _Decision:
    """What to do to a model, and what is remarkable about it.

    Args:
        tensors: the parameters and buffers that the config freezes, by id.
        held: norm layers that get held in evaluation mode.
        conflicts, notes: for the report.
    """

    tensors: Mapping[int, torch.Tensor]
    held: tuple[torch.nn.Module, ...]
    conflicts: tuple[TiedConflict, ...]
    notes: tuple[str, ...]


def freeze(
    model: torch.nn.Module, config: AnyFreeze | None = None, **fields: Unpack[FreezeFields]
) -> FreezeReport:
    """Keep parameters, and the statistics of norm layers, as they are during training.

    Frozen parameters have ``requires_grad`` False and no gradient, so that no optimizer moves them. With
    ``batch_norm: eval`` a norm layer whose parameters and buffers are all frozen stays in evaluation mode through
    ``model.train()``; copies and pickles of the model keep it so. A second freeze adds to the first.

    A signal whose handler is a Python function (Ctrl-C) waits until the model is frozen as a whole; what it raises
    comes out of this function. The same holds of `unfreeze`.

    Args:
        model: may be wrapped in DataParallel, DistributedDataParallel or torch.compile.
        config: a `FreezeConfig`, its fields, patterns to freeze, or the path of a config file.
        fields: a FreezeConfig's, which count before those of `config`.

    Returns:
        The state of the model after it: a table by module when printed.

    Raises:
        PlanError: a pattern matches no key; names the nearest keys. The model is unchanged.
        ConfigError: with one `Problem` for everything that is wrong with the config.
        UsageError: the model is no module, or not initialised yet; or a parameter refused; the model is as it was.
    """
    settings = as_config(FreezeConfig, config, fields, required=True)
    target = _described(model)
    decision = _decide(target, settings)
    with Held(), all_or_nothing(target.module.modules(), decision.tensors.values()):
        _carry_out(target.module, decision)
    return _report(target, decision)


def unfreeze(model: torch.nn.Module) -> None:
    """Undo every `freeze` of a model: gradients and training mode return to what they were before.

    Parameters that did not require gradients before `freeze` stay so. The model may be a copy of the frozen one, or
    one of its submodules, which is then thawed alone.

    Args:
        model: may be wrapped in DataParallel, DistributedDataParallel or torch.compile.

    Raises:
        UsageError: the model is no module, or a parameter refused; the model is as it was.
    """
    modules = list(_module(model).modules())
    thawed = [
        parameter
        for module in modules
        for name in vars(module).get(RECORD, {"parameters": ()})["parameters"]
        for parameter in _now(module, name)
    ]
    for parameter in thawed:
        if not (parameter.is_floating_point() or parameter.is_complex()):
            raise UsageError(
                f"a frozen parameter has become {parameter.dtype}, which takes no gradients; give it a floating-point "
                "dtype before unfreeze (nothing was unfrozen)"
            )
    with Held(), all_or_nothing(modules, thawed):
        for parameter in thawed:
            parameter.requires_grad_(True)
        for module in modules:
            vars(module).pop(RECORD, None)
            release(module)


def _now(module: torch.nn.Module, name: str) -> list[torch.nn.Parameter]:
    """What a parameter is today: itself, or what a parametrization or weight norm has made of it since."""
    own = [module._parameters.get(each) for each in (name, f"{name}_g", f"{name}_v", f"{name}_orig")]
    found = [parameter for parameter in own if parameter is not None]
    parametrizations = module._modules.get("parametrizations")
    made = parametrizations._modules.get(name) if parametrizations is not None else None
    return found + (list(made.parameters(recurse=False)) if made is not None else [])


def _module(model: Any) -> torch.nn.Module:
    import torch

    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"only an nn.Module can be frozen, not a value of type {type(model).__name__}")
    module = unwrap(model)
    check_tree(module)
    return module


def _described(model: Any) -> Target:
    target = describe(_module(model))
    inside = [
        name
        for name, parameter in target.module.named_parameters()
        if parameter.requires_grad and not parameter.is_leaf
    ]
    if inside:
        raise UsageError(
            f"{quote_list(inside)} are computed from other tensors at the moment, so their gradient cannot be "
            "switched off; freeze the model outside of its forward pass"
        )
    return target


def _decide(target: Target, config: FreezeConfig) -> _Decision:
    keys = list(target.signature)
    problems = []
    tensors_of = _tensors(target)
    for field, patterns in (("freeze", config.freeze), ("unfreeze", config.unfreeze)):
        for number, pattern in enumerate(patterns):
            if select([pattern], keys).keys and not select([pattern], tensors_of).keys:
                problems.append(
                    Problem(
                        f"{field}.{number}",
                        f"the pattern {pattern!r} matches extra states only, which never train",
                    )
                )
            elif not select([pattern], keys).keys:
                close = nearest(pattern, keys)
                hint = (
                    f"the nearest keys are {quote_list(close)}" if close else "the model has no keys at all"
                )
                problems.append(
                    Problem(f"{field}.{number}", f"the pattern {pattern!r} matches no key; {hint}")
                )
    if problems:
        lines = [f"{p.location.split('.')[0]}: {p.message}" for p in problems]
        raise PlanError("\n".join(lines), problems=problems)

    wanted = set(select(config.freeze, tensors_of).keys)
    carved = set(select(config.unfreeze, tensors_of).keys)
    notes = [
        f"unfreeze {pattern!r} takes nothing out of freeze"
        for pattern in config.unfreeze
        if wanted.isdisjoint(select([pattern], tensors_of).keys)
    ]
    chosen = wanted - carved
    conflicts, spread = _settle_ties(target, chosen)
    everywhere = chosen | spread
    tensors = {id(tensors_of[key]): tensors_of[key] for key in tensors_of if key in everywhere}
    spared = carved - everywhere
    still = [
        key
        for key in tensors_of
        if key in spared and _is_parameter(tensors_of[key]) and not tensors_of[key].requires_grad
    ]
    if still:
        notes.append(
            f"frozen before, and unfreeze does not change that: {folded(still)}; "
            "ckptkit.unfreeze(model) undoes earlier freezes"
        )
    held, partly = _norms(target.module, tensors) if config.batch_norm == "eval" else ((), [])
    return _Decision(tensors, held, conflicts, (*notes, *partly))


def _tensors(target: Target) -> dict[str, torch.Tensor]:
    """Every tensor by its key in the state_dict; those that it leaves out, by their name in the module."""
    import torch

    found = {key: value for key, value in target.state.items() if isinstance(value, torch.Tensor)}
    known = {id(value) for value in found.values()}
    module = target.module
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if id(value) not in known:
            found.setdefault(name, value)
    return found


def _is_parameter(tensor: torch.Tensor) -> bool:
    import torch

    return isinstance(tensor, torch.nn.Parameter)


def _settle_ties(target: Target, chosen: set[str]) -> tuple[tuple[TiedConflict, ...], set[str]]:
    """Tensors that are frozen under some of their names, and the other names, which freeze with them.

    What the config freezes must not move; the other way round, a frozen key would train without a word.
    """
    conflicts = []
    spread: set[str] = set()
    for group in target.signature.tied:
        frozen = tuple(key for key in group if key in chosen)
        rest = tuple(key for key in group if key not in chosen)
        if frozen and rest:
            conflicts.append(TiedConflict(frozen, rest))
            spread.update(rest)
    return tuple(conflicts), spread


def _norms(
    model: torch.nn.Module, tensors: Mapping[int, torch.Tensor]
) -> tuple[tuple[torch.nn.Module, ...], list[str]]:
    """The norm layers that are frozen as a whole, and notes about those that are frozen in part."""
    whole: list[torch.nn.Module] = []
    partly: list[str] = []
    for name, module in model.named_modules():
        if not has_statistics(module):
            continue
        states = [
            id(parameter) in tensors or not parameter.requires_grad for parameter in module.parameters()
        ]
        touched = any(id(p) in tensors for p in [*module.parameters(), *module.buffers()])
        for owner in module.modules():
            before = _record(owner)["buffers"]
            for own, buffer in owner.named_buffers(recurse=False):
                states.append(id(buffer) in tensors or own in before)
        if all(states):
            whole.append(module)
        elif touched and not is_held(module):
            partly.append(name or type(module).__name__)
    if not partly:
        return tuple(whole), []
    return tuple(whole), [
        f"only some parameters and buffers of these norm layers are frozen, so their statistics move in training: "
        f"{folded(partly)}"
    ]


def _record(module: torch.nn.Module) -> dict[str, tuple[str, ...]]:
    record: dict[str, tuple[str, ...]] = vars(module).get(RECORD, {"parameters": (), "buffers": ()})
    return record


def _carry_out(model: torch.nn.Module, decision: _Decision) -> None:
    for module in model.modules():
        before = _record(module)
        parameters = [
            name
            for name, p in module.named_parameters(recurse=False, remove_duplicate=False)
            if id(p) in decision.tensors and p.requires_grad
        ]
        buffers = [
            name
            for name, b in module.named_buffers(recurse=False, remove_duplicate=False)
            if id(b) in decision.tensors
        ]
        if parameters or buffers:
            vars(module)[RECORD] = {
                "parameters": _joined(before["parameters"], parameters),
                "buffers": _joined(before["buffers"], buffers),
            }
    for tensor in decision.tensors.values():
        if _is_parameter(tensor):
            tensor.requires_grad_(False)
            # A gradient that is left over would still be applied by the next step of an optimizer.
            tensor.grad = None
    for module in decision.held:
        hold(module)


def _joined(before: tuple[str, ...], now: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *now)))


def _report(target: Target, decision: _Decision) -> FreezeReport:
    return FreezeReport(
        weights=tuple(_weights(target)),
        eval_modules=tuple(name for name, module in target.module.named_modules() if is_held(module)),
        tied_conflicts=decision.conflicts,
        notes=decision.notes,
        what=target.what,
    )


def _weights(target: Target) -> Iterator[Weight]:
    first = {key: group[0] for group in target.signature.tied for key in group}
    for key, tensor in _tensors(target).items():
        if _is_parameter(tensor):
            tied = first.get(key, key) != key
            yield Weight(key, 0 if tied else tensor.numel(), not tensor.requires_grad, tied)
