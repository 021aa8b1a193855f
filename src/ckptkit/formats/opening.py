"""Opening what a path names, and choosing a writer for a name. Each imports its own format only."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from ..errors import FormatError, RootError, UnsupportedFormatError, UsageError
from ..files.elsewhere import not_writable
from ..files.regular import open_regular, read_exactly
from ..signatures import Part
from .base import NO_ROOT, Source, WriteRequest, Written
from .recognise import HEAD, described, is_foreign, looks_like_zip, of_suffix, recognise
from .shard_names import is_index

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


def open_source(path: str, root: str = "auto", variant: str | None = None) -> Source:
    """Open a checkpoint file, a sharded or distributed folder or an index, by content.

    Args:
        path: what to open.
        root: where the weights lie in a nested torch file: ``auto``, ``none`` or a dotted path.
        variant: for folders that hold the weights in several, ``fp16`` and the like.

    Raises:
        FormatError: missing, damaged, or of no format that is read; says what it is instead.
        RootError: the root is not there, or not unique.
    """
    if os.path.isdir(path):
        return _open_folder(path, root, variant)
    if variant is not None:
        raise FormatError(
            f"{path}: is one file, and only folders hold variants; leave out {variant!r}", file=path
        )
    if is_index(path):
        from .sharded import ShardedSource

        _only_auto(path, root, "a sharded checkpoint")
        return ShardedSource(path, open_source)
    if os.path.basename(path) == ".metadata":
        from .dcp.source import open_dcp

        return open_dcp(path, root)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = read_exactly(file.fileno(), 0, min(HEAD, size), path)
    suffix = os.path.splitext(path)[1].lower()
    kind = of_suffix(recognise(head, size), suffix)
    promised = {".safetensors": "safetensors", ".json": "JSON"}.get(suffix)
    if suffix == ".distcp":
        raise FormatError(
            f"{path}: is one part of a distributed checkpoint; open its folder, {os.path.dirname(path) or '.'}",
            file=path,
        )
    if promised == "safetensors" and kind != "safetensors" and not _may_be_broken_safetensors(kind):
        raise FormatError(f"{path}: is named .safetensors and is {described(kind, head)}", file=path)
    if promised == "JSON" and kind != "JSON":
        raise FormatError(f"{path}: is named .json and is {described(kind, head)}", file=path)
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
    elif kind == "a NumPy file":
        from .numpy_files import open_numpy

        _only_auto(path, root, "a file of numpy")
        source = open_numpy(path, root, archive=looks_like_zip(head))
    else:
        error = UnsupportedFormatError if is_foreign(kind, suffix) else FormatError
        raise error(f"{path}: is {described(kind, head)}", file=path)
    expected = "safetensors" if suffix == ".safetensors" else "torch" if suffix in TORCH_SUFFIXES else None
    if expected is not None and not source.format.startswith(expected):
        source.notes = (*source.notes, f"the name ends in {suffix}, the content is {source.format}")
    return source


def open_whole(path: str, root: str = "auto", variant: str | None = None) -> Source:
    """Like `open_source`; the signature says whether it is a part of another checkpoint."""
    source = open_source(path, root, variant)
    part = part_of(source)
    if part is not None:
        source.signature = replace(source.signature, part_of=part)
    return source


def part_of(source: Source) -> Part | None:
    """The part that a file is of a checkpoint, by its name, its neighbours and its content; None for a whole one."""
    from .layouts.parts import part_by_name

    if source.format.startswith("torch"):
        from .layouts.torch_parts import by_content

        part = next(by_content(source), None)
        if part is not None:
            return part
    return part_by_name(source)


def _open_folder(path: str, root: str, variant: str | None) -> Source:
    from .layouts.finding import beside, companions, find

    place = find(path, variant)
    if len(place.names) == 1:
        inner = open_source(place.paths[0], root)
    else:
        from .sharded import ShardedSource

        _only_auto(path, root, "a sharded checkpoint")
        inner = ShardedSource(place.folder, open_source, place.names)
    inner.path = path
    if not inner.companions:
        inner.companions = companions(place.folder, inner.files)
    notes = [*inner.notes, *place.notes]
    if os.path.splitext(path.rstrip("/"))[1].lower() == ".safetensors":
        notes.append(f"the name ends in .safetensors, the content is a folder: {inner.format}")
    inner.notes = (*notes, *beside(place.folder, inner.files))
    return inner


def _only_auto(path: str, root: str, what: str) -> None:
    if root not in ("auto", "none", NO_ROOT):
        raise RootError(
            f"{path}: the root {root!r} was asked for, and {what} has none but its top level", file=path
        )


def _may_be_broken_safetensors(kind: str) -> bool:
    """Whether the safetensors reader gives the better error."""
    return kind == "of no format that ckptkit knows"


def writer_for(target: str) -> Callable[[WriteRequest], Written]:
    """The writer for a target, by its suffix; none, or a trailing slash, means a folder.

    Raises:
        UsageError: a suffix that stands for no format, or an address that is no path.
    """
    from .safetensors_write import write_safetensors
    from .sharded_write import write_sharded
    from .signature_write import write_signature

    if not target:
        raise UsageError("'' names nothing to write; give a file or a folder")
    instead = not_writable(target)
    if instead is not None:
        raise UsageError(f"{target}: {instead}", file=target)
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
    if suffix == ".json" and not is_index(target):
        return write_signature
    if os.path.isdir(target):  # model-v1.5 has no suffix, only a name with a dot
        return write_sharded
    raise UsageError(
        f"{target}: the suffix {suffix!r} stands for no format; known are .safetensors, {', '.join(TORCH_SUFFIXES)} "
        "(torch), .json (signature), and a folder without a suffix (or with a trailing /)",
        file=target,
    )
