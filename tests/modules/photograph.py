"""All of a model that a load could change, to be compared with what it is afterwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ckptkit.modules.memory import parts


class Photograph:
    """Attributes and tables of every module by identity, and bytes, places and flags of every tensor."""

    def __init__(self, model: nn.Module) -> None:
        self._alive: list[Any] = []  # so that no identity is used twice
        self.modules: dict[str, Any] = {}
        self.tensors: dict[str, Any] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            self.modules[path] = {name: self._seen(value) for name, value in module.__dict__.items()}
            for table in (module._parameters, module._buffers):
                for name, value in table.items():
                    if value is not None:
                        self.tensors[f"{path}.{name}".removeprefix(".")] = self._tensor(value)

    def _seen(self, value: Any) -> Any:
        self._alive.append(value)
        if isinstance(value, dict):
            return (id(value), [(key, self._seen(each)) for key, each in value.items()])
        if isinstance(value, list | set):
            return (id(value), [self._seen(each) for each in value])
        return value if isinstance(value, bool | int | str) else id(value)

    def _tensor(self, value: torch.Tensor) -> Any:
        place = [(part.data_ptr(), part.dtype, tuple(part.shape), part.stride()) for part in parts(value)]
        return (self._seen(value), place, value.requires_grad, self._seen(value.grad), data(value))

    def different(self, other: Photograph) -> list[str]:
        """Names of tensors and modules that are not the same in both."""
        return [
            name
            for mine, theirs in ((self.tensors, other.tensors), (self.modules, other.modules))
            for name in {**mine, **theirs}
            if mine.get(name) != theirs.get(name)
        ]


def data(value: torch.Tensor) -> list[bytes]:
    """The bytes of a parameter or buffer."""
    plain = [torch.empty(part.shape, dtype=part.dtype).copy_(part) for part in parts(value)]
    return [bytes(part.view(-1).view(torch.uint8).tolist()) for part in plain]
