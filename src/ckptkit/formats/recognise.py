"""What a file is, by its content. Only ``.safetensors`` and ``.json`` promise a format."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..errors import FormatError, RootError, UsageError
from ..files.regular import open_regular, read_exactly
from ..text import quote_list
from .base import NO_ROOT, Source, WriteRequest, Written

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
_HEAD = 4096
# How every stream that torch.save wrote before 1.6 begins: the pickled number 0x1950a86a20f9469cfc6c.
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_ADVICE = {
    "a Git LFS pointer": "the real file was never fetched; run `git lfs pull`, or download the file itself",
    "an HTML page": "a download saved a web page instead of the file; download it again, logged in if need be",
    "an empty file": "the download or the save was interrupted; fetch it again",
    "a file of zeros": "the machine lost power or space while it was written; fetch it again",
    "a GGUF file": "ckptkit reads torch and safetensors; convert it with the tools of llama.cpp",
    "an ONNX file": "ckptkit reads torch and safetensors; an ONNX graph is no state_dict",
    "an HDF5 file": "it is probably a Keras checkpoint; load it there and save its weights as safetensors",
    "a NumPy file": "load it with numpy (allow_pickle=False) and save its arrays as safetensors",
    "a gzip archive": "unpack it first",
    "an xz archive": "unpack it first",
    "a bzip2 archive": "unpack it first",
    "a Zstandard archive": "unpack it first",
    "a 7z archive": "unpack it first",
    "a RAR archive": "unpack it first",
    "a tar archive": "unpack it first; a torch file of before 2017 must be loaded with a torch of its time and saved again",
    "a text file": "it is no checkpoint",
    "a pickle that torch did not write": "ckptkit never unpickles; where it was made, torch.save its state_dict()",
    "of no format that ckptkit knows": "ckptkit reads safetensors and torch files, and folders of them",
}


def open_source(path: str, root: str = "auto") -> Source:
    """Open a checkpoint file, a sharded folder or an index, by content.

    Args:
        path: what to open.
        root: where the weights lie in a nested torch file: ``auto``, ``none`` or a dotted path.

    Raises:
        FormatError: missing, damaged, or of no format that is read; says what it is instead.
        RootError: the root is not there, or not unique.
    """
    if os.path.isdir(path):
        from .sharded import companions, find_in_folder, not_taken

        inner = open_source(find_in_folder(path), root)
        inner.path = path
        if not inner.companions:
            inner.companions = companions(path)
        others = not_taken(path, inner.files)
        if others:
            taken = ", ".join(os.path.basename(file) for file in inner.files[:1])
            inner.notes = (*inner.notes, f"{taken} was taken; the folder also holds {quote_list(others)}")
        return inner
    if path.lower().endswith(".index.json"):
        from .sharded import ShardedSource

        _only_auto(path, root, "a sharded checkpoint")
        return ShardedSource(path, lambda shard: open_source(shard, root))
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = read_exactly(file.fileno(), 0, min(_HEAD, size), path)
    kind = recognise(head, size)
    suffix = os.path.splitext(path)[1].lower()
    promised = {".safetensors": "safetensors", ".json": "JSON"}.get(suffix)
    if promised == "safetensors" and kind != "safetensors" and not _may_be_broken_safetensors(kind):
        raise FormatError(f"{path}: is named .safetensors and is {_describe(kind, head)}", file=path)
    if promised == "JSON" and kind != "JSON":
        raise FormatError(f"{path}: is named .json and is {_describe(kind, head)}", file=path)
    if kind == "safetensors" or promised == "safetensors":
        from .safetensors import SafetensorsSource

        _only_auto(path, root, "a safetensors file")
        source: Source = SafetensorsSource(path)
    elif kind == "JSON":
        from .signature_file import SignatureSource

        source = SignatureSource(path)
    elif kind == "a zip archive":
        from .torch_zip import open_torch_zip

        source = open_torch_zip(path, root)
    elif kind == "a torch legacy file":
        from .torch_legacy import open_torch_legacy

        source = open_torch_legacy(path, root)
    else:
        raise FormatError(f"{path}: is {_describe(kind, head)}", file=path)
    expected = "safetensors" if suffix == ".safetensors" else "torch" if suffix in TORCH_SUFFIXES else None
    if expected is not None and not source.format.startswith(expected):
        source.notes = (*source.notes, f"the name ends in {suffix}, the content is {source.format}")
    return source


def _only_auto(path: str, root: str, what: str) -> None:
    if root not in ("auto", "none", NO_ROOT):
        raise RootError(
            f"{path}: the root {root!r} was asked for, and {what} has none but its top level", file=path
        )


def _describe(kind: str, head: bytes) -> str:
    if kind == "a torch legacy file" and not head.startswith(_LEGACY_MAGIC):
        kind = "a tar archive" if head[257:262] == b"ustar" else "a pickle that torch did not write"
    kind = "a zip archive, as torch writes it" if kind == "a zip archive" else kind
    kind = "JSON text" if kind == "JSON" else kind
    advice = _ADVICE.get(kind)
    return f"{kind}; {advice}" if advice else f"{kind}; rename it, or fetch the right file"


def _may_be_broken_safetensors(kind: str) -> bool:
    """Whether the safetensors reader gives the better error."""
    return kind == "of no format that ckptkit knows"


def recognise(head: bytes, size: int) -> str:
    """What a file is.

    Args:
        head: its first bytes, 4096 if there are so many.
        size: its length.

    Returns:
        ``safetensors``, ``JSON``, ``a zip archive``, ``a torch legacy file``, or a description.
    """
    if not head:
        return "an empty file"
    # Before the pickle test: a safetensors header of 640 bytes starts with the bytes of PROTO 2.
    if _looks_like_safetensors(head, size):
        return "safetensors"
    # The torch readers take time to import, and half of all files never need them.
    from .torch_legacy import looks_like_legacy
    from .torch_zip import looks_like_zip

    if _is_numpy_archive(head):
        return "a NumPy file"
    if looks_like_zip(head):
        return "a zip archive"
    if looks_like_legacy(head):
        return "a torch legacy file"
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "a tar archive"
    if not head.strip(b"\0"):
        return "a file of zeros"
    return _text_or_pickle(head)


def _is_numpy_archive(head: bytes) -> bool:
    """Whether the first entry of a zip archive is an array, as in every ``.npz``."""
    return head.startswith(b"PK\x03\x04") and head[30 : 30 + int.from_bytes(head[26:28], "little")].endswith(
        b".npy"
    )


_MAGICS = (
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
)


def _looks_like_safetensors(head: bytes, size: int) -> bool:
    """A plausible length, and the JSON object that must follow it."""
    if len(head) < 9:
        return False
    length = int.from_bytes(head[:8], "little")
    start = head[8:].lstrip(b" \t\r\n")[:1]
    return (0 < length <= max(size - 8, 0) and start == b"{") or (length <= 100_000_000 and start == b"{")


def _text_or_pickle(head: bytes) -> str:
    lowered = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if lowered.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")) or b"<html" in lowered:
        return "an HTML page"
    if lowered[:1] in (b"{", b"["):
        return "JSON"
    if head[0] == 0x80 and len(head) > 1 and head[1] <= 5:
        return "a pickle that torch did not write"
    if b"onnx" in head[:256].lower() or (head[:1] == b"\x08" and b"pytorch" in head[:64]):
        return "an ONNX file"
    if all(byte >= 32 or byte in b"\t\r\n\f\x1b" for byte in head[:512]):
        return "a pickle that torch did not write" if head[:1] in (b"(", b"c", b"]", b"}") else "a text file"
    return "of no format that ckptkit knows"


def writer_for(target: str) -> Callable[[WriteRequest], Written]:
    """The writer for a target, by its suffix; none, or a trailing slash, means a folder.

    Raises:
        UsageError: a suffix that stands for no format.
    """
    from .safetensors_write import write_safetensors
    from .sharded_write import write_sharded
    from .signature_file import write_signature

    if target.endswith(("/", os.sep)):
        return write_sharded
    suffix = os.path.splitext(target)[1].lower()
    if not suffix:
        return write_sharded
    if suffix == ".safetensors":
        return write_safetensors
    if suffix in TORCH_SUFFIXES:
        from .torch_write import write_torch_zip

        return write_torch_zip
    if suffix == ".json" and not target.lower().endswith(".index.json"):
        return write_signature
    if os.path.isdir(target):  # model-v1.5 has no suffix, only a name with a dot
        return write_sharded
    raise UsageError(
        f"{target}: the suffix {suffix!r} stands for no format; known are .safetensors, {', '.join(TORCH_SUFFIXES)} "
        "(torch), .json (signature), and a folder without a suffix (or with a trailing /)",
        file=target,
    )
