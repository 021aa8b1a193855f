"""What one writes today without ckptkit: each function is a script, and imports only what it would."""

from __future__ import annotations

import re

from .fixtures import PREFIX, replacements


def rename_safetensors(src: str, dst: str) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(src)
    save_file(
        {key.removeprefix(PREFIX): value for key, value in state.items()}, dst, metadata={"format": "pt"}
    )


def rename_pt(src: str, dst: str) -> None:
    import torch

    checkpoint = torch.load(src, map_location="cpu")
    checkpoint["state_dict"] = {k.removeprefix(PREFIX): v for k, v in checkpoint["state_dict"].items()}
    torch.save(checkpoint, dst)


def rename_pt_mapped(src: str, dst: str) -> None:
    import torch

    checkpoint = torch.load(src, map_location="cpu", mmap=True)
    checkpoint["state_dict"] = {k.removeprefix(PREFIX): v for k, v in checkpoint["state_dict"].items()}
    torch.save(checkpoint, dst)


def pt_to_safetensors(src: str, dst: str) -> None:
    import torch
    from safetensors.torch import save_file

    save_file(torch.load(src, map_location="cpu", mmap=True)["state_dict"], dst, metadata={"format": "pt"})


def safetensors_to_pt(src: str, dst: str) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(src), dst)


def cast_safetensors(src: str, dst: str) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(src, framework="pt") as file:
        state = {key: file.get_tensor(key).to(torch.bfloat16) for key in file.keys()}  # noqa: SIM118
    save_file(state, dst, metadata={"format": "pt"})


def fuse_experts(src: str, dst: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    state = load_file(src)
    fused = {}
    for layer in range(2):
        stem = f"layers.{layer}.experts"
        count = sum(key.startswith(stem) for key in state) // 3
        pairs = [[state.pop(f"{stem}.{e}.{name}.weight") for name in ("w1", "w3")] for e in range(count)]
        fused[f"layers.{layer}.gate_up"] = torch.stack([torch.cat(pair) for pair in pairs])
        fused[f"layers.{layer}.down"] = torch.stack(
            [state.pop(f"{stem}.{e}.w2.weight") for e in range(count)]
        )
    save_file(fused, dst, metadata={"format": "pt"})


def list_safetensors(src: str) -> None:
    from safetensors import safe_open

    with safe_open(src, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118
            part = file.get_slice(key)
            print(key, part.get_shape(), part.get_dtype())


def list_pt(src: str) -> None:
    import torch

    for key, value in torch.load(src, map_location="cpu", mmap=True)["state_dict"].items():
        print(key, tuple(value.shape), value.dtype)


def many_renames(src: str, dst: str) -> None:
    from safetensors.torch import load_file, save_file

    compiled = [(re.compile(pattern), replacement) for pattern, replacement in replacements()]
    renamed = {}
    for key, value in load_file(src).items():
        new = key
        for pattern, replacement in compiled:
            new = pattern.sub(replacement, new)
        renamed[new] = value
    save_file(renamed, dst, metadata={"format": "pt"})


def same_tensors(a: str, b: str) -> None:
    """Fail unless both files hold equal tensors under equal keys.

    Raises:
        SystemExit: they differ.
    """
    import torch
    from safetensors.torch import load_file

    def read(path: str) -> dict[str, torch.Tensor]:
        if path.endswith(".safetensors"):
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", mmap=True)
        state: dict[str, torch.Tensor] = loaded.get("state_dict", loaded)
        return state

    first, second = read(a), read(b)
    if set(first) != set(second):
        raise SystemExit(f"{a} and {b} hold other keys: {sorted(set(first) ^ set(second))[:4]}")
    different = [key for key, value in first.items() if not torch.equal(value, second[key])]
    if different:
        raise SystemExit(f"{a} and {b} differ in {different[:4]}")
