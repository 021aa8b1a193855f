"""Everything that may be wrong with a folder of torch.distributed.checkpoint is one error: G16."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

import ckptkit
from ckptkit.errors import FormatError

from .test_dcp import PART, describe, described, save, write


def change_info(name: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        metadata = described(folder)
        setattr(list((metadata.storage_data or {}).values())[-1], name, value)
        describe(folder, metadata)

    return change


def change_entry(edit: Callable[[TensorStorageMetadata], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        metadata = described(folder)
        entry = metadata.state_dict_metadata["w"]
        assert isinstance(entry, TensorStorageMetadata)
        edit(entry)
        describe(folder, metadata)

    return change


def change_paths(paths: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        metadata = described(folder)
        metadata.planner_data = paths
        describe(folder, metadata)

    return change


def rename_data(folder: Path) -> None:
    metadata = described(folder)
    metadata.storage_data = {
        MetadataIndex("other", index.offset): info for index, info in (metadata.storage_data or {}).items()
    }
    describe(folder, metadata)


def same_place(folder: Path) -> None:
    metadata = described(folder)
    first, second = metadata.storage_data or {}
    metadata.storage_data[first] = metadata.storage_data[second]
    describe(folder, metadata)


def other_name_for_the_same_bytes(folder: Path) -> None:
    metadata = described(folder)
    entry = metadata.state_dict_metadata["w"]
    assert isinstance(entry, TensorStorageMetadata) and metadata.storage_data is not None
    half = TensorStorageMetadata(entry.properties, torch.Size([2, 3]), entry.chunks[:1])
    metadata.state_dict_metadata["v"] = half
    info = next(iter(metadata.storage_data.values()))
    inner = _StorageInfo(PART, info.offset + 5, info.length - 9)
    metadata.storage_data[MetadataIndex("v", torch.Size([0, 0]))] = inner
    metadata.planner_data["v"] = ("v",)
    describe(folder, metadata)


def change_properties(position: int, value: Any) -> Callable[[Path], None]:
    """What torch would never write there."""

    def change(folder: Path) -> None:
        honest = TensorProperties.__getstate__

        def dishonest(self: TensorProperties) -> tuple[Any, ...]:
            state = list(honest(self))
            state[position : position + 1] = value
            return tuple(state)

        metadata = described(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TensorProperties, "__getstate__", dishonest)
            describe(folder, metadata)

    return change


def other_file(folder: Path) -> None:
    (folder / PART).write_bytes(b"\0" * (folder / PART).stat().st_size)


def other_pieces(folder: Path) -> None:
    """The pieces of another save, in files of the same length."""
    own = (folder / ".metadata").read_bytes()
    write(folder, torch.arange(12, dtype=torch.int32).reshape(4, 3), [((0, 0), (2, 3)), ((2, 0), (2, 3))])
    (folder / ".metadata").write_bytes(own)


DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "climbing path": (change_info("relative_path", "../a.distcp"), "no plain name"),
    "absolute path": (change_info("relative_path", "/etc/passwd"), "no plain name"),
    "path on Windows": (change_info("relative_path", "..\\a.distcp"), "no plain name"),
    "path of another kind": (change_info("relative_path", ".metadata"), "no plain name"),
    "path that is a number": (change_info("relative_path", 7), "no plain name"),
    "negative offset": (change_info("offset", -1), "lies at -1"),
    "offset behind the end": (change_info("offset", 10**9), "belongs to another save"),
    "length behind the end": (change_info("length", 10**9), "belongs to another save"),
    "length that is too short": (change_info("length", 30), "no sound zip|not a sound zip"),
    "compressed": (change_info("transform_descriptors", ["zstd"]), "compressed or transformed"),
    "larger shape": (change_entry(lambda e: setattr(e, "size", torch.Size([8, 3]))), "hold 12 of the 24"),
    "smaller shape": (change_entry(lambda e: setattr(e, "size", torch.Size([2, 3]))), "reaches outside"),
    "huge shape": (change_entry(lambda e: setattr(e, "size", torch.Size([2**40]))), "of 2 dimensions in a shape of 1"),
    "shape of text": (change_entry(lambda e: setattr(e, "size", ["4", "3"])), "is no shape"),
    "piece left out": (change_entry(lambda e: e.chunks.pop()), "data is stored at"),
    "piece twice": (change_entry(lambda e: e.chunks.append(e.chunks[0])), "is not stored"),
    "another dtype": (change_entry(lambda e: setattr(e.properties, "dtype", torch.float16)), "the metadata says float16"),
    "quantised": (change_entry(lambda e: setattr(e.properties, "dtype", torch.qint8)), "qint8"),
    "two pieces in one place": (same_place, "share the bytes from"),
    "two tensors in one place": (other_name_for_the_same_bytes, "'w' and 'v' share the bytes from 5 of"),
    "memory format of text": (change_properties(3, ["x"]), "its properties are"),
    "memory format unknown": (change_properties(3, [torch.strided]), "its properties are"),
    "pinned by a number": (change_properties(4, [3]), "its properties are"),
    "more dimensions than torch has": (
        change_entry(lambda e: setattr(e, "size", torch.Size([1] * 65))), "is no shape of a tensor",
    ),
    "strides that overflow": (
        change_entry(lambda e: setattr(e, "size", torch.Size([0, 2**40, 2**40]))), "is no shape of a tensor",
    ),
    "length of less than its elements": (change_info("length", 20), "has 24 bytes, and lies in 20"),
    "too few properties": (change_properties(4, []), "its dtype is not given"),
    "data of nothing": (rename_data, "is not stored|0 times"),
    "no metadata": (lambda folder: (folder / ".metadata").unlink(), "the save was interrupted"),
    "other pickle": (lambda folder: describe(folder, {"w": 1}), "a Metadata was expected, and there is a dict"),
    "no pickle": (lambda folder: (folder / ".metadata").write_text("{}"), ".metadata is refused"),
    "keys of another name": (change_paths({"w": ("v",)}), "give another name"),
    "keys that are no path": (change_paths({"w": 7}), "give another name"),
    "keys of another kind": (change_paths(5), "the nested keys are a"),
    "no part": (lambda folder: (folder / PART).unlink(), "does not exist"),
    "other content": (other_file, "not a sound zip archive"),
    "another save": (other_pieces, "it has|the metadata says"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_folder_is_one_error_and_verify_says_so(name: str, tmp_path: Path) -> None:
    damage, words = DAMAGED[name]
    folder = tmp_path / "saved"
    write(folder, torch.arange(12.0).reshape(4, 3), [((0, 0), (2, 3)), ((2, 0), (2, 3))])
    assert ckptkit.verify(folder).ok
    damage(folder)
    with pytest.raises(FormatError, match=words), ckptkit.open(folder) as checkpoint:
        checkpoint["w"]
    if name != "no metadata":
        report = ckptkit.verify(folder)
        assert not report.ok
    with pytest.raises(FormatError):
        ckptkit.save(ckptkit.open(folder), tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_flipped_bit_is_found_and_located(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    tensor = torch.arange(1000.0)
    write(folder, tensor, [((0,), (400,)), ((400,), (600,))])
    blob = bytearray((folder / PART).read_bytes())
    at = bytes(blob).index(tensor[400:].numpy().tobytes()) + 77
    blob[at] ^= 4
    (folder / PART).write_bytes(blob)
    (damage,) = ckptkit.verify(folder).problems
    assert (damage.file, damage.key) == (str(folder / PART), "w")
    assert damage.offset is not None and damage.offset <= at < damage.offset + 2400
    with ckptkit.open(folder) as checkpoint, pytest.raises(FormatError, match="is damaged"):
        checkpoint["w"]


def compressed(folder: Path) -> None:
    """Pieces whose archives are deflated, as a rezipped file is."""
    import zipfile

    blob, metadata = b"", described(folder)
    for info in (metadata.storage_data or {}).values():
        part = (folder / PART).read_bytes()[info.offset : info.offset + info.length]
        stream = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(part)) as old,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for name in old.namelist():
                new.writestr(name, old.read(name))
        info.offset, info.length = len(blob), len(stream.getvalue())
        blob += stream.getvalue()
    (folder / PART).write_bytes(blob)
    describe(folder, metadata)


@pytest.mark.parametrize("entry", ["w", "rates"])
def test_compressed_archives_are_refused_by_name(entry: str, tmp_path: Path) -> None:
    folder = save({"w": torch.zeros(3000)} if entry == "w" else {"rates": (0.5,) * 3000}, tmp_path / "s")
    compressed(folder)
    with (
        pytest.raises(FormatError, match="is compressed, which ckptkit does not read|bytes, and lies in"),
        ckptkit.open(folder, root="none") as checkpoint,
    ):
        checkpoint[entry]


def test_proving_the_tilings_has_a_budget_for_the_whole_folder(tmp_path: Path) -> None:
    """A thousand columns above a thousand rows are a million cells: once is allowed."""
    count = 1000
    above = [((0, i), (1, 1)) for i in range(count)]
    below = [((1 + i, 0), (1, count)) for i in range(count)]
    chunks = [
        ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in above + below
    ]
    shape = torch.Size([1 + count, count])
    tensors = {
        name: TensorStorageMetadata(TensorProperties(torch.uint8), shape, chunks) for name in ("v", "w")
    }
    places = {
        MetadataIndex(name, chunk.offsets): _StorageInfo(PART, 10**4 * number, 10**4)
        for number, (name, chunk) in enumerate((name, chunk) for name in tensors for chunk in chunks)
    }
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / PART).write_bytes(b"")
    for names, words in (
        (["v"], "belongs to another save"),
        (["v", "w"], "'w': its 2000 pieces lie too irregularly"),
    ):
        kept = {index: info for index, info in places.items() if index.fqn in names}
        describe(
            folder, Metadata({name: tensors[name] for name in names}, {name: (name,) for name in names}, kept)
        )
        with pytest.raises(FormatError, match=words):
            ckptkit.open(folder)


def test_bytes_and_files_of_nothing_that_was_saved_are_told(tmp_path: Path) -> None:
    folder = save({"w": torch.ones(4), "none": torch.ones(0, 3)}, tmp_path / "s")
    assert ckptkit.verify(folder).notes == ()
    with (folder / PART).open("ab") as file:
        file.write(b"\0" * 77)
    (folder / "__9_0.distcp").write_bytes(b"")
    report = ckptkit.verify(folder)
    assert report.ok
    assert any(
        note.startswith("77 of the ") and "belong to nothing that was saved" in note for note in report.notes
    )
    assert "not of this save: '__9_0.distcp'" in report.notes
