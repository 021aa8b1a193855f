"""Whether a file is a part of a checkpoint: by its name and the names beside it, and by what it says of itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import CkptkitError
from ...signatures import Part
from ..base import Source
from ..index import read_index
from ..metadata_names import slices
from ..shard_names import is_index
from .folder import Folder
from .numbers import number

_NUMBERED = re.compile(r".+[-_.](\d{2,})-of-(\d{2,})(?:\.[\w-]+)?\.\w+")
_RANK = re.compile(r"(?i)(.*(?:rank|model_part|-shard)[_-]?)(\d+)(\D.*)?")
_PART = re.compile(r"(?i)(.*[-_.]part[-_]?)(\d+)(\.\w+)")


def part_by_name(source: Source) -> Part | None:
    """The part that a file is of a checkpoint; None for a whole one, and for all that is no single file.

    Args:
        source: an opened file.
    """
    if source.path is None or source.layout or len(source.files) != 1:
        return None
    return next(_reasons(source, source.files[0]), None)  # a folder leads to one file, too


def _reasons(source: Source, path: str) -> Iterator[Part]:
    folder, name = os.path.split(path)
    numbered = _NUMBERED.fullmatch(name)
    if numbered and int(numbered[2]) > 1:
        yield Part("sharded checkpoint", int(numbered[1]) - 1, int(numbered[2]))
    told = slices(source.signature.metadata)
    if told:
        yield from _slices(told, folder, name)
    try:
        beside = Folder(folder)
    except CkptkitError:
        return
    yield from _indexed(beside, name)
    yield from _ranks(beside, name)
    yield from _flat(source, name)
    yield from _consolidated(source, beside, name)
    yield from _placeholders(source, beside)


def _slices(told: Mapping[str, Mapping[str, Any]], folder: str, name: str) -> Iterator[Part]:
    """torch writes where in the whole tensor each slice begins."""
    shard = re.fullmatch(r"shard-(\d{5,})-(.+)", name)
    count = None
    if shard is not None:
        try:
            names = Folder(folder).matching(r"shard-(\d{5,})-.+")
            count = len({match[1] for match in names})
        except CkptkitError:
            count = None
    offsets = [entry.get("saved_offsets") for entry in told.values()]
    moved = any(isinstance(each, list) and any(each) for each in offsets)
    if moved or (count or 0) > 1:
        index = max(int(shard[1]) - 1, 0) if shard else None  # torch counts them from 1
        yield Part("checkpoint sliced by torch", index, count if (count or 0) > 1 else None)


def _ranks(folder: Folder, name: str) -> Iterator[Part]:
    """``x_rank0.bin`` beside ``x_rank1.bin``; a folder for each rank; torchtune's numbered files."""
    match = _RANK.fullmatch(name)
    if match is not None:
        frame = re.escape(match[1]) + r"(\d+)" + re.escape(match[3] or "")
        numbers = {int(each[1]) for each in folder.matching(frame)}
        if len(numbers) > 1 and 0 in numbers:  # of an adapter, rank is a width
            yield Part("checkpoint with a file for each rank", int(match[2]), len(numbers))
        elif re.search(r"(?i)(?:model_part|fsdp_rank|-shard)[_-]?$", match[1]) and (
            int(match[2]) > 0 or "model_part" in match[1].lower()
        ):
            yield Part("checkpoint with a file for each rank", int(match[2]), None)
    match = _PART.fullmatch(name)
    if match is not None:
        frame = re.escape(match[1]) + r"(\d+)" + re.escape(match[3])
        numbers = {int(each[1]) for each in folder.matching(frame)}
        if len(numbers) > 1:
            yield Part("checkpoint in numbered parts", sorted(numbers).index(int(match[2])), len(numbers))
    own = re.fullmatch(r"mp_rank_(\d+)(?:_(\d+))?", os.path.basename(os.path.abspath(folder.path or ".")))
    if own is not None:
        try:
            above = Folder(os.path.dirname(os.path.abspath(folder.path or ".")))
        except CkptkitError:
            return
        ranks = [each[0] for each in above.folders_matching(r"mp_rank_\d+(?:_\d+)?")]
        if len(ranks) > 1:
            yield Part("Megatron checkpoint", ranks.index(own[0]), len(ranks))
    layer = re.fullmatch(r"layer_(\d+)-model_\d+-model_states\.pt", name)
    if layer is not None:
        layers = sorted({int(each[1]) for each in folder.matching(r"layer_(\d+)-model_\d+-model_states\.pt")})
        yield Part("DeepSpeed pipeline checkpoint", layers.index(int(layer[1])), len(layers))
    shard = re.fullmatch(r"((?:hf|meta)_model_)(\d{4})(_\d+\.pt)", name)
    if shard is not None:
        numbers = {int(each[1]) for each in folder.matching(shard[1] + r"(\d{4})" + re.escape(shard[3]))}
        if len(numbers) > 1 or int(shard[2]) > 1:
            yield Part("torchtune checkpoint", int(shard[2]) - 1, max(numbers))


def _flat(source: Source, name: str) -> Iterator[Part]:
    """A rank's share of all parameters of a module in one row, as FSDP and fairscale save them unless told to gather."""
    if any(re.fullmatch(r"_?flat_param(?:_\d+)?", key.rpartition(".")[2]) for key in source.signature):
        match = _RANK.fullmatch(name)
        yield Part("FSDP checkpoint with flat parameters", int(match[2]) if match else None, None)


def _consolidated(source: Source, folder: Folder, name: str) -> Iterator[Part]:
    """Meta's ``consolidated.NN.pth``: one for each tensor-parallel rank, all of one where there is one alone.

    ``params.json`` beside it gives the model's width, and a part has columns of less.
    """
    match = re.fullmatch(r"consolidated\.(\d\d+)\.pth", name)
    if match is None:
        return
    numbers = {int(each[1]) for each in folder.matching(r"consolidated\.(\d\d+)\.pth")}
    index = int(match[1])
    if len(numbers) > 1 or index > 0:
        yield Part("tensor-parallel checkpoint", index, max(len(numbers), index + 1))
    width = number(folder.json("params.json").get("dim"))
    norm = source.signature.tensors.get("norm.weight")
    query = source.signature.tensors.get("layers.0.attention.wo.weight")
    if width and norm is not None and norm.shape == (width,) and query is not None and len(query.shape) == 2:
        rows, columns = query.shape
        if rows == width and 0 < columns < width and width % columns == 0:
            yield Part("tensor-parallel checkpoint", index, width // columns)


def _placeholders(source: Source, folder: Folder) -> Iterator[Part]:
    """Empty tensors alone, beside the parts of ZeRO-3 that have the weights: what a trainer saves that gathers nothing."""
    tag = folder.text("latest")
    if tag is None or tag not in folder.folders or any(i.numel for i in source.signature.tensors.values()):
        return
    try:
        ranks = folder.enter(tag).matching(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")
    except CkptkitError:
        return
    if ranks and len(source.signature):
        yield Part("DeepSpeed ZeRO-3 checkpoint", None, len(ranks))


def _indexed(folder: Folder, name: str) -> Iterator[Part]:
    """A shard with a name of its own, which an index beside it lists with others."""
    for index in folder.files:
        if not is_index(index):
            continue
        try:
            names = list(dict.fromkeys(read_index(folder.join(index))[0].values()))
        except CkptkitError:
            continue
        if name in names and len(names) > 1:
            yield Part("sharded checkpoint", names.index(name), len(names))
