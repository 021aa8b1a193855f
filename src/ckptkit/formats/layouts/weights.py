"""The weight files of one folder: which of them are one checkpoint, and which one is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ...errors import FormatError
from ...files.atomic import is_temporary
from ...text import quote_list
from ..index import read_index
from ..shard_names import INDEX, WEIGHTS
from .folder import Folder
from .layout import Found, Incomplete, paths, refusal

# The fixed names of the Hugging Face tools' formats; only these have variants (``model.fp16.safetensors``).
_STEMS = "model|pytorch_model|diffusion_pytorch_model|adapter_model|tf_model|flax_model"
_NAME = re.compile(
    rf"(?P<stem>{_STEMS})(?:\.(?P<variant>[\w-]+?))?(?:-(?P<index>\d{{5,}})-of-(?P<count>\d{{5,}}))?"
    r"(?:\.(?P<late>[\w-]+))?\.(?P<suffix>safetensors|bin|pt|pth)"
)
_NUMBERED = re.compile(r"(?P<stem>.+)[-_.](?P<index>\d{2,})-of-(?P<count>\d{2,})\.(?P<suffix>\w+)")
# What trainers save beside the weights. Moving averages are not here: they are weights.
_COMPANION = re.compile(
    r"(?i)(?!model_optim_rng\.pt)(?:.*[._-])?(?:optimizers?|optim|lr_?schedulers?|schedulers?|scaler|rng_states?"
    r"|random_states|training_args|trainer_states?|train_state|dl_state_dict|recipe_state|custom_checkpoint)(?![a-z])"
    r"[\w.-]*\.\w+"
    r"|sampler(?:_\d+)?\.bin|(?:meta|common)\.pt"
)
_OPENED = ("safetensors", "a zip archive", "a torch legacy file")
_UNUSUAL = re.compile(
    r"(?i).*\.(?:json|ya?ml|toml|txt|md|py|ipynb|sh|cfg|ini|csv|tsv|html?|log|lock|png|jpe?g|gif|svg|pdf|docx|xlsx"
    r"|parquet|arrow|spm|vocab|tmp|distcp|h5|keras|msgpack|gguf|onnx|onnx_data|tflite|mlmodel|pb|ot|zip|xml|nemo)"
)
# torch's HuggingFaceStorageWriter: a file of slices for each rank.
_SLICES = re.compile(r"shard-(\d{5,})-.+\.safetensors")


@dataclass(frozen=True, slots=True)
class Weights:
    """Files that are one checkpoint.

    Args:
        kind: an index, shards without one, or a single file.
        stem: the name before the suffix, without shard numbers and variant.
        suffix: ``safetensors``, ``bin``, ...
        variant: ``fp16``, ...; None for the plain weights.
        names: the files; the index alone of an indexed checkpoint.
        missing: numbers of shards that are not there, of shards without an index.
    """

    kind: Literal["index", "shards", "file"]
    stem: str
    suffix: str
    variant: str | None
    names: tuple[str, ...]
    missing: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """One name for all."""
        return self.names[0]


def is_companion(name: str) -> bool:
    """Whether a file holds what a trainer saves beside the weights: optimizer, scheduler, random state, arguments."""
    return _COMPANION.fullmatch(name) is not None


def weight_names(folder: Folder) -> list[str]:
    """The files that are named like weights or an index, whichever checkpoint they belong to."""
    return [
        name
        for name in folder.files
        if INDEX.fullmatch(name) or (_is_weight_name(name) and not _is_openvino(folder, name))
    ]


def weights_in(folder: Folder) -> list[Weights]:
    """Every checkpoint among the files of a folder that are named like weights, by name."""
    shards: dict[tuple[str, str, str | None, int], dict[int, str]] = {}
    found: list[Weights] = []
    indexed: set[tuple[str, str, str | None]] = set()
    names = weight_names(folder)
    for name in names:
        index = INDEX.fullmatch(name)
        if index is not None:
            found.append(Weights("index", index["stem"], index["suffix"] or "", index["variant"], (name,)))
            indexed.add((index["stem"], index["suffix"] or "", index["variant"]))
    for name in names:
        if INDEX.fullmatch(name):
            continue
        known = _NAME.fullmatch(name)
        numbered = known if known is not None and known["index"] else _NUMBERED.fullmatch(name)
        variant = (known["variant"] or known["late"]) if known is not None else None
        if numbered is None:
            stem, _, suffix = name.rpartition(".")
            if known is not None:
                stem, suffix = known["stem"], known["suffix"]
            found.append(Weights("file", stem, suffix, variant, (name,)))
            continue
        set_of = (numbered["stem"], numbered["suffix"], variant)
        if set_of not in indexed:
            shards.setdefault((*set_of, int(numbered["count"])), {})[int(numbered["index"])] = name
    for (stem, suffix, variant, count), numbered_names in shards.items():
        # A count of billions is somebody's joke: as many numbers as there are names are looked for, and one more.
        missing = tuple(
            n for n in range(1, min(count, len(numbered_names) + 8) + 1) if n not in numbered_names
        )
        ordered = tuple(numbered_names[number] for number in sorted(numbered_names))
        found.append(Weights("shards", stem, suffix, variant, ordered, missing))
    return found


def choose(folder: Folder) -> Found | None:
    """The one checkpoint among the weight files of a folder; None when there are none.

    Raises:
        FormatError: several that are not one checkpoint, or not all of one.
    """
    every = weights_in(folder)
    note = None
    if not every:
        every = _by_content(folder)
    if not every:
        return None
    every, note = _of_variant(folder, every)
    every, stale = _without_stale(folder, every)
    picked = _by_rank(folder, _without_slices(folder, every))
    if picked.missing:
        raise refusal(
            folder,
            f"holds {len(picked.names)} shards of {picked.label!r} without those of the numbers "
            f"{', '.join(map(str, picked.missing[:8]))}, and no index",
            "fetch the missing files, or open one shard by itself with --part (part=True in Python)",
            Incomplete,
        )
    if picked.kind == "shards" and len(picked.names) > 1:
        note = f"{len(picked.names)} numbered shards without an index are taken as one checkpoint"
    return Found(picked.names, stale or note)


def _is_weight_name(name: str) -> bool:
    lowered = name.lower()
    return lowered.endswith((*WEIGHTS, ".pth.tar")) and not is_temporary(name) and not is_companion(name)


def _is_openvino(folder: Folder, name: str) -> bool:
    return name.lower().endswith(".bin") and f"{name[:-4]}.xml" in folder.names


def _by_content(folder: Folder) -> list[Weights]:
    """Files that are checkpoints by their first bytes, whatever their names; asked only when no name says it."""
    candidates = [
        name
        for name in folder.files
        if not _UNUSUAL.fullmatch(name)
        and not name.startswith(".")
        and not is_temporary(name)
        and not is_companion(name)
    ]
    if len(candidates) > 1000:
        return []
    return [Weights("file", name, "", None, (name,)) for name in candidates if folder.kind(name) in _OPENED]


def _of_variant(folder: Folder, every: list[Weights]) -> tuple[list[Weights], str | None]:
    variants = sorted({weights.variant for weights in every if weights.variant})
    if folder.variant is not None:
        chosen = [weights for weights in every if weights.variant == folder.variant]
        if not chosen:
            has = f"has the variants {quote_list(variants)}" if variants else "has no variants"
            raise refusal(folder, f"{has}, not {folder.variant!r}", "name one that is there")
        return chosen, None
    plain = [weights for weights in every if weights.variant is None]
    if plain or not variants:
        return plain or every, None
    if len(variants) > 1:
        raise refusal(
            folder, f"holds the variants {quote_list(variants)}", f"choose one, as in --variant {variants[0]}"
        )
    return every, f"the folder holds the variant {variants[0]!r} alone, which was taken"


def _without_stale(folder: Folder, every: list[Weights]) -> tuple[list[Weights], str | None]:
    """Leave out an index whose shards are gone where a complete file of its name took their place."""
    kept, note = [], None
    for weights in every:
        rivals = [
            w for w in every if w.kind == "file" and (w.stem, w.suffix) == (weights.stem, weights.suffix)
        ]
        if weights.kind == "index" and rivals:
            missing = _missing_shards(folder, weights.label)
            if missing:
                note = (
                    f"{weights.label} names {missing} files that are not there; {rivals[0].label}, which is complete, "
                    "was taken"
                )
                continue
        kept.append(weights)
    return kept, note


def _missing_shards(folder: Folder, index: str) -> int:
    try:
        weight_map, _ = read_index(folder.join(index))
    except FormatError:
        return 0  # it is damaged, which whoever opens it says
    return len(set(weight_map.values()).difference(folder.files))


def _without_slices(folder: Folder, every: list[Weights]) -> list[Weights]:
    """Leave out the slices of several ranks where the whole lies beside them.

    Raises:
        FormatError: there is nothing else.
    """
    sliced = [w for w in every if _SLICES.fullmatch(w.label)]
    ranks = {match[1] for w in sliced if (match := _SLICES.fullmatch(w.label))}
    if len(ranks) < 2:
        return every
    whole = [w for w in every if w not in sliced]
    if not whole:
        raise refusal(
            folder,
            f"holds the slices of one checkpoint that {len(ranks)} ranks wrote with torch's HuggingFaceStorageWriter",
            "consolidate them with torch, by consolidate_safetensors_files of "
            "torch.distributed.checkpoint._consolidate_hf_safetensors",
        )
    return whole


def _by_rank(folder: Folder, every: list[Weights]) -> Weights:
    tiers: Iterable[list[Weights]] = (
        [w for w in every if w.kind != "file" and w.suffix == "safetensors" and w.stem == "model"],
        [w for w in every if w.kind == "index" and w.suffix == "safetensors"],
        [w for w in every if w.kind == "file" and w.suffix == "safetensors" and w.stem == "model"],
        [w for w in every if w.kind == "index"],
        [w for w in every if w.kind == "file" and w.suffix == "bin" and w.stem == "pytorch_model"],
        [
            w
            for w in every
            if w.kind == "file" and w.stem == "diffusion_pytorch_model" and w.suffix == "safetensors"
        ],
        every,
    )
    picked = next(tier for tier in tiers if tier)
    picked = [w for w in picked if w.kind != "shards" or not w.missing] or picked
    if len(picked) > 1 and len({(w.stem.replace("pytorch_model", "model"), w.kind) for w in picked}) == 1:
        # The same weights in two formats, as tools write them for old readers.
        safe = [w for w in picked if w.suffix == "safetensors"]
        picked = safe if len(safe) == 1 else picked
    if len(picked) == 1:
        return _alone(folder, picked[0], every)
    files = [name for weights in picked for name in weights.names[:1]]
    ranks = _ranks(files)
    if ranks:
        raise refusal(
            folder,
            f"holds {len(files)} parts of one checkpoint, one for each rank ({quote_list(files)})"
            if "part" not in files[0]
            else f"holds {len(files)} parts of one checkpoint ({quote_list(files)})",
            "put them together with the tool that wrote them; inspect shows one part alone",
        )
    raise refusal(
        folder,
        f"holds {len(files)} checkpoints ({quote_list(files)}) and no index",
        f"name one of them, as in {paths(folder, files[-1:])}",
    )


def _alone(folder: Folder, picked: Weights, every: list[Weights]) -> Weights:
    """The pick, unless it is the first of several models that one run saved (``model``, ``model_1``)."""
    others = [
        w
        for w in every
        if re.fullmatch(re.escape(picked.stem) + r"_[1-9]\d*", w.stem) and w.suffix == picked.suffix
    ]
    if others and picked.stem in ("model", "pytorch_model"):
        names = [picked.label, *(w.label for w in others)]
        raise refusal(
            folder,
            f"holds {len(names)} models of one run ({quote_list(names)})",
            f"name one of them: {paths(folder, names)}",
        )
    return picked


def _ranks(names: list[str]) -> bool:
    """Whether the names are one frame with other numbers, and the frame says that the number is a rank."""
    frames = {re.sub(r"\d+", "#", name) for name in names}
    if len(frames) != 1:
        return False
    frame = frames.pop()
    if re.search(r"consolidated\.#|(?:hf|meta)_model_#_#|[-_.]part[-_]?#\.\w+$", frame):
        return True
    # Ranks are counted from 0; of an adapter, rank is a width.
    return any(re.search(r"(?i)(?:rank|-shard|model_part)[_-]?0+(?!\d)", name) for name in names) and (
        re.search(r"(?i)(?:rank|-shard|model_part)[_-]?#", frame) is not None
    )
