"""The restricted pickle reader and a deterministic pickle writer; neither uses `pickle` nor torch."""

from __future__ import annotations

from .load import StorageIds, check_beginning, load_pickle, load_prefix, no_persistent_ids, paused_gc
from .measuring import measure, parts
from .tree import (
    DeviceNode,
    DtypeNode,
    Function,
    LayoutNode,
    Opaque,
    OrderedNode,
    SizeNode,
    StorageNode,
    StorageType,
    TensorNode,
    TypeNode,
)

__all__ = [
    "DeviceNode",
    "DtypeNode",
    "Function",
    "LayoutNode",
    "Opaque",
    "OrderedNode",
    "SizeNode",
    "StorageIds",
    "StorageNode",
    "StorageType",
    "TensorNode",
    "TypeNode",
    "check_beginning",
    "load_pickle",
    "load_prefix",
    "measure",
    "no_persistent_ids",
    "parts",
    "paused_gc",
]
