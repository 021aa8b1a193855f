"""Storages of an output: connected views together, disjoint ones apart, every view still on its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ckptkit.formats.base import Buffer, Source, Storage, View
from ckptkit.formats.torch_layout import OutTensor, contiguous_stride, extent, lay_out

NBYTES = 256


class Flat(Source):
    """A source of one storage whose byte i is i."""

    format = "test"

    def view(self, key: str) -> View:
        raise KeyError(key)

    def read(self, storage: Storage, start: int, stop: int) -> Iterator[Buffer]:
        yield bytes(range(NBYTES))[start:stop]

    def tensor(self, key: str) -> Any:
        raise KeyError(key)


SOURCE, STORAGE = Flat(), Storage("s", NBYTES, None)


@st.composite
def views(draw: st.DrawFn, dtypes: tuple[str, ...] = ("float32",)) -> View:
    dtype = draw(st.sampled_from(dtypes))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    stride = tuple(draw(st.integers(0, 3)) for _ in shape)
    width = {"uint8": 1, "int16": 2, "float32": 4}[dtype]
    reach = sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if 0 not in shape else 0
    offset = draw(st.integers(0, NBYTES // width - 1 - max(reach, 0)))
    return View(STORAGE, offset, shape, stride, dtype)


def elements(
    base: int, width: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> list[int]:
    """First byte of every element."""
    places = [base + offset * width]
    for size, step in zip(shape, stride, strict=True):
        places = [p + i * step * width for p in places for i in range(size)]
    return places


@given(
    st.one_of(
        st.lists(views(), min_size=1, max_size=8), st.lists(views(("uint8", "int16", "float32")), max_size=8)
    )
)
def test_every_view_keeps_its_bytes_and_only_reachable_extents_are_written(chosen: list[View]) -> None:
    tensors = [OutTensor(str(i), v.shape, v.stride, v.dtype, SOURCE, v) for i, v in enumerate(chosen)]
    storages = lay_out(tensors)
    assert [s.key for s in storages] == [str(i) for i in range(len(storages))]
    for tensor, view in zip(tensors, chosen, strict=True):
        width = {"uint8": 1, "int16": 2, "float32": 4}[view.dtype]
        out = tensor.storage
        assert out is not None
        places = elements(out.start, width, tensor.offset, tensor.shape, tensor.stride)
        if 0 not in view.shape:
            assert places == elements(0, width, view.offset, view.shape, view.stride)
            assert all(out.start <= p and p + width <= out.start + out.nbytes for p in places)
    for one in range(len(chosen)):
        for other in range(one):
            a, b = extent(chosen[one]), extent(chosen[other])
            if max(a[0], b[0]) < min(a[1], b[1]):
                assert tensors[one].storage is tensors[other].storage
    if len({v.dtype for v in chosen}) == 1:
        reach = [extent(v) for v in chosen if 0 not in v.shape]
        covered = {byte for low, high in reach for byte in range(low, high)}
        assert sum(s.nbytes for s in storages) == len(covered)


def test_a_tiny_view_of_a_large_storage_takes_its_own_bytes_only() -> None:
    view = View(Storage("s", 1 << 40, None), 7, (2,), (1,), "float32")
    tensor = OutTensor("w", view.shape, view.stride, view.dtype, SOURCE, view)
    (storage,) = lay_out([tensor])
    assert (storage.nbytes, storage.start, tensor.offset) == (8, 28, 0)


def test_computed_tensors_with_one_tie_share_a_storage() -> None:
    tensors = [
        OutTensor(k, (2,), (1,), "float32", make=lambda: None, tie=t)
        for k, t in zip("abc", (1, 1, 2), strict=True)
    ]  # type: ignore[arg-type, return-value]
    storages = lay_out(tensors)
    assert len(storages) == 2 and tensors[0].storage is tensors[1].storage is not tensors[2].storage


@given(st.lists(st.integers(0, 4), max_size=4).map(tuple))
def test_contiguous_strides_are_those_of_torch(shape: tuple[int, ...]) -> None:
    import torch

    assert contiguous_stride(shape) == torch.empty(shape).stride()
