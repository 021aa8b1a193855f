"""`load_hook`: a class keeps its old checkpoints loading."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from ..api import remap
from ..config import RemapConfig
from ..config.fields import RemapFields
from ..config.giving import as_config
from ..errors import UsageError
from ..state_metadata import is_plain

if TYPE_CHECKING:
    import torch

    from ..config.giving import AnyRemap


class LoadHook:
    """Rules as a hook for `register_load_state_dict_pre_hook`; it pickles with the model.

    Args:
        config: rules that may touch nothing.
    """

    def __init__(self, config: RemapConfig) -> None:
        self.config = config

    def __call__(self, module: torch.nn.Module, state: Any, prefix: str, *_: Any) -> None:
        own = OrderedDict((key[len(prefix) :], state[key]) for key in list(state) if key.startswith(prefix))
        metadata = getattr(state, "_metadata", None)
        if isinstance(metadata, dict):
            own._metadata = _below(metadata, prefix)  # type: ignore[attr-defined]
        fresh = remap(own, self.config)
        for key in own:
            del state[prefix + key]
        for key, value in fresh.items():
            state[prefix + key] = value
        if isinstance(metadata, dict):
            _lend(metadata, prefix, getattr(fresh, "_metadata", {}), state)


def _below(metadata: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {path[len(prefix) :]: entry for path, entry in metadata.items() if f"{path}.".startswith(prefix)}


def _lend(metadata: dict[str, Any], prefix: str, fresh: Mapping[str, Any], state: Any) -> None:
    """Show the versions under the new paths while one `load_state_dict` is at work.

    torch asks the caller's own dictionary for them, so it gets them back when torch's copy of the state_dict goes.
    """
    before = _below(metadata, prefix)
    if all(_same(before.get(path), fresh.get(path)) for path in {*before, *fresh}):
        return
    saved = dict(metadata)
    for path in before:
        del metadata[prefix + path if path else prefix[:-1]]
    metadata.update({prefix + path if path else prefix[:-1]: entry for path, entry in fresh.items()})
    weakref.finalize(state, _give_back, metadata, saved).atexit = False


def _same(old: Any, new: Any) -> bool:
    """Whether a module loads alike with both; what is not there and what torch writes by default do."""
    return old == new or ((old is None or is_plain(old)) and (new is None or is_plain(new)))


def _give_back(metadata: dict[str, Any], saved: dict[str, Any]) -> None:
    metadata.clear()
    metadata.update(saved)


def load_hook(config: AnyRemap | None = None, **fields: Unpack[RemapFields]) -> LoadHook:
    """A hook that keeps a class's old checkpoints loading.

    Use it as ``self.register_load_state_dict_pre_hook(ckptkit.load_hook(rules))`` in ``__init__``.
    Keys below the module are renamed and reworked by the rules whenever a state_dict is loaded;
    rules that touch nothing are left aside, so new checkpoints keep loading too.

    Args:
        config: a `RemapConfig`, its fields, a list of rules, or the path of a config file.
        fields: a RemapConfig's, which count before those of `config`.

    Raises:
        ConfigError: the rules are malformed.
        UsageError: it has settings beside rules, which a hook cannot follow.
    """
    given = as_config(RemapConfig, config, fields, required=True)
    if given.root not in ("auto", "none"):
        raise UsageError(f"a load hook gets the keys of one module, which has no root {given.root!r}")
    # The keys of a module are a state_dict, whatever they look like.
    rules = [rule.model_copy(update={"required": False}) for rule in given.rules]
    return LoadHook(RemapConfig(root="none", rules=rules))
