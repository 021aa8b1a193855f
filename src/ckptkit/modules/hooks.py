"""`load_hook`: a class keeps its old checkpoints loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..api import as_config, remap
from ..config import RemapConfig
from ..config.load import LoadConfig
from ..errors import UsageError

if TYPE_CHECKING:
    import torch


class LoadHook:
    """Rules as a hook for `register_load_state_dict_pre_hook`; it pickles with the model.

    Args:
        config: rules that may touch nothing.
    """

    def __init__(self, config: RemapConfig) -> None:
        self.config = config

    def __call__(self, module: torch.nn.Module, state: Any, prefix: str, *_: Any) -> None:
        own = {key[len(prefix) :]: state[key] for key in list(state) if key.startswith(prefix)}
        fresh = remap(own, self.config)
        for key in own:
            del state[prefix + key]
        for key, value in fresh.items():
            state[prefix + key] = value


def load_hook(config: RemapConfig | LoadConfig | Sequence[Any] | Mapping[str, Any]) -> LoadHook:
    """A hook that keeps a class's old checkpoints loading.

    Use it as ``self.register_load_state_dict_pre_hook(ckptkit.load_hook(rules))`` in ``__init__``.
    Keys below the module are renamed and reworked by the rules whenever a state_dict is loaded;
    rules that touch nothing are left aside, so new checkpoints keep loading too.

    Args:
        config: the rules.

    Raises:
        ConfigError: the rules are malformed.
        UsageError: it has settings beside rules, which a hook cannot follow.
    """
    if isinstance(config, LoadConfig):
        others = sorted(config.model_fields_set - {"rules", "version", "description"})
        if others:
            raise UsageError(
                f"a load hook takes rules alone, and this LoadConfig also sets {', '.join(others)}; give its rules, "
                "and the rest to ckptkit.load"
            )
        config = list(config.rules)
    given = as_config(config)
    if given.root not in ("auto", "none"):
        raise UsageError(f"a load hook gets the keys of one module, which has no root {given.root!r}")
    # The keys of a module are a state_dict, whatever they look like.
    rules = [rule.model_copy(update={"required": False}) for rule in given.rules]
    return LoadHook(RemapConfig(root="none", rules=rules))
