"""One outcome on all ranks: what one rank refuses, every rank refuses, before any of them has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from .. import errors
from ..errors import CkptkitError, IncompatibleKeysError
from .shards import dtensor_in


@contextmanager
def together(values: Iterable[Any]) -> Iterator[None]:
    """Run a block on every rank that holds a part of these values; when it fails on one, it fails on all.

    Without a DTensor among the values the block runs as it stands, and nothing is sent.

    Args:
        values: parameters and buffers; their DTensors name the ranks by their meshes.

    Raises:
        CkptkitError: another rank failed; of that error's class (IncompatibleKeysError for a foreign one), with
            its rank and words.
    """
    groups = _groups(values)
    try:
        yield
    except BaseException as error:  # an interrupt, too: the others wait
        _first_failure(groups, error)
        raise
    if (failure := _first_failure(groups, None)) is not None:
        rank, name, words = failure
        kind = getattr(errors, name, IncompatibleKeysError)
        raise kind(f"rank {rank} could not load the checkpoint, so no rank changes its model: {words}")


def _groups(values: Iterable[Any]) -> list[Any]:
    """The process groups along every dimension of the meshes, each once, in the order of the values.

    The order must be the same on all ranks; that of a state_dict is.
    """
    found: dict[int, Any] = {}
    meshes: set[int] = set()
    for value in values:
        tensor = dtensor_in(value)
        if tensor is None or id(tensor.device_mesh) in meshes:
            continue
        mesh = tensor.device_mesh
        meshes.add(id(mesh))
        if mesh.get_coordinate() is None:
            continue  # this rank is outside the mesh, and holds nothing
        for dim in range(mesh.ndim):
            group = mesh.get_group(dim)
            found.setdefault(id(group), group)
    return list(found.values())


def _first_failure(groups: list[Any], error: BaseException | None) -> tuple[int, str, str] | None:
    """What one of the ranks failed on: its rank, the class and the words of the error.

    One exchange along each dimension of a mesh tells every rank of a grid what any of them knows.
    """
    if not groups:
        return None
    import torch.distributed as dist

    known: tuple[int, str, str] | None = None
    if error is not None:
        words = error.message if isinstance(error, CkptkitError) else f"{type(error).__name__}: {error}"
        known = (dist.get_rank(), type(error).__name__, words)
    for group in groups:
        told: list[tuple[int, str, str] | None] = [None] * dist.get_world_size(group)
        dist.all_gather_object(told, known, group=group)
        known = known or next((each for each in told if each is not None), None)
    return known
