"""Layouts of distributed training: torch.distributed.checkpoint and its users, DeepSpeed, Megatron, NeMo."""

from __future__ import annotations

import re

from .folder import Folder
from .layout import Found, Incomplete, Layout, paths, refusal
from .weights import weights_in

_MODEL_STATES = r"(?:(?P<zero>zero_pp_rank_\d+)_)?mp_rank_(?P<rank>\d+)_model_states\.pt"


def distributed(folder: Folder) -> Found | None:
    """torch.distributed.checkpoint: ``.metadata`` is written last and describes all files."""
    if ".metadata" in folder.files:
        return Found((".metadata",))
    if folder.matching(r".+\.distcp"):
        raise refusal(
            folder,
            "holds parts of a distributed checkpoint and no .metadata, which is written last: the save was interrupted",
            "take an earlier one",
            Incomplete,
        )
    if folder.json("metadata.json").get("sharded_backend") == "zarr":
        raise refusal(
            folder,
            "is a Megatron-Core checkpoint in the zarr format, which ckptkit does not read",
            "convert it to torch_dist where Megatron-Core is installed",
        )
    return None


def accelerate_fsdp(folder: Folder) -> Found | None:
    """accelerate with FSDP's sharded state_dict: a DCP folder for the model, another for the optimizer."""
    models = [m[0] for m in folder.folders_matching(r"pytorch_model_fsdp_\d+")]
    if not models:
        return None
    if len(models) > 1:
        raise refusal(
            folder, f"holds {len(models)} models of one run", f"name one of them: {paths(folder, models)}"
        )
    return Found((models[0],))


def tagged(folder: Folder) -> Found | None:
    """DeepSpeed: ``latest`` names the folder of the newest step."""
    tag = folder.text("latest")
    if tag is None or tag not in folder.folders or not _is_deepspeed(folder.enter(tag)):
        return None
    if weights_in(folder) or "adapter_config.json" in folder.files:
        return None  # a trainer put the weights together and saved them beside the step
    return Found((tag,), f"{tag} was taken, which the file 'latest' names")


def deepspeed(folder: Folder) -> Found | None:
    """One step of DeepSpeed: whole weights (ZeRO 1 and 2), or a part for each rank."""
    models = folder.matching(_MODEL_STATES)
    layers = folder.matching(r"layer_\d+-model_\d+-model_states\.pt")
    if layers:
        raise refusal(
            folder,
            f"is a DeepSpeed pipeline checkpoint of {len(layers)} layer files, each a part of the model",
            "save it whole where DeepSpeed is installed; inspect shows one file alone",
        )
    if "zero" in folder.folders and folder.matching(r"mp_rank_\d+_model_states\.pt|zero_.*"):
        raise refusal(
            folder,
            "is a DeepSpeed universal checkpoint, with a folder for each parameter",
            "take the checkpoint that it was made from, or write a whole one where DeepSpeed is installed",
        )
    if not models:
        return None
    if any(match["zero"] for match in models):
        raise refusal(
            folder,
            f"is a DeepSpeed ZeRO-3 checkpoint, in which {len(models)} ranks hold a part each",
            "put them together first: python zero_to_fp32.py . OUTPUT (the script lies in the folder above)",
        )
    if len(models) > 1:
        raise refusal(
            folder,
            f"is a DeepSpeed checkpoint of {len(models)} tensor-parallel ranks, each with a part of the model",
            "put them together where it was trained; inspect shows one file alone",
        )
    return Found((models[0][0],))


def _is_deepspeed(folder: Folder) -> bool:
    return bool(folder.matching(_MODEL_STATES) or folder.matching(r"layer_\d+-model_\d+-model_states\.pt"))


def megatron_run(folder: Folder) -> Found | None:
    """Megatron: the newest iteration is named by a file."""
    newest = folder.text("latest_checkpointed_iteration.txt")
    if newest is None:
        return None
    name = (
        "release"
        if newest == "release"
        else f"iter_{int(newest):07d}"
        if re.fullmatch(r"\d{1,9}", newest)
        else ""
    )
    if name not in folder.folders:
        others = [match[0] for match in folder.folders_matching(r"iter_\d{7}|release")]
        raise refusal(
            folder,
            f"is a Megatron run whose newest iteration, {newest[:40]!r}, is not there",
            f"fetch it, or name another: {paths(folder, others)}" if others else "fetch it",
        )
    return Found((name,), f"{name} was taken, which latest_checkpointed_iteration.txt names")


def megatron(folder: Folder) -> Found | None:
    """One iteration of Megatron: a folder for each tensor- and pipeline-parallel rank."""
    ranks = [m[0] for m in folder.folders_matching(r"mp_rank_\d\d+(?:_\d+)*")]
    if not ranks:
        return None
    if len(ranks) > 1:
        raise refusal(
            folder,
            f"is a Megatron checkpoint of {len(ranks)} ranks, each with a part of the model",
            "put them together with Megatron's tools/checkpoint/convert.py; inspect shows one rank alone",
        )
    names = [n for n in folder.enter(ranks[0]).files if n in ("model_optim_rng.pt", "model_rng.pt")]
    return Found((f"{ranks[0]}/{names[0]}",)) if names else Found((ranks[0],))


def nemo(folder: Folder) -> Found | None:
    """NeMo 2 keeps the weights apart from the configuration; NeMo 1 is an archive, unpacked."""
    if {"context", "weights"} <= set(folder.folders):
        return Found(("weights",))
    if "model_config.yaml" in folder.files and "model_weights" in folder.folders:
        return Found(("model_weights",))
    archives = [match[0] for match in folder.matching(r".+\.nemo")]
    if len(archives) == 1 and len(folder.files) == 1:
        raise refusal(
            folder, f"holds a NeMo archive, {archives[0]!r}", f"unpack it: tar -xf {paths(folder, archives)}"
        )
    return None


LAYOUTS = (
    Layout(
        "a distributed checkpoint (DCP; Lightning FSDP, torchtitan, Megatron-Core torch_dist, NeMo 2)",
        "`.metadata`",
        "what `.metadata` describes, whatever else has a usual suffix",
        "`meta.pt`, `common.pt`, `metadata.json`",
        "`*.distcp` without `.metadata`: the save was interrupted; Megatron-Core's zarr: convert it there",
        distributed,
    ),
    Layout(
        "a run of accelerate with FSDP",
        "a folder `pytorch_model_fsdp_0`",
        "that folder, a distributed checkpoint",
        "`optimizer_0/`, random states, schedulers",
        "several models: name one",
        accelerate_fsdp,
    ),
    Layout(
        "a run of DeepSpeed",
        "`latest` beside the folder that it names, and no weights beside it",
        "that folder",
        "",
        "",
        tagged,
    ),
    Layout(
        "a step of DeepSpeed",
        "`*mp_rank_*_model_states.pt`",
        "ZeRO 1 and 2 on one tensor-parallel rank: `mp_rank_00_model_states.pt`, which is whole",
        "`*_optim_states.pt`",
        "ZeRO 3, several tensor-parallel ranks, pipelines: each file is a part; put them together with DeepSpeed's "
        "`zero_to_fp32.py`",
        deepspeed,
    ),
    Layout(
        "a run of Megatron",
        "`latest_checkpointed_iteration.txt`",
        "the iteration that it names",
        "",
        "an iteration that is not there",
        megatron_run,
    ),
    Layout(
        "an iteration of Megatron",
        "folders `mp_rank_00`, `mp_rank_00_000`, ...",
        "the only rank's `model_optim_rng.pt`",
        "`distrib_optim.pt`",
        "several ranks: each is a part; put them together with Megatron's own tool",
        megatron,
    ),
    Layout(
        "a NeMo folder",
        "`context/` and `weights/`, or `model_config.yaml` and `model_weights/`",
        "the folder of the weights",
        "the rest",
        "a `.nemo` archive: unpack it with tar",
        nemo,
    ),
)
