"""Values of a torch file that are no tensors, as plain Python data."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .pickled import DeviceNode, DtypeNode, LayoutNode, OrderedNode, SizeNode, TensorNode

if TYPE_CHECKING:
    import torch

# Devices of any torch that is supported. Files may name others, which somebody else's torch knows.
_DEVICES = frozenset((
    "cpu", "cuda", "ipu", "xpu", "mkldnn", "opengl", "opencl", "ideep", "hip", "ve", "fpga", "xla", "lazy",
    "vulkan", "mps", "meta", "hpu", "mtia", "privateuseone",
))  # fmt: skip
# What may stand in a state_dict: plain data, tensors, and torch's small constants.
VALUE_TYPES = (
    type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset,
    SizeNode, DtypeNode, DeviceNode, LayoutNode, TensorNode,
)  # fmt: skip


def known_device(node: DeviceNode) -> bool:
    """Whether torch has a device of this kind."""
    return node.name.partition(":")[0] in _DEVICES


def plain_value(node: Any, tensor: Callable[[TensorNode], torch.Tensor]) -> Any:
    """The value that a tree describes; trees are at most a hundred deep.

    Args:
        node: of `VALUE_TYPES` all the way down.
        tensor: makes the tensor of a node.
    """
    kind = type(node)
    if kind is dict:
        return {plain_value(k, tensor): plain_value(v, tensor) for k, v in node.items()}
    if kind is OrderedNode:
        pairs = ((plain_value(k, tensor), plain_value(v, tensor)) for k, v in node.items())
        ordered = OrderedDict(pairs)
        vars(ordered).update({name: plain_value(v, tensor) for name, v in node.attributes.items()})
        return ordered
    if kind in (list, tuple, set, frozenset):
        return kind(plain_value(v, tensor) for v in node)
    if kind is TensorNode:
        return tensor(node)
    return _constant(node)


def _constant(node: Any) -> Any:
    if isinstance(node, (SizeNode, DtypeNode, DeviceNode, LayoutNode)):
        import torch

        if isinstance(node, SizeNode):
            return torch.Size(node)
        if isinstance(node, DeviceNode):
            return torch.device(node.name)
        return getattr(torch, node.name)
    return node
