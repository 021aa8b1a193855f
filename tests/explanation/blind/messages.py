# ruff: noqa: E501 - the words of other libraries stand in one piece
"""Errors about files, objects and devices, really raised by the installed libraries; re-rendered where none raises."""

from __future__ import annotations

import io
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from .rendering import Text


class Config:
    """What people pickle beside their weights."""


def _raised(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("nothing was raised")


def _load(data: bytes, folder: Path, *, safe: bool) -> str:
    path = folder / "weights.pt"
    path.write_bytes(data)
    return _raised(lambda: torch.load(path, weights_only=safe)).replace(str(folder), "/data/run")


def _tensors(data: bytes, folder: Path) -> str:
    path = folder / "weights.safetensors"
    path.write_bytes(data)
    return _raised(lambda: safetensors.torch.load_file(path)).replace(str(folder), "/data/run")


def _saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 437951328\n"
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


def messages() -> Iterator[Text]:
    """The texts that name no keys, or none that count."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for way, words, *causes in _made(folder):
            yield Text(f"message / {way}", words, tuple(causes))


def _made(folder: Path) -> Iterator[tuple[str, ...]]:
    whole = _saved({f"w{i}": torch.zeros(5000) for i in range(3)})
    old = _saved({"w": torch.zeros(5000)}, _use_new_zipfile_serialization=False)
    safe = safetensors.torch.save({"w": torch.zeros(5000)})
    for checked in (True, False):
        how = "checked" if checked else "unchecked"
        yield f"a pointer, {how}", _load(POINTER, folder, safe=checked), "file_not_checkpoint"
        yield f"a page, {how}", _load(PAGE, folder, safe=checked), "file_not_checkpoint"
        yield f"half a file, {how}", _load(whole[: len(whole) // 2], folder, safe=checked), "file_corrupt"
        yield f"half an old file, {how}", _load(old[: len(old) // 2], folder, safe=checked), "file_corrupt"
    yield "an empty file", _load(b"", folder, safe=False), "file_corrupt"
    yield (
        "text in the place of weights",
        _load(b'{"error": "quota"}', folder, safe=False),
        "file_not_checkpoint",
    )
    yield "zeros", _load(bytes(4096), folder, safe=False), "file_corrupt", "file_not_checkpoint"
    yield "safetensors: a pointer", _tensors(POINTER, folder), "file_not_checkpoint", "file_corrupt"
    yield "safetensors: half a file", _tensors(safe[: len(safe) // 2], folder), "file_corrupt"
    yield "safetensors: half a header", _tensors(safe[:12], folder), "file_corrupt"
    yield (
        "safetensors: a torch file",
        _tensors(whole, folder),
        "format_version",
        "file_corrupt",
        "file_not_checkpoint",
    )
    yield (
        "a class beside the weights",
        _load(_saved({"config": Config(), "w": torch.zeros(2)}), folder, safe=True),
        "weights_only",
    )
    yield "a whole module", _load(_saved(nn.Linear(2, 2)), folder, safe=True), "weights_only"
    yield (
        "a function",
        _load(_saved({"f": pickle.dumps, "w": torch.zeros(2)}), folder, safe=True),
        "weights_only",
    )
    foreign = _saved({"config": Config()}).replace(b"Config", b"Konfig")
    yield "a class that is gone", _load(foreign, folder, safe=False), "pickle_code"
    elsewhere = pickle.dumps(Config, 2).replace(Config.__module__.encode(), b"their_project.models")
    yield "a module that is gone", _load(elsewhere, folder, safe=False), "pickle_code"
    yield (
        "another torch's file",
        (
            'RuntimeError: version_ <= kMaxSupportedFileFormatVersion INTERNAL ASSERT FAILED at "inline_container.cc":132, please '
            "report a bug to PyTorch. Attempted to read a PyTorch file with version 10, but the maximum supported version for "
            "reading is 2. Your PyTorch installation may be too old."
        ),
        "format_version",
    )
    yield (
        "a zip for an old torch",
        "RuntimeError: weights.pt is a zip archive (did you mean to use torch.jit.load()?)",
        "format_version",
    )
    yield (
        "a newer torch's function",
        (
            "AttributeError: Can't get attribute '_rebuild_device_tensor_from_cpu_tensor' on <module 'torch._utils' from "
            "'/usr/lib/python3/site-packages/torch/_utils.py'>"
        ),
        "format_version",
    )
    yield (
        "saved on a GPU",
        (
            "RuntimeError: Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. If you are "
            "running on a CPU-only machine, please use torch.load with map_location=torch.device('cpu') to map your storages to "
            "the CPU."
        ),
        "device_map",
    )
    yield (
        "saved on the eighth GPU",
        (
            "RuntimeError: Attempting to deserialize object on CUDA device 7 but torch.cuda.device_count() is 2. Please use "
            "torch.load with map_location to map your storages to an existing device."
        ),
        "device_map",
    )
    tied = torch.ones(3)
    yield (
        "tied weights saved",
        _raised(lambda: safetensors.torch.save({"a.weight": tied, "b.weight": tied})),
        "shared_memory",
    )
    yield "views saved", _raised(lambda: safetensors.torch.save({"a": tied, "b": tied[1:]})), "shared_memory"
    model, other = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    adam = torch.optim.Adam(model.parameters())
    yield (
        "an optimizer of another model",
        _raised(lambda: torch.optim.Adam(other.parameters()).load_state_dict(adam.state_dict())),
        "optimizer_state",
    )
    groups = torch.optim.SGD([{"params": [p]} for p in other.parameters()], lr=0.1)
    yield (
        "an optimizer of other groups",
        _raised(lambda: groups.load_state_dict(adam.state_dict())),
        "optimizer_state",
    )
    yield "an optimizer in a model", _raised(lambda: model.load_state_dict(adam.state_dict())), "wrong_object"
    yield (
        "a module in the place of its weights",
        _raised(lambda: model.load_state_dict(other)),
        "wrong_object",
    )
    yield (
        "a path in the place of weights",
        _raised(lambda: model.load_state_dict("weights.pt")),
        "wrong_object",
    )
    yield (
        "a list in the place of weights",
        _raised(lambda: model.load_state_dict([torch.ones(2)])),
        "wrong_object",
    )
    run = {
        "epoch": 3,
        "model_state_dict": other.state_dict(),
        "optimizer_state_dict": adam.state_dict(),
        "loss": 0.1,
    }
    yield "a training file", _raised(lambda: other.load_state_dict(run)), "nesting"
    lightning = {
        "state_dict": other.state_dict(),
        "pytorch-lightning_version": "2.1",
        "hyper_parameters": {},
        "global_step": 1,
    }
    yield "a file of Lightning", _raised(lambda: other.load_state_dict(lightning)), "nesting"
    yield (
        "weights of an average",
        _raised(lambda: other.load_state_dict({"params_ema": 1, "params": 2})),
        "nesting",
    )
    yield "two networks", _raised(lambda: other.load_state_dict({"netG": 1, "netD": 2, "iter": 3})), "nesting"
    yield (
        "a script that looks for state_dict",
        "    state = torch.load(path)['state_dict']\nKeyError: 'state_dict'",
        "nesting",
    )
    yield (
        "a script that looks for model",
        "Traceback (most recent call last):\n    net.load_state_dict(ckpt['model'])\nKeyError: 'model'",
        "nesting",
    )
    yield (
        "a plain tensor meets a DTensor",
        (
            "RuntimeError: aten.copy_.default: got mixed torch.Tensor and DTensor, need to convert all torch.Tensor to DTensor "
            "before calling distributed operators!"
        ),
        "sharding",
    )
    yield (
        "shapes of Megatron",
        (
            "ValueError: Global shape mismatch for loaded (torch.Size([50304, 1024])) and expected ((50432, 1024)) tensor for key "
            "embedding.word_embeddings.weight"
        ),
        "vocab_resize",
    )
    yield (
        "a flat parameter",
        _raised(lambda: other.load_state_dict({"_flat_param": torch.ones(12)})),
        "sharding",
    )
    yield (
        "ranks of DeepSpeed",
        (
            "deepspeed.runtime.zero.utils.ZeRORuntimeException: The checkpoint being loaded used a DP world size of 8 but the "
            "current world size is 4. Automatic adjustment of ZeRO's optimizer state partitioning with a new world size is not "
            "currently supported."
        ),
        "sharding",
        "optimizer_state",
    )
    yield (
        "meta tensors",
        (
            "UserWarning: for layers.0.attn.qkv.weight: copying from a non-meta parameter in the checkpoint to a meta parameter in "
            "the current model, which is a no-op. (Did you mean to pass `assign=True` to assign items in the state dictionary to "
            "their corresponding key in the module instead of copying them in place?)"
        ),
        "device_map",
        "wrong_object",
    )
