"""Rename, repair, convert and explain PyTorch and safetensors checkpoints.

Public names are loaded on first use, so that a command that needs no torch does not import it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import rules
    from .api import remap, save
    from .checkpoint import Checkpoint, open, signature
    from .comparison.comparing import diff
    from .config import RemapConfig
    from .config.freeze import FreezeConfig
    from .config.groups import GroupsConfig
    from .config.load import LoadConfig
    from .diff_report import DiffReport
    from .errors import (
        CastError,
        CkptkitError,
        ConfigError,
        FormatError,
        IncompatibleKeysError,
        KeyNotFoundError,
        PartError,
        PlanError,
        Problem,
        RootError,
        UsageError,
        WriteError,
    )
    from .explained import explaining
    from .explanation import Explanation, explain
    from .findings import Finding, Fix
    from .formats.base import Written
    from .freeze_report import FreezeReport
    from .inference.inferring import infer
    from .inference.result import Inference
    from .load_report import LoadReport, Mismatch
    from .modules.checking import check
    from .modules.freezing import freeze, unfreeze
    from .modules.groups import param_groups
    from .modules.hooks import load_hook
    from .modules.loading import load
    from .plan_file import load_plan, save_plan
    from .planning import plan
    from .plans import Plan
    from .roundtrips import RoundTrip, verify_roundtrip
    from .rules import Rule
    from .signatures import Signature, TensorInfo
    from .verification.report import Verification
    from .verification.verifying import verify

__version__ = "0.1.0"

_HOMES = {
    "Verification": "verification.report",
    "verify": "verification.verifying",
    "Explanation": "explanation",
    "explain": "explanation",
    "explaining": "explained",
    "Inference": "inference.result",
    "infer": "inference.inferring",
    "CastError": "errors",
    "RoundTrip": "roundtrips",
    "load_plan": "plan_file",
    "save_plan": "plan_file",
    "verify_roundtrip": "roundtrips",
    "FreezeConfig": "config.freeze",
    "GroupsConfig": "config.groups",
    "param_groups": "modules.groups",
    "FreezeReport": "freeze_report",
    "freeze": "modules.freezing",
    "unfreeze": "modules.freezing",
    "diff": "comparison.comparing",
    "DiffReport": "diff_report",
    "LoadReport": "load_report",
    "LoadConfig": "config.load",
    "load_hook": "modules.hooks",
    "load": "modules.loading",
    "check": "modules.checking",
    "Checkpoint": "checkpoint",
    "CkptkitError": "errors",
    "ConfigError": "errors",
    "FormatError": "errors",
    "PartError": "errors",
    "IncompatibleKeysError": "errors",
    "KeyNotFoundError": "errors",
    "Plan": "plans",
    "PlanError": "errors",
    "Problem": "errors",
    "RemapConfig": "config",
    "RootError": "errors",
    "Signature": "signatures",
    "TensorInfo": "signatures",
    "UsageError": "errors",
    "WriteError": "errors",
    "open": "checkpoint",
    "plan": "planning",
    "Rule": "rules",
    "Finding": "findings",
    "Fix": "findings",
    "Written": "formats.base",
    "Mismatch": "load_report",
    "remap": "api",
    "save": "api",
    "signature": "checkpoint",
}

__all__ = [
    "CastError",
    "Checkpoint",
    "CkptkitError",
    "ConfigError",
    "DiffReport",
    "Explanation",
    "Finding",
    "Fix",
    "FormatError",
    "FreezeConfig",
    "FreezeReport",
    "GroupsConfig",
    "IncompatibleKeysError",
    "Inference",
    "KeyNotFoundError",
    "LoadConfig",
    "LoadReport",
    "Mismatch",
    "PartError",
    "Plan",
    "PlanError",
    "Problem",
    "RemapConfig",
    "RootError",
    "RoundTrip",
    "Rule",
    "Signature",
    "TensorInfo",
    "UsageError",
    "Verification",
    "WriteError",
    "Written",
    "check",
    "diff",
    "explain",
    "explaining",
    "freeze",
    "infer",
    "load",
    "load_hook",
    "load_plan",
    "open",
    "param_groups",
    "plan",
    "remap",
    "rules",
    "save",
    "save_plan",
    "signature",
    "unfreeze",
    "verify",
    "verify_roundtrip",
]


if not TYPE_CHECKING:  # whoever saw it would take any name for one of ours

    def __getattr__(name):
        if name == "rules":
            return import_module(".rules", __name__)
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'ckptkit' has no attribute {name!r}")
        value = getattr(import_module(f".{home}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
