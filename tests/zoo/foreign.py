"""Other frameworks' files and folders, and files of no checkpoint at all."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

from .making import text, tree
from .truth import Refused, Truth, case

SAFE = "save its weights as safetensors"


def _zip(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


_FILES: dict[str, tuple[str, bytes, tuple[str, ...], str]] = {
    "a Git LFS pointer": ("model.safetensors",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n",
        ("Git LFS pointer", "git lfs pull"), "damaged"),
    "a Git LFS pointer named .bin": ("pytorch_model.bin",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n",
        ("Git LFS pointer", "git lfs pull"), "damaged"),
    "a web page": ("model.pt", b"<!DOCTYPE html><html><body>404</body></html>",
        ("HTML page", "download it again"), "damaged"),
    "an error of a server in XML": ("model.ckpt", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        ("page", "download"), "damaged"),
    "an empty file": ("model.pt", b"", ("an empty file", "fetch it again"), "damaged"),
    "an empty safetensors file": ("model.safetensors", b"", ("an empty file", "fetch it again"), "damaged"),
    "zeros": ("model.pt", b"\0" * 5000, ("a file of zeros", "fetch it again"), "damaged"),
    "gzip": ("model.pt.gz", gzip.compress(b"x" * 100), ("gzip", "unpack it first"), "not understood"),
    "xz": ("model.xz", lzma.compress(b"x" * 100), ("xz", "unpack it first"), "not understood"),
    "bzip2": ("model.bz2", bz2.compress(b"x" * 100), ("bzip2", "unpack it first"), "not understood"),
    "Zstandard": ("model.zst", b"\x28\xb5\x2f\xfd" + b"x" * 50, ("Zstandard", "unpack it first"), "not understood"),
    "a zip archive of something else": ("model.zip", _zip({"readme.txt": "hello", "x/y.csv": "1"}),
        ("zip archive that torch did not write", "unpack it"), "not understood"),
    "Keras": ("model.keras", _zip({"metadata.json": "{}", "config.json": "{}", "model.weights.h5": "x"}),
        ("Keras",), "not understood"),
    "a Word document": ("model.docx", _zip({"[Content_Types].xml": "x", "word/document.xml": "x"}),
        ("zip archive",), "not understood"),
    "HDF5": ("model.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 50, ("HDF5", SAFE), "not understood"),
    "GGUF": ("model.gguf", b"GGUF\3\0\0\0" + b"\0" * 50, ("GGUF", "llama.cpp"), "not understood"),
    "GGML": ("ggml-base.bin", b"lmgg" + b"\1\0\0\0" * 20, ("GGML",), "not understood"),
    "ONNX": ("model.onnx", b"\x08\x07\x12\x07pytorch\x1a\x052.3.0:\x10", ("ONNX", "no state_dict"), "not understood"),
    "Flax": ("flax_model.msgpack", b"\x81\xa6params\x81\xa1a\xc4\x02xy", ("Flax", "msgpack", SAFE), "not understood"),
    "TensorFlow's saved_model.pb": ("saved_model.pb", b"\x08\x01\x12\xd3\x0a\x0a\x0e\x0a\x07", ("TensorFlow",),
        "not understood"),
    "TensorFlow Lite": ("model.tflite", b"\x1c\0\0\0TFL3" + b"\0" * 40, ("TensorFlow Lite",), "not understood"),
    "PaddlePaddle": ("model.pdparams", pickle.dumps({"a": 1}, 2), ("pickle",), "not understood"),
    "a pickle of plain values": ("config.pkl", pickle.dumps({"lr": 0.1}), ("pickle", "it was not executed"),
        "not understood"),
    "text": ("model.pt", b"hello, this is no checkpoint\n", ("a text file",), "not understood"),
    "JSON of another tool": ("stats.json", json.dumps({"a": [1, 2]}).encode(), ("ckptkit.signature",),
        "not understood"),
    "a JSON list": ("stats.json", b"[1, 2]", ("ckptkit.signature",), "not understood"),
    "config.json": ("config.json", b'{"model_type": "bert"}', ("JSON, but no signature",), "not understood"),
    "noise": ("blob.dat", bytes(range(200, 256)) * 20, ("of no format that ckptkit knows",), "not understood"),
    "a picture": ("model.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, ("of no format",), "not understood"),
}  # fmt: skip


def _file(name: str, content: bytes, says: tuple[str, ...], verified: str) -> Callable[[Path], Truth]:
    return lambda f: Refused(text(f / name, content), says, verified)


for _name, _told in _FILES.items():
    case(_name)(_file(*_told))

_FOLDERS: dict[str, tuple[dict[str, str | bytes], tuple[str, ...]]] = {
    "TensorFlow, a checkpoint": ({"checkpoint": 'model_checkpoint_path: "model.ckpt-5"',
        "model.ckpt-5.index": b"\0\1", "model.ckpt-5.data-00000-of-00001": b"x"}, ("TensorFlow checkpoint", SAFE)),
    "TensorFlow, a SavedModel": ({"saved_model.pb": b"\x08\x01", "variables/variables.index": b"\0"},
        ("TensorFlow", SAFE)),
    "Flax, a folder": ({"flax_model.msgpack": b"\x81", "config.json": "{}"}, ("Flax", SAFE)),
    "Orbax": ({"_METADATA": "{}", "manifest.ocdbt": b"x", "d/ab": b"x"}, ("Orbax", SAFE)),
    "Orbax, a run": ({"100/default/manifest.ocdbt": b"x", "100/default/_METADATA": "{}", "100/_CHECKPOINT_METADATA": "{}"},
        ("Orbax", SAFE)),
    "Keras, a folder": ({"model.keras": b"PK\3\4"}, ("Keras", SAFE)),
    "GGUF, a folder": ({"model-Q4_K_M.gguf": b"GGUF"}, ("GGUF", "model-Q4_K_M.gguf")),
    "ONNX, a folder": ({"model.onnx": b"\x08\x07", "model.onnx_data": b"x"}, ("ONNX",)),
    "OpenVINO": ({"openvino_model.xml": "<net/>", "openvino_model.bin": b"\1\2\3\4"}, ("OpenVINO",)),
    "Core ML": ({"Manifest.json": "{}", "Data/com.apple.CoreML/model.mlmodel": b"x"}, ("Core ML",)),
    "a tokenizer alone": ({"tokenizer.json": "{}", "vocab.txt": "a"}, ("holds no checkpoint",)),
    "a repository whose files are Git LFS pointers": ({"config.json": "{}",
        "model.safetensors": "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"},
        ("Git LFS pointer", "git lfs pull")),
}  # fmt: skip


def _folder(files: dict[str, str | bytes], says: tuple[str, ...]) -> Callable[[Path], Truth]:
    def make(f: Path) -> Truth:
        tree(f, files)
        pointer = any(b"git-lfs" in path.read_bytes() for path in f.glob("*.safetensors"))
        return Refused(f, says, "damaged" if pointer else "error")

    return make


for _name, _content in _FOLDERS.items():
    case(_name)(_folder(*_content))
