"""`_version` of torch's own module classes, where it is not 1; a state_dict's `_metadata` holds it."""

from __future__ import annotations

_TWO = {
    "torch.nn.modules.batchnorm": (
        "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "LazyBatchNorm1d", "LazyBatchNorm2d",
        "LazyBatchNorm3d",
    ),
    "torch.nn.modules.instancenorm": (
        "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LazyInstanceNorm1d", "LazyInstanceNorm2d",
        "LazyInstanceNorm3d",
    ),
}  # fmt: skip
_VERSIONS = {(module, name): 2 for module, names in _TWO.items() for name in names}
# Rooms of torch whose classes write their state_dict in the common way; others (torch.ao, torch.distributed) have their own.
_ROOMS = ("torch.nn.modules.", "torch.nn.utils.")
_WRAPPERS = frozenset((
    ("torch.nn.parallel.data_parallel", "DataParallel"),
    ("torch.nn.parallel.distributed", "DistributedDataParallel"),
    ("torch._dynamo.eval_frame", "OptimizedModule"),
    ("torch.fx.graph_module", "GraphModule"),
    ("torch.optim.swa_utils", "AveragedModel"),
))  # fmt: skip


def version_of(module: str, name: str) -> int | None:
    """The version that torch 2 writes for a class of its own; None for a class of somebody else, or with its own ways."""
    if module.startswith(_ROOMS) or (module, name) in _WRAPPERS:
        return _VERSIONS.get((module, name), 1)
    return None
