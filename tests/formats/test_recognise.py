"""What a file is follows from its content; what it is not is said, with what to do."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.errors import CkptkitError, FormatError, RootError, UsageError
from ckptkit.formats.opening import open_source, writer_for
from ckptkit.formats.recognise import recognise
from ckptkit.formats.safetensors_write import write_safetensors
from ckptkit.formats.sharded_write import write_sharded
from ckptkit.formats.signature_write import write_signature
from ckptkit.formats.torch_write import write_torch_zip

WEIGHTS = {"w": torch.arange(2.0)}
SAFETENSORS = safetensors.torch.save(WEIGHTS)


def made(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


TORCH = made(lambda b: torch.save(WEIGHTS, b))
LEGACY = made(lambda b: torch.save(WEIGHTS, b, _use_new_zipfile_serialization=False))


def npz() -> bytes:
    def write(buffer: io.BytesIO) -> None:
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("weight.npy", b"\x93NUMPY\x01\x00")

    return made(write)


def tar() -> bytes:
    def write(buffer: io.BytesIO) -> None:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a"), io.BytesIO())

    return made(write)


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.xyz", "a", "a.SAFETENSORS"])
@pytest.mark.parametrize("kind", ["safetensors", "torch zip", "torch legacy"])
def test_content_decides_wherever_the_suffix_promises_nothing(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes({"safetensors": SAFETENSORS, "torch zip": TORCH, "torch legacy": LEGACY}[kind])
    if name.endswith("SAFETENSORS") and kind != "safetensors":
        with pytest.raises(FormatError, match=r"is named .safetensors and is"):
            open_source(str(path))
        return
    source = open_source(str(path))
    assert source.format.startswith(kind)
    assert torch.equal(source.tensor("w"), WEIGHTS["w"])
    unexpected = kind == "safetensors" and name in ("a.pt", "a.bin")
    assert any("the name ends in" in note for note in source.notes) == unexpected
    source.close()


STRANGERS: dict[str, tuple[bytes, str]] = {
    "html": (b"\n<!DOCTYPE html><html><body>404</body></html>", "an HTML page; a download saved a web page"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "Git LFS pointer; .*git lfs pull",
    ),
    "empty": (b"", "an empty file"),
    "zeros": (b"\0" * 5000, "a file of zeros"),
    "gguf": (b"GGUF\3\0\0\0" + b"\0" * 40, "a GGUF file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "an HDF5 file"),
    "npy": (b"\x93NUMPY\1\0" + b"\0" * 40, "a NumPy file"),
    "npz": (npz(), "a NumPy file"),
    "tar": (tar(), "a tar archive"),
    "gzip": (b"\x1f\x8b\x08" + b"\0" * 40, "a gzip archive; unpack it first"),
    "bzip2": (b"BZh91AY" + b"\1" * 40, "a bzip2 archive"),
    "xz": (b"\xfd7zXZ\0" + b"\0" * 40, "an xz archive"),
    "zstd": (b"\x28\xb5\x2f\xfd" + b"\1" * 40, "a Zstandard archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + b"\1" * 40, "a 7z archive"),
    "rar": (b"Rar!\x1a\7\0" + b"\1" * 40, "a RAR archive"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a" + b"\1" * 40, "an ONNX file"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle that torch did not write; ckptkit never unpickles"),
    "pickle0": (pickle.dumps({"a": 1}, protocol=0), "a pickle that torch did not write"),
    "text": (b"hello there\n", "a text file"),
    "noise": (bytes(range(255, 0, -1)), "of no format that ckptkit knows"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".json", ""])
@pytest.mark.parametrize("name", STRANGERS)
def test_what_cannot_be_read_is_called_what_it_is(name: str, suffix: str, tmp_path: Path) -> None:
    raw, words = STRANGERS[name]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(raw)
    if name.startswith("pickle") and suffix not in (".safetensors", ".json"):
        words = "a pickle of a dict, but no torch file"  # whose reader has looked further into it
    if (name, suffix) == ("noise", ".safetensors"):  # whose reader knows better what is wrong with it
        words = "not a valid safetensors file: the header claims"
    with pytest.raises(FormatError, match=words) as caught:
        open_source(str(path))
    assert caught.value.file == str(path)
    if suffix in (".json", ".safetensors") and name != "noise":
        assert f"is named {suffix}" in caught.value.message


@given(raw=st.binary(max_size=300))
def test_any_bytes_are_something_and_never_another_error(
    raw: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert recognise(raw[:4096], len(raw))
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("a", "a.safetensors", "a.json", "a.pt", "model.safetensors.index.json"):
        (folder / name).write_bytes(raw)
        with pytest.raises(CkptkitError):
            open_source(str(folder / name))


@given(which=st.integers(0, 2), data=st.data())
def test_a_changed_file_is_read_or_one_error(
    which: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray([SAFETENSORS, TORCH, LEGACY][which])
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("changed") / "a"
    path.write_bytes(bytes(raw[: data.draw(st.integers(1, len(raw)))]))
    try:
        with ckptkit.open(path) as checkpoint:
            dict(checkpoint)
    except CkptkitError:
        pass


def test_a_header_of_640_bytes_is_no_pickle(tmp_path: Path) -> None:
    """Its length, 0x280, reads as the opcode that begins every pickle of protocol 2."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode().ljust(0x280)
    (tmp_path / "a.bin").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert list(open_source(str(tmp_path / "a.bin")).signature) == ["w"]


def unreadable(folder: Path) -> dict[str, str]:
    os.mkfifo(folder / "fifo.pt")
    os.symlink("/dev/zero", folder / "zero.safetensors")
    os.symlink("loop.pt", folder / "loop.pt")
    os.symlink("nowhere", folder / "dangling.pt")
    (folder / "file").write_bytes(b"x")
    return {
        "fifo.pt": "is a FIFO",
        "zero.safetensors": "is a character device",
        "loop.pt": "is a link that leads to itself",
        "dangling.pt": "is a link to a file that does not exist",
        "missing.pt": "does not exist",
        "file/x.pt": "a part of the path is a file",
        "n" * 300: "is longer than the system allows",
        "nul\0": "is no path",
    }


def test_what_is_no_regular_file_is_never_waited_for(tmp_path: Path) -> None:
    for name, words in unreadable(tmp_path).items():
        with pytest.raises(FormatError, match=words):
            open_source(f"{tmp_path}/{name}")


def test_a_root_is_only_looked_for_where_there_can_be_one(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(SAFETENSORS)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(RootError, match="the root 'ema' was asked for, and a safetensors file has none"):
            open_source(str(path), "ema")


def test_the_suffix_of_a_target_chooses_the_writer(tmp_path: Path) -> None:
    for target, writer in {
        "a.safetensors": write_safetensors,
        "A.SafeTensors": write_safetensors,
        "a.pt": write_torch_zip,
        "a.pth": write_torch_zip,
        "a.bin": write_torch_zip,
        "a.ckpt": write_torch_zip,
        "a.json": write_signature,
        "a": write_sharded,
        "a/": write_sharded,
        "a.safetensors/": write_sharded,
        "v1.5/": write_sharded,
    }.items():
        assert writer_for(str(tmp_path / "x") + target) is writer
    for target in ("a.txt", "a.safetensor", "v1.5", "model.safetensors.index.json"):
        with pytest.raises(
            UsageError, match=r"stands for no format; known are .safetensors, .pt, .*trailing /"
        ):
            writer_for(target)


def test_a_folder_keeps_its_name_with_a_dot_and_a_file_never_becomes_one(tmp_path: Path) -> None:
    for name in ("v1.5", "a.safetensors"):
        (tmp_path / name).mkdir()
    ckptkit.save(WEIGHTS, tmp_path / "v1.5")
    assert (tmp_path / "v1.5" / "model.safetensors").exists()
    with pytest.raises(ckptkit.WriteError, match="is a directory and is not replaced"):
        ckptkit.save(WEIGHTS, tmp_path / "a.safetensors", overwrite=True)
