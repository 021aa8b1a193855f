"""Run as a program: tells what ckptkit reads of files, where the packages of their classes cannot be imported."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from typing import Any

BLOCKED = ("timm", "transformers", "torchvision", "formats", "tests", "modules", "numpy")


class Blocker(MetaPathFinder):
    """Lets nobody import what the files name, and says who tried."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        if name.partition(".")[0] in BLOCKED:
            self.tried.append(name)
            raise ImportError(f"{name} is blocked")


def told(source: Any) -> dict[str, Any]:
    """Keys with shape, dtype and the hash of the bytes, ties, versions."""
    tensors = {}
    for key, info in source.signature.tensors.items():
        if info.kind == "tensor":
            view = source.view(key)
            tensors[key] = [list(info.shape), info.dtype, digest(source, view)]
        else:
            tensors[key] = ["object"]
    return {
        "tensors": tensors,
        "order": list(tensors),
        "tied": [list(group) for group in source.signature.tied],
        "versions": source.state_metadata,
        "notes": list(source.notes),
    }


def digest(source: Any, view: Any) -> str:
    """The hash of a tensor's elements in row-major order, without torch."""
    from ckptkit.formats.torch_views import itemsize

    width = itemsize(view.dtype)
    held = b"".join(map(bytes, source.read(view.storage, 0, view.storage.nbytes)))
    offsets = [view.offset]
    for size, stride in zip(view.shape, view.stride, strict=True):
        offsets = [at + n * stride for at in offsets for n in range(size)]
    if view.contiguous:
        return hashlib.sha256(held[view.offset * width : (view.offset + len(offsets)) * width]).hexdigest()
    return hashlib.sha256(b"".join(held[at * width : (at + 1) * width] for at in offsets)).hexdigest()


def main() -> None:
    """Read the files named on the standard input; print a JSON document."""
    blocker = Blocker()
    sys.meta_path.insert(0, blocker)
    from ckptkit.formats import open_source

    found = {}
    for path in json.load(sys.stdin):
        source = open_source(path)
        found[path] = told(source)
        source.close()
    json.dump({"found": found, "tried": blocker.tried, "torch": "torch" in sys.modules}, sys.stdout)


if __name__ == "__main__":
    main()
