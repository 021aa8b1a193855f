"""Parameter groups for an optimizer: learning rate and weight decay by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from ..config.fields import GroupsFields
from ..config.giving import as_config
from ..config.groups import GroupEntry, GroupsConfig
from ..errors import PlanError, UsageError
from ..formats.module_tree import check_tree
from ..patterns import select
from ..rules.base import no_match
from ..text import quote_list
from .depth import depths
from .targets import unwrap

if TYPE_CHECKING:
    import torch

    from ..config.giving import AnyGroups


def param_groups(
    model: torch.nn.Module, config: AnyGroups | None = None, **fields: Unpack[GroupsFields]
) -> list[dict[str, Any]]:
    """Parameter groups that any `torch.optim` optimizer takes.

    Every parameter with ``requires_grad`` is in exactly one group, a tied one once. A group has ``params``, ``lr``,
    ``weight_decay``, and ``keys``, the names of its parameters, which optimizers pass over.

    With `layer_decay` d, what lies k blocks before the end learns with ``lr * d**k``: the embeddings least, the
    head most (Howard and Ruder 2018; as BEiT, Bao et al. 2021, counts layers). Blocks are those of the whole
    model, so that a freeze changes no rate of what still trains.

    Args:
        model: may be wrapped in DataParallel, DistributedDataParallel or torch.compile.
        config: a `GroupsConfig`, its fields, a list of exceptions (`groups`), or the path of a config file.
        fields: a GroupsConfig's, which count before those of `config`.

    Returns:
        The groups, in the order of their first parameters.

    Raises:
        PlanError: a pattern matches no parameter, no blocks were found, or the names of one tied parameter
            ask for different things.
        ConfigError: with one `Problem` for everything that is wrong with the config.
        UsageError: the model is no module, or nothing in it trains.
    """
    settings = as_config(GroupsConfig, config, fields)
    everything = _names(model)
    names = [(keys, value) for keys, value in everything if value.requires_grad]
    if not names:
        raise UsageError(
            f"{type(unwrap(model)).__name__} has no parameter that trains; unfreeze some before making groups"
        )
    every = [key for keys, _ in names for key in keys]
    exceptions = _exceptions(settings, every)
    spared = _spared(model, settings, names)
    place = (
        depths({keys[0]: value.numel() for keys, value in everything}, settings.blocks)
        if settings.layer_decay is not None
        else {}
    )
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for keys, value in names:
        entry = _entry(keys, exceptions)
        lr, decay = settings.lr, 0.0 if keys[0] in spared else settings.weight_decay
        if settings.layer_decay is not None:
            depth, top = place[keys[0]]
            lr *= settings.layer_decay ** (top - depth)
        if entry is not None:
            lr = lr if entry.lr is None else entry.lr
            decay = decay if entry.weight_decay is None else entry.weight_decay
        group = groups.setdefault((lr, decay), {"params": [], "lr": lr, "weight_decay": decay, "keys": []})
        group["params"].append(value)
        group["keys"].append(keys[0])
    return list(groups.values())


def _names(model: torch.nn.Module) -> list[tuple[list[str], torch.nn.Parameter]]:
    """Every parameter with all its names, in the order of registration."""
    import torch

    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"param_groups takes an nn.Module, not a value of type {type(model).__name__}")
    found: dict[int, tuple[list[str], torch.nn.Parameter]] = {}
    check_tree(unwrap(model))
    for key, value in unwrap(model).named_parameters(remove_duplicate=False):
        if torch.nn.parameter.is_lazy(value):
            raise UsageError(
                f"{key!r} is lazily initialised and has no shape yet; run the model once on an example before",
                key=key,
            )
        found.setdefault(id(value), ([], value))[0].append(key)
    return list(found.values())


def _exceptions(settings: GroupsConfig, keys: list[str]) -> list[tuple[GroupEntry, set[str]]]:
    result: list[tuple[GroupEntry, set[str]]] = []
    for number, entry in enumerate(settings.groups):
        found = select(entry.keys, keys)
        if found.unmatched:
            raise PlanError(f"groups.{number}: {_unmatched(found.unmatched[0], keys)}")
        earlier = set().union(*(matched for _, matched in result))
        if earlier.issuperset(found.keys):
            raise PlanError(
                f"groups.{number}: earlier entries take every parameter that {quote_list(entry.keys)} match, and the first "
                "match counts; move it before them, or leave it out"
            )
        result.append((entry, set(found.keys)))
    return result


def _unmatched(pattern: str, keys: list[str]) -> str:
    return (
        no_match(pattern, "pattern", keys)
        .replace("matches no key", "matches no parameter that trains")
        .replace("; correct it, or set required: false", "")
    )


def _entry(keys: list[str], exceptions: list[tuple[GroupEntry, set[str]]]) -> GroupEntry | None:
    """The first entry for a parameter; the names of a tied one must agree."""
    chosen = {key: next((entry for entry, matched in exceptions if key in matched), None) for key in keys}
    given = {id(entry): entry for entry in chosen.values() if entry is not None}
    if len({(entry.lr, entry.weight_decay) for entry in given.values()}) > 1:
        raise PlanError(
            f"{quote_list(keys)} are one tied parameter, and groups asks for different things for its names; "
            "name it once",
            key=keys[0],
        )
    return next(iter(given.values()), None)


def _spared(
    model: torch.nn.Module, settings: GroupsConfig, names: list[tuple[list[str], torch.nn.Parameter]]
) -> set[str]:
    """First names of the parameters without weight decay."""
    if settings.no_decay != "auto":
        every = [key for keys, _ in names for key in keys]
        found = select(settings.no_decay, every)
        if found.unmatched:
            raise PlanError(f"no_decay: {_unmatched(found.unmatched[0], every)}")
        return {keys[0] for keys, _ in names if not set(found.keys).isdisjoint(keys)}
    norms = {
        f"{path}.{name}" if path else name
        for path, module in unwrap(model).named_modules(remove_duplicate=False)
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }
    return {
        keys[0]
        for keys, value in names
        if value.ndim <= 1 or any(key in norms or key.rpartition(".")[2] == "bias" for key in keys)
    }
