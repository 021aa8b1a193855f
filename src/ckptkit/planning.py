"""`plan`: what rules would do, and whether the result would fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from .api import planned
from .checkpoint import signature as signature_of
from .config import RemapConfig
from .config.fields import RemapFields
from .config.giving import as_config
from .modules.checking import check
from .plans import Plan, make_plan
from .signatures import Signature

if TYPE_CHECKING:
    from .config.giving import AnyRemap


def plan(
    source: Any, config: AnyRemap | None = None, target: Any = None, **fields: Unpack[RemapFields]
) -> Plan:
    """What rules would do to a checkpoint, decided on names, shapes and dtypes alone.

    Args:
        source: a path, a mapping of tensors, a Checkpoint, a Signature, or an `nn.Module`.
        config: a `RemapConfig`, its fields, a list of rules, or the path of a config file. Of a LoadConfig, root and
            rules are used, and a warning names what is left aside.
        target: what the result must fit: an `nn.Module`, a Signature, a Checkpoint, a mapping, or a path.
        fields: a RemapConfig's, which count before those of `config`.

    Returns:
        The plan; ``str(plan)`` is the dry run.

    Raises:
        PlanError: a collision, a rule that touches nothing, shapes that do not suit.
        IncompatibleKeysError: the result does not fit the target; `findings` has the causes that were found.
        ConfigError: with one `Problem` for everything that is wrong with the config.
        FormatError: the source cannot be read.
    """
    if isinstance(source, Signature):
        made = make_plan(source, as_config(RemapConfig, config, fields, required=True, partly=True))
    else:
        _, made = planned(source, config, fields)
    if target is not None:
        check(signature_of(target), made.signature).raise_for_errors()
    return made
