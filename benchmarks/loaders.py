"""Ways to fill a module from a file whose keys carry a prefix: ours, and what one writes today."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .fixtures import PREFIX, shapes

if TYPE_CHECKING:
    import torch

RULES = [{"op": "strip_prefix", "prefix": PREFIX}]


def module(size: str) -> torch.nn.Module:
    """The module whose weights the fixture holds, uninitialised."""
    import torch

    top = torch.nn.Module()
    for key, shape in shapes(int(size)).items():
        *path, name = key.split(".")
        owner = top
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, torch.nn.Module())
            owner = owner.get_submodule(part)
        owner.register_parameter(name, torch.nn.Parameter(torch.empty(shape)))
    return top


def load_ckptkit(src: str, size: str) -> None:
    import ckptkit

    ckptkit.load(module(size), src, {"rules": RULES})


def load_torch(src: str, size: str) -> None:
    import torch

    state = torch.load(src, map_location="cpu")["state_dict"]
    module(size).load_state_dict({key.removeprefix(PREFIX): value for key, value in state.items()})


def load_torch_mapped(src: str, size: str) -> None:
    import torch

    state = torch.load(src, map_location="cpu", mmap=True)["state_dict"]
    module(size).load_state_dict({key.removeprefix(PREFIX): value for key, value in state.items()})


def load_safetensors(src: str, size: str) -> None:
    from safetensors.torch import load_file

    state = load_file(src)
    module(size).load_state_dict({key.removeprefix(PREFIX): value for key, value in state.items()})


def load_accelerate(src: str, size: str) -> None:
    """It renames nothing, so the module gets the prefix instead."""
    import torch
    from accelerate import load_checkpoint_in_model  # type: ignore[import-untyped,import-not-found,unused-ignore]

    outer: torch.nn.Module = module(size)
    for part in reversed(PREFIX.strip(".").split(".")):
        wrapper = torch.nn.Module()
        wrapper.add_module(part, outer)
        outer = wrapper
    load_checkpoint_in_model(outer, src, strict=True)
