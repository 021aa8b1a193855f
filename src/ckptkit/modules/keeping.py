"""What modules are before a load touches them, so that an error can put it back."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_TABLES = ("_parameters", "_buffers")


@dataclass(frozen=True)
class _Tensor:
    """One parameter or buffer: the object, the data it held, and a copy of its bytes if one was taken."""

    holder: torch.Tensor
    data: torch.Tensor
    copy: torch.Tensor | None

    def put_back(self) -> None:
        if self.holder.data is not self.data:
            self.holder.data = self.data
        if self.copy is not None:
            self.data.copy_(self.copy)


class Kept:
    """Modules as they were."""

    def __init__(self) -> None:
        self._modules: dict[int, tuple[torch.nn.Module, dict[str, Any], dict[str, _Tensor]]] = {}

    def add(self, module: torch.nn.Module, *, data: bool) -> None:
        """Remember a module, the first time only.

        Args:
            module: its own attributes, parameters and buffers; children are not looked at.
            data: copy the bytes of its tensors too, for what is written in place.
        """
        if id(module) in self._modules:
            return
        attributes = {k: dict(v) if k in _TABLES else v for k, v in module.__dict__.items()}
        tensors = {
            name: _Tensor(value, value.data, value.detach().clone() if data else None)
            for table in _TABLES
            for name, value in getattr(module, table).items()
            if value is not None
        }
        self._modules[id(module)] = (module, attributes, tensors)

    def restore(self) -> None:
        """Put everything back."""
        for module, attributes, tensors in self._modules.values():
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for tensor in tensors.values():
                tensor.put_back()

    def put_back(self, module: torch.nn.Module, prefix: str, keys: Container[str]) -> None:
        """Undo what a load did to single tensors of a module."""
        _, attributes, tensors = self._modules[id(module)]
        for name, tensor in tensors.items():
            if prefix + name in keys:
                table = "_parameters" if name in attributes["_parameters"] else "_buffers"
                getattr(module, table)[name] = tensor.holder
                tensor.put_back()
