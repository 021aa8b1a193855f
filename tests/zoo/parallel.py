"""DeepSpeed and Megatron: whole checkpoints of one rank, and parts of more."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch

from .making import OTHER, STATE, as_json, pt, st, text, trainer_files
from .truth import IsPart, Opens, Refused, Truth, case

TRAINED = {key: value for key, value in STATE.items() if value.dim()}


def zero(step: Path, stage: int, ranks: int = 2, parallel: int = 1) -> None:
    """One step as DeepSpeed writes it: its third stage leaves placeholders and shapes in the model files."""
    shapes = [{key: value.shape for key, value in TRAINED.items()}]
    for rank in range(ranks):
        pt(step / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
           {"optimizer_state_dict": {"zero_stage": stage, "partition_count": ranks,
                                     "fp32_flat_groups": [torch.ones(9)]}})  # fmt: skip
    for number in range(ranks if stage == 3 else parallel):
        told: dict[str, Any] = {
            "module": {key: torch.zeros(0) for key in TRAINED} if stage == 3 else dict(STATE),
            "buffer_names": [], "param_shapes": shapes, "ds_version": "0.15.1", "ds_config": {},
            "dp_world_size": ranks, "mp_world_size": parallel, "global_steps": 5, "optimizer": None,
        }  # fmt: skip
        name = f"zero_pp_rank_{number}_mp_rank_00" if stage == 3 else f"mp_rank_{number:02d}"
        pt(step / f"{name}_model_states.pt", told)


def run(f: Path, tag: str = "global_step5", **how: Any) -> Path:
    zero(f / tag, **how)
    text(f / "latest", tag)
    text(f / "zero_to_fp32.py", "#!/usr/bin/env python\n")
    return f


@case("DeepSpeed ZeRO 1, a run")
def _(f: Path) -> Truth:
    return Opens(run(f, stage=1), STATE, says=("global_step5 was taken",))


@case("DeepSpeed ZeRO 2, one step")
def _(f: Path) -> Truth:
    return Opens(run(f, stage=2) / "global_step5", STATE)


@case("DeepSpeed ZeRO 2, the file of the model")
def _(f: Path) -> Truth:
    return Opens(run(f, stage=2) / "global_step5" / "mp_rank_00_model_states.pt", STATE)


@case("DeepSpeed ZeRO 3, a run")
def _(f: Path) -> Truth:
    return Refused(run(f, stage=3), ("ZeRO-3", "2 ranks hold a part each", "zero_to_fp32.py"))


@case("DeepSpeed ZeRO 3, one file")
def _(f: Path) -> Truth:
    path = run(f, stage=3) / "global_step5" / "zero_pp_rank_1_mp_rank_00_model_states.pt"
    return IsPart(path, "DeepSpeed ZeRO-3 checkpoint", 1, 2)


@case("DeepSpeed ZeRO 3, one rank that is alone")
def _(f: Path) -> Truth:
    return Refused(run(f, stage=3, ranks=1), ("ZeRO-3", "zero_to_fp32.py"))


@case("DeepSpeed, tensor parallel")
def _(f: Path) -> Truth:
    return Refused(run(f, stage=1, parallel=2), ("2 tensor-parallel ranks", "put them together"))


@case("DeepSpeed, tensor parallel, one file")
def _(f: Path) -> Truth:
    path = run(f, stage=1, parallel=2) / "global_step5" / "mp_rank_01_model_states.pt"
    return IsPart(path, "DeepSpeed tensor-parallel checkpoint", 1, 2)


@case("DeepSpeed, optimizer states of one rank")
def _(f: Path) -> Truth:
    path = run(f, stage=2) / "global_step5" / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    return Refused(path, ("no dictionary of tensors",), "not understood")


def _pipeline(f: Path) -> Path:
    step = f / "global_step5"
    for number in range(3):
        pt(step / f"layer_{number:02d}-model_00-model_states.pt", {"weight": torch.ones(2, 2)})
    pt(step / "mp_rank_00_model_states.pt", {"module": None, "ds_version": "0.15", "mp_world_size": 1})
    text(f / "latest", "global_step5")
    return f


@case("DeepSpeed, a pipeline")
def _(f: Path) -> Truth:
    return Refused(_pipeline(f), ("pipeline", "3 layer files"))


@case("DeepSpeed, a pipeline's layer")
def _(f: Path) -> Truth:
    path = _pipeline(f) / "global_step5" / "layer_01-model_00-model_states.pt"
    return IsPart(path, "DeepSpeed pipeline checkpoint", 1, 3)


@case("DeepSpeed, universal")
def _(f: Path) -> Truth:
    step = f / "global_step5_universal"
    for key in TRAINED:
        for name in ("fp32", "exp_avg", "exp_avg_sq"):
            pt(step / "zero" / key / f"{name}.pt", {"param": torch.ones(2)})
    pt(step / "mp_rank_00_model_states.pt", {"module": dict(STATE), "ds_version": "0.15"})
    return Refused(
        step, ("universal", "a folder for each parameter", "take the checkpoint that it was made from")
    )


@case("Lightning with DeepSpeed, stage 2")
def _(f: Path) -> Truth:
    return Opens(run(f / "epoch=0-step=5.ckpt", "checkpoint", stage=2), STATE)


@case("Lightning with DeepSpeed, stage 3")
def _(f: Path) -> Truth:
    path = run(f / "epoch=0-step=5.ckpt", "checkpoint", stage=3)
    return Refused(path, ("ZeRO-3", "zero_to_fp32.py"))


@case("accelerate with DeepSpeed")
def _(f: Path) -> Truth:
    pt(f / "random_states_0.pkl", OTHER)
    return Opens(run(f, "pytorch_model", stage=2), STATE)


@case("Trainer with DeepSpeed, the whole model beside the step")
def _(f: Path) -> Truth:
    folder = run(f / "checkpoint-5", stage=3)
    trainer_files(folder)
    return Opens(st(folder / "model.safetensors").parent, STATE)


@case("Trainer with DeepSpeed, ZeRO 3 without the whole model")
def _(f: Path) -> Truth:
    folder = run(f / "checkpoint-5", stage=3)
    trainer_files(folder)
    as_json(folder / "config.json", {})
    return Refused(folder, ("ZeRO-3", "zero_to_fp32.py"))


@case("Trainer with DeepSpeed, an adapter")
def _(f: Path) -> Truth:
    folder = run(f / "checkpoint-5", stage=2)
    as_json(folder / "adapter_config.json", {"peft_type": "LORA"})
    return Opens(st(folder / "adapter_model.safetensors", OTHER).parent, OTHER)


@case("Trainer with DeepSpeed, placeholders where the model should be")
def _(f: Path) -> Truth:
    folder = run(f / "checkpoint-5", stage=3)
    path = pt(folder / "pytorch_model.bin", {key: torch.zeros(0) for key in TRAINED})
    return IsPart(path, "DeepSpeed ZeRO-3 checkpoint", None, 2)


def megatron(f: Path, tensor: int = 1, pipeline: int = 1) -> Path:
    """A run of Megatron, before torch_dist."""
    args = argparse.Namespace(tensor_model_parallel_size=tensor, pipeline_model_parallel_size=pipeline)
    for t in range(tensor):
        for p in range(pipeline):
            name = f"mp_rank_{t:02d}" if pipeline == 1 else f"mp_rank_{t:02d}_{p:03d}"
            saved = {"args": args, "checkpoint_version": 3.0, "iteration": 10, "model": STATE,
                     "rng_state": [{"cuda": torch.zeros(2)}]}  # fmt: skip
            pt(f / "iter_0000010" / name / "model_optim_rng.pt", saved)
            pt(f / "iter_0000010" / name / "distrib_optim.pt", OTHER)
    text(f / "latest_checkpointed_iteration.txt", "10")
    return f


@case("Megatron, one rank")
def _(f: Path) -> Truth:
    return Opens(megatron(f), STATE, says=("iter_0000010 was taken",))


@case("Megatron, an iteration")
def _(f: Path) -> Truth:
    return Opens(megatron(f) / "iter_0000010", STATE)


@case("Megatron, tensor parallel")
def _(f: Path) -> Truth:
    return Refused(megatron(f, 2), ("Megatron", "2 ranks", "tools/checkpoint/convert.py"))


@case("Megatron, tensor and pipeline parallel")
def _(f: Path) -> Truth:
    return Refused(megatron(f, 2, 2), ("Megatron", "4 ranks"))


@case("Megatron, one of several ranks")
def _(f: Path) -> Truth:
    path = megatron(f, 2, 2) / "iter_0000010" / "mp_rank_01_000" / "model_optim_rng.pt"
    return IsPart(path, "Megatron checkpoint", 2, 4)


@case("Megatron, the folder of one of several ranks")
def _(f: Path) -> Truth:
    return IsPart(megatron(f, 2) / "iter_0000010" / "mp_rank_01", "Megatron checkpoint", 1, 2)


@case("Megatron, one rank whose others were not fetched")
def _(f: Path) -> Truth:
    shutil.rmtree(megatron(f, 2) / "iter_0000010" / "mp_rank_01")
    return IsPart(f, "Megatron checkpoint", 0, 2)


@case("Megatron, a release")
def _(f: Path) -> Truth:
    (megatron(f) / "iter_0000010").rename(f / "release")
    text(f / "latest_checkpointed_iteration.txt", "release")
    return Opens(f, STATE)


@case("Megatron, the newest iteration not there")
def _(f: Path) -> Truth:
    text(megatron(f) / "latest_checkpointed_iteration.txt", "20")
    return Refused(f, ("whose newest iteration, '20', is not there", "iter_0000010"))


@case("Llama of Meta, one rank")
def _(f: Path) -> Truth:
    state = {"norm.weight": torch.ones(8), "layers.0.attention.wo.weight": torch.ones(8, 8)}
    as_json(f / "params.json", {"dim": 8, "n_layers": 1})
    text(f / "tokenizer.model", b"\x0a\x0e")
    return Opens(pt(f / "consolidated.00.pth", state).parent, state)


@case("Llama of Meta, two ranks")
def _(f: Path) -> Truth:
    for rank in (0, 1):
        pt(f / f"consolidated.{rank:02d}.pth", {"norm.weight": torch.ones(8)})
    return Refused(f, ("2 parts of one checkpoint, one for each rank",))


@case("Llama of Meta, one of two ranks, by the width of its model")
def _(f: Path) -> Truth:
    state = {"norm.weight": torch.ones(8), "layers.0.attention.wo.weight": torch.ones(8, 4)}
    as_json(f / "params.json", {"dim": 8})
    return IsPart(pt(f / "consolidated.00.pth", state).parent, "tensor-parallel checkpoint", 0, 2)


@case("Mistral, consolidated beside shards")
def _(f: Path) -> Truth:
    state = {"norm.weight": torch.ones(8)}
    as_json(f / "params.json", {"dim": 8})
    return Opens(st(f / "consolidated.safetensors", state).parent, state)


@case("fairseq, shards of FSDP")
def _(f: Path) -> Truth:
    for rank in (0, 1):
        pt(f / f"checkpoint_last-shard{rank}.pt", {"model": {"flat_param_0": torch.ones(4)}})
    return Refused(f, ("2 parts of one checkpoint, one for each rank",))


@case("fairseq, one model-parallel part that is alone")
def _(f: Path) -> Truth:
    path = pt(f / "reshard-model_part-1.pt", {"model": STATE})
    return IsPart(path, "checkpoint with a file for each rank", 1, None)


@case("accelerate with FSDP, the second rank's file alone")
def _(f: Path) -> Truth:
    return IsPart(
        pt(f / "pytorch_model_fsdp_rank1.bin").parent, "checkpoint with a file for each rank", 1, None
    )


@case("fairseq, one model-parallel part")
def _(f: Path) -> Truth:
    for rank in (0, 1):
        pt(f / f"reshard-model_part-{rank}.pt", {"model": STATE})
    return IsPart(f / "reshard-model_part-1.pt", "checkpoint with a file for each rank", 1, 2)
