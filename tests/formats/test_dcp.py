"""Folders of torch.distributed.checkpoint: tensors out of pieces, and everything that may be wrong with them: G16."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

import ckptkit
from ckptkit.errors import FormatError, UsageError
from ckptkit.formats.dcp.tiles import runs, untiled

from ..strategies import IN_TORCH, content, state_dicts

PART = "__0_0.distcp"
MOST = 100_000
Block = tuple[tuple[int, ...], tuple[int, ...]]


def save(state: Any, folder: Path) -> Path:
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)
    return folder


def described(folder: Path) -> Metadata:
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    assert isinstance(metadata, Metadata)
    return metadata


def describe(folder: Path, metadata: Any) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


@given(state=state_dicts(dtypes=IN_TORCH))
def test_what_torch_saves_is_read_bit_for_bit(state: dict[str, torch.Tensor]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = save({"model": dict(state), "epoch": 3, "rates": [0.1, {"b": (1, 2)}]}, Path(name, "saved"))
        if not state:
            return
        with ckptkit.open(folder, root="model") as checkpoint:
            # dcp joins nested names with dots, so that two of these may be one.
            assert content(checkpoint) == content({key: state[key] for key in checkpoint})
            assert {"epoch", "rates"} <= set(checkpoint.source.surroundings)


def test_lists_and_values_are_what_was_saved(tmp_path: Path) -> None:
    folder = save(
        {"w": torch.ones(2), "step": 7, "rates": [0.1, torch.zeros(2)], "name": "é"}, tmp_path / "s"
    )
    with ckptkit.open(folder, root="none") as checkpoint:
        assert (checkpoint["step"], checkpoint["name"]) == (7, "é")
        assert checkpoint["rates"][0] == 0.1 and torch.equal(checkpoint["rates"][1], torch.zeros(2))


def test_a_pickled_value_keeps_its_dictionaries_whatever_their_keys(tmp_path: Path) -> None:
    """Only what dcp flattened is joined again; a tuple is pickled whole."""
    folder = save({"w": torch.ones(2), "table": ({0: "a", 1: "b"}, [{0: 1}])}, tmp_path / "s")
    with ckptkit.open(folder, root="none") as checkpoint:
        assert checkpoint["table"] == ({0: "a", 1: "b"}, [{0: 1}])


def test_an_optimizer_lies_beside_the_root_and_is_kept_in_a_torch_file(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    folder = save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "s")
    ckptkit.remap(ckptkit.open(folder), [{"op": "add_prefix", "prefix": "net."}])
    with ckptkit.open(folder) as checkpoint:
        assert checkpoint.signature.root == "model"
        ckptkit.save(checkpoint, tmp_path / "a.pt")
    back = torch.load(tmp_path / "a.pt", weights_only=True)
    assert content(back["model"]) == content(model.state_dict())
    assert back["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]


# -- pieces


@st.composite
def tilings(draw: Any, shape: tuple[int, ...]) -> list[Block]:
    """Cut again and again, which gives irregular tilings too."""
    blocks: list[Block] = [((0,) * len(shape), shape)]
    for _ in range(draw(st.integers(0, 6))):
        number = draw(st.integers(0, len(blocks) - 1))
        offsets, sizes = blocks[number]
        dims = [dim for dim, size in enumerate(sizes) if size > 1]
        if dims:
            dim = draw(st.sampled_from(dims))
            at = draw(st.integers(1, sizes[dim] - 1))
            left = (*sizes[:dim], at, *sizes[dim + 1 :])
            right = (*sizes[:dim], sizes[dim] - at, *sizes[dim + 1 :])
            blocks[number : number + 1] = [
                (offsets, left),
                ((*offsets[:dim], offsets[dim] + at, *offsets[dim + 1 :]), right),
            ]
    return list(draw(st.permutations(blocks)))


SHAPES = st.lists(st.integers(1, 5), max_size=4).map(tuple)


@st.composite
def tiled(draw: Any) -> tuple[torch.Tensor, list[Block]]:
    shape = draw(SHAPES)
    numel = 1
    for size in shape:
        numel *= size
    tensor = torch.arange(numel, dtype=draw(st.sampled_from([torch.uint8, torch.int64]))).reshape(shape)
    return tensor, draw(tilings(shape))


def block_of(tensor: torch.Tensor, block: Block) -> torch.Tensor:
    for dim, (offset, size) in enumerate(zip(*block, strict=True)):
        tensor = tensor.narrow(dim, offset, size)
    return tensor


def write(folder: Path, tensor: torch.Tensor, blocks: list[Block], strided: bool = False) -> None:
    """A folder as ranks write it, with pieces of our choice."""
    places, parts = {}, b""
    for number, block in enumerate(blocks):
        stream = io.BytesIO()
        piece = block_of(tensor, block).clone(memory_format=torch.contiguous_format)
        torch.save(piece.t().clone(memory_format=torch.contiguous_format).t() if strided else piece, stream)
        index = MetadataIndex("w", torch.Size(block[0]), number)
        places[index] = _StorageInfo(PART, len(parts), len(stream.getvalue()))
        parts += stream.getvalue()
    folder.mkdir(exist_ok=True)
    (folder / PART).write_bytes(parts)
    entry = TensorStorageMetadata(
        TensorProperties(tensor.dtype),
        tensor.size(),
        [ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in blocks],
    )
    describe(folder, Metadata({"w": entry}, {"w": ("w",)}, places))


@given(case=tiled())
def test_a_tensor_is_its_pieces_put_together_as_torch_puts_them(
    case: tuple[torch.Tensor, list[Block]],
) -> None:
    tensor, blocks = case
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), tensor, blocks)
        with ckptkit.open(name) as checkpoint:
            assert torch.equal(checkpoint["w"], tensor) and checkpoint["w"].dtype == tensor.dtype
        theirs = {"w": torch.zeros_like(tensor)}
        dcp.load(theirs, storage_reader=dcp.FileSystemReader(name), no_dist=True)
        assert torch.equal(theirs["w"], tensor)


@given(case=tiled(), data=st.data())
def test_any_part_of_the_bytes_can_be_read_alone(case: tuple[torch.Tensor, list[Block]], data: Any) -> None:
    tensor, blocks = case
    raw = tensor.numpy().tobytes()
    start = data.draw(st.integers(0, len(raw)))
    stop = data.draw(st.integers(start, len(raw)))
    pieces = [block_of(tensor, block).contiguous().numpy().tobytes() for block in blocks]
    found = b""
    for number, first, count in runs(tuple(tensor.shape), tensor.element_size(), blocks, start, stop):
        assert count > 0 or start == stop
        found += pieces[number][first : first + count]
    assert found == raw[start:stop]


@given(case=tiled(), data=st.data())
def test_only_an_exact_cover_is_one(case: tuple[torch.Tensor, list[Block]], data: Any) -> None:
    tensor, blocks = case
    shape = tuple(tensor.shape)
    assert untiled(shape, blocks, MOST)[0] is None
    changed = list(blocks)
    number = data.draw(st.integers(0, len(blocks) - 1))
    kind = data.draw(st.sampled_from(["gone", "twice", "moved"]))
    if kind == "gone":
        del changed[number]
    elif kind == "twice":
        changed.append(blocks[number])
    elif shape:
        dim = data.draw(st.integers(0, len(shape) - 1))
        offsets = list(blocks[number][0])
        offsets[dim] += data.draw(st.sampled_from([-1, 1]))
        changed[number] = (tuple(offsets), blocks[number][1])
    covered = torch.zeros(shape, dtype=torch.int64)
    inside = all(
        offset >= 0 and offset + size <= most
        for block in changed
        for offset, size, most in zip(*block, shape, strict=True)
    )
    if inside:
        for block in changed:
            block_of(covered, block).add_(1)
        assert (untiled(shape, changed, MOST)[0] is None) == bool((covered == 1).all())
    elif all(offset >= 0 for offsets, _ in changed for offset in offsets):
        assert "reaches outside" in (untiled(shape, changed, MOST)[0] or "")


def test_pieces_that_were_saved_transposed_are_read_right(tmp_path: Path) -> None:
    tensor = torch.arange(35).reshape(5, 7)
    write(tmp_path / "s", tensor, [((0, 0), (5, 3)), ((0, 3), (5, 4))], strided=True)
    with ckptkit.open(tmp_path / "s") as checkpoint:
        assert torch.equal(checkpoint["w"], tensor)
    ckptkit.save(ckptkit.open(tmp_path / "s"), tmp_path / "a.safetensors")
    assert torch.equal(ckptkit.open(tmp_path / "a.safetensors")["w"], tensor)


def test_a_pickled_value_that_would_run_code_is_inert_beside_the_weights_and_refused_among_them(
    tmp_path: Path,
) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (eval, (f"open({str(tmp_path / 'executed')!r}, 'w')",))

    folder = save({"model": {"w": torch.ones(2)}, "more": {"x": Evil()}}, tmp_path / "s")
    with ckptkit.open(folder) as checkpoint:
        assert list(checkpoint) == ["w"]
        assert any("opaque value at 'more.x': __builtin__.eval" in note for note in checkpoint.source.notes)
    folder = save({"w": torch.ones(2), "x": Evil()}, tmp_path / "t")
    with ckptkit.open(folder) as checkpoint:
        assert checkpoint.signature["x"].kind == "object"
        with pytest.raises(FormatError, match=r"'x' is an object of __builtin__\.eval"):
            checkpoint["x"]
    assert not (tmp_path / "executed").exists()


def test_a_folder_is_known_by_its_metadata_and_a_part_alone_is_named(tmp_path: Path) -> None:
    folder = save({"w": torch.ones(2)}, tmp_path / "s")
    for path in (folder, folder / ".metadata"):
        with ckptkit.open(path) as checkpoint:
            assert checkpoint.source.format == "torch distributed"
            assert checkpoint.source.companions == ()
    with pytest.raises(FormatError, match="one part of a distributed checkpoint; open its folder"):
        ckptkit.open(folder / PART)


def test_it_is_not_rewritten_in_place(tmp_path: Path) -> None:
    folder = save({"old.w": torch.ones(2)}, tmp_path / "s")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    command = ["remap", str(folder), "--in-place", "--strip-prefix", "old."]
    done = subprocess.run([sys.executable, "-m", "ckptkit", *command], capture_output=True, text=True)
    assert done.returncode == 2 and "a distributed checkpoint is read and not written" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(UsageError, match="source itself|holds the source"):
        ckptkit.save(ckptkit.open(folder), folder, overwrite=True)


def test_more_files_than_may_be_open_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    tensor = torch.arange(300.0)
    write(folder, tensor, [((i,), (1,)) for i in range(300)])
    blob, metadata = (folder / PART).read_bytes(), described(folder)
    for number, info in enumerate((metadata.storage_data or {}).values()):
        (folder / f"__{number}_0.distcp").write_bytes(blob[info.offset : info.offset + info.length])
        info.relative_path, info.offset = f"__{number}_0.distcp", 0
    describe(folder, metadata)
    script = (
        "import resource, sys, ckptkit; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100));"
        "print(float(ckptkit.open(sys.argv[1])['w'].sum()))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True)
    assert done.stdout == f"{float(tensor.sum())}\n", done.stderr


def test_a_part_that_is_replaced_meanwhile_is_noticed(tmp_path: Path) -> None:
    folder = save({"w": torch.ones(2)}, tmp_path / "s")
    with ckptkit.open(folder) as checkpoint:
        with (folder / PART).open("r+b") as file:
            file.truncate(100)
        with pytest.raises(FormatError, match="changed while it was open"):
            checkpoint["w"]


def test_converting_needs_no_torch(tmp_path: Path) -> None:
    write(tmp_path / "s", torch.arange(12).reshape(3, 4), [((0, 0), (3, 1)), ((0, 1), (3, 3))])
    script = (
        "import sys; from ckptkit.__main__ import main;"
        "code = main(['convert', sys.argv[1], sys.argv[2]]); assert code == 0; assert 'torch' not in sys.modules"
    )
    out = tmp_path / "a.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "s"), str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert torch.equal(ckptkit.open(out)["w"], torch.arange(12).reshape(3, 4))
