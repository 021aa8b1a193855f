"""What a file is, by its first bytes. Imports no reader: most of them take longer to import than this takes."""

from __future__ import annotations

import re

HEAD = 4096  # bytes to look at
_TEXT_PICKLE = re.compile(rb"c[\w.]+\n[\w.]+\n|\((?:dp|lp|i)\d*|\(S'|\(V|[\])}]q")
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
    "a gzip archive": "unpack it first",
    "an xz archive": "unpack it first",
    "a bzip2 archive": "unpack it first",
    "a Zstandard archive": "unpack it first",
    "a 7z archive": "unpack it first",
    "a RAR archive": "unpack it first",
    "a tar archive": "unpack it first",
    "a NeMo archive": "unpack it (tar -xf FILE -C FOLDER) and open the folder",
    "a tar file, torch's format before 0.1.10": "a torch of before 2017 wrote it; load it there and save it again",
    "a GGML file": "ckptkit reads torch and safetensors; take the model that it was made from",
    "a TensorFlow Lite file": "ckptkit reads torch and safetensors; take the model that it was made from",
    "a Flax checkpoint (msgpack)": "load it there and save its weights as safetensors",
    "a TensorFlow graph": "load it there and save its weights as safetensors",
    "a Keras file": "load it there and save its weights as safetensors",
    "a zip archive that torch did not write": "unpack it if a checkpoint lies in it",
    "a text file": "it is no checkpoint",
    "a pickle that torch did not write": "ckptkit never unpickles; where it was made, torch.save its state_dict()",
    "of no format that ckptkit knows": "ckptkit reads safetensors and torch files, and folders of them",
}


_FOREIGN = frozenset(
    [
        "a tar archive",
        "a NeMo archive",
        "a tar file, torch's format before 0.1.10",
        "a pickle that torch did not write",
        "a text file",
        "an ONNX file",
        "a TensorFlow Lite file",
        "a Keras file",
        "a zip archive that torch did not write",
        "a Flax checkpoint (msgpack)",
        "a TensorFlow graph",
    ]
)
# What a file's suffix says of bytes that have no mark of their own.
_BY_SUFFIX = {
    ("of no format that ckptkit knows", ".msgpack"): "a Flax checkpoint (msgpack)",
    ("of no format that ckptkit knows", ".pb"): "a TensorFlow graph",
    ("a tar archive", ".nemo"): "a NeMo archive",
    ("a zip archive that torch did not write", ".keras"): "a Keras file",
}


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
    if _is_numpy_archive(head):
        return "a NumPy file"
    if looks_like_zip(head):
        return "a zip archive that torch did not write" if _is_others_zip(head) else "a zip archive"
    if is_tar(head):
        return _tar(head)
    if looks_like_legacy(head):
        return "a torch legacy file"
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            return kind
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite file"
    if not head.strip(b"\0"):
        return "a file of zeros"
    return _text_or_pickle(head)


def is_foreign(kind: str, suffix: str = "") -> bool:
    """Whether a kind is a sound file of something else, and no checkpoint that was damaged or never arrived.

    Args:
        kind: as `recognise` says it.
        suffix: of the file's name; bytes of no known format under a torch file's are damage, elsewhere not understood.
    """
    if kind == "of no format that ckptkit knows":
        return suffix not in (".pt", ".pth", ".ckpt", ".safetensors")
    return kind in _FOREIGN or any(kind == name and kind != "a Git LFS pointer" for _, name in _MAGICS)


def looks_like_zip(head: bytes) -> bool:
    """Whether a file that begins with `head` is meant to be a zip archive."""
    return head[:4] in (b"PK\3\4", b"PK\5\6")


def looks_like_legacy(head: bytes) -> bool:
    """Whether a file that begins with `head` (512 bytes) is meant to be a pickle or a torch tar."""
    binary = len(head) >= 2 and head[0] == 0x80 and head[1] <= 5
    return binary or _TEXT_PICKLE.match(head) is not None or is_tar(head)


def is_tar(head: bytes) -> bool:
    """Whether a file that begins with `head` is a tar archive."""
    return head[257:262] == b"ustar"


def _tar(head: bytes) -> str:
    """Which tar archive: by the names of the first files in it."""
    names, at = set(), 0
    while is_tar(head[at : at + 512]):
        names.add(head[at : at + 100].split(b"\0")[0].removeprefix(b"./"))
        size = head[at + 124 : at + 135].split(b"\0")[0].strip()
        if not re.fullmatch(rb"[0-7]{1,11}", size):
            break
        at += 512 + -(-int(size, 8) // 512) * 512
    if names & {b"sys_info", b"storages"}:
        return "a tar file, torch's format before 0.1.10"
    if any(name.startswith((b"model_config.yaml", b"model_weights")) for name in names):
        return "a NeMo archive"
    return "a tar archive"


def _is_others_zip(head: bytes) -> bool:
    """Whether the first entry lies at the top: torch puts all of them into one folder."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    plain = b"." in name and b"/" not in name and all(32 < byte < 127 for byte in name)
    return head[:4] == b"PK\3\4" and plain and not name.endswith((b"data.pkl", b"version", b"byteorder"))


def of_suffix(kind: str, suffix: str) -> str:
    """A kind made more exact by the suffix of the file's name, where the bytes have no mark of their own.

    Args:
        kind: as `recognise` says it.
        suffix: in lower case, with its dot.
    """
    return _BY_SUFFIX.get((kind, suffix), kind)


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
    (b"lmgg", "a GGML file"),
    (b"tjgg", "a GGML file"),
    (b"fmgg", "a GGML file"),
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
        if head[:1] in (b"(", b"c", b"]", b"}"):
            return "a pickle that torch did not write"
        return "a text file" if _is_text(head) else "of no format that ckptkit knows"
    return "of no format that ckptkit knows"


def _is_text(head: bytes) -> bool:
    """Whether bytes without control characters are letters: UTF-8, or a script of one byte a letter, mostly ASCII."""
    try:
        head[: max(len(head) - 3, 0)].decode()
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 6 or 2 * sum(byte < 127 for byte in head) > len(head)
    return True


def described(kind: str, head: bytes) -> str:
    """A kind in words, with what to do about it."""
    if kind == "a torch legacy file" and not head.startswith(_LEGACY_MAGIC):
        kind = "a tar archive" if is_tar(head) else "a pickle that torch did not write"
    kind = "a zip archive, as torch writes it" if kind == "a zip archive" else kind
    kind = "JSON text" if kind == "JSON" else kind
    advice = _ADVICE.get(kind)
    return f"{kind}; {advice}" if advice else f"{kind}; rename it, or fetch the right file"
