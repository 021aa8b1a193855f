"""What a sound torch file may hold that nobody here can judge: calls that run code, tensors without plain data."""

from __future__ import annotations

from collections.abc import Iterator

from ..code_names import runs_code
from ..formats.pickled import Opaque, TensorNode
from ..formats.torch_places import placed
from ..formats.torch_source import TorchSource
from .report import Damage


def not_understood(source: TorchSource, path: str) -> Iterator[Damage]:
    """Everything in a file that was not looked into, or must not be.

    Args:
        source: an opened torch file; every value in it is asked, beside the weights too.
        path: the file, for the report.
    """
    for place, part in placed(source.tree, {}, deep=True):
        if type(part) is Opaque and part.args is not None and runs_code(f"{part.module}.{part.name}"):
            yield Damage(
                path,
                f"calls {part.label}, which runs code where the file is unpickled; do not load it with torch",
                place,
                evident=False,
            )
        elif type(part) is TensorNode and part.reason not in (None, "meta"):
            yield Damage(path, f"is {part.label}, which was not looked into", place, evident=False)
