"""torch.distributed.checkpoint, and the folders that its users lay around it."""

from __future__ import annotations

from pathlib import Path

import torch

from .making import OTHER, STATE, as_json, pt, saved_dcp, text, trainer_files, tree
from .truth import IsPart, Opens, Refused, Truth, case

OPTIMIZER = {"state": {"exp_avg": torch.ones(2)}, "param_groups": [{"lr": 0.1}]}


@case("DCP")
def _(f: Path) -> Truth:
    return Opens(saved_dcp(f), STATE)


@case("DCP by its .metadata")
def _(f: Path) -> Truth:
    return Opens(saved_dcp(f) / ".metadata", STATE)


@case("DCP with a model and an optimizer")
def _(f: Path) -> Truth:
    return Opens(saved_dcp(f, {"model": STATE, "optim": OPTIMIZER, "step": 4}), STATE)


@case("DCP beside a torch file")
def _(f: Path) -> Truth:
    pt(f / "rng.pt", OTHER)
    return Opens(saved_dcp(f), STATE)


@case("DCP, one of its parts")
def _(f: Path) -> Truth:
    saved_dcp(f)
    return Refused(f / "__0_0.distcp", ("one part of a distributed checkpoint", "open its folder"), "damaged")


@case("DCP, interrupted")
def _(f: Path) -> Truth:
    saved_dcp(f)
    (f / ".metadata").rename(f / ".metadata.tmp")
    return Refused(f, ("the save was interrupted", "take an earlier one"), "damaged")


@case("DCP, a part gone")
def _(f: Path) -> Truth:
    saved_dcp(f)
    (f / "__0_0.distcp").unlink()
    return Refused(f, ("__0_0.distcp",), "damaged")


@case("Lightning with FSDP")
def _(f: Path) -> Truth:
    saved_dcp(f / "epoch=1.ckpt", {"state_dict": STATE, "optimizer_0": OPTIMIZER})
    pt(f / "epoch=1.ckpt" / "meta.pt", {"epoch": 1, "rng": torch.zeros(3), "loops": {}})
    return Opens(f / "epoch=1.ckpt", STATE)


@case("accelerate with FSDP, sharded")
def _(f: Path) -> Truth:
    saved_dcp(f / "pytorch_model_fsdp_0", {"model": STATE})
    saved_dcp(f / "optimizer_0", {"optimizer": OPTIMIZER})
    pt(f / "scheduler.bin", {"last_epoch": 1})
    pt(f / "random_states_0.pkl", {"torch_manual_seed": torch.get_rng_state()})
    return Opens(f, STATE)


@case("accelerate with FSDP, two models")
def _(f: Path) -> Truth:
    for number in (0, 1):
        saved_dcp(f / f"pytorch_model_fsdp_{number}", {"model": STATE})
    return Refused(f, ("2 models", "pytorch_model_fsdp_0'", "pytorch_model_fsdp_1'"))


@case("accelerate with FSDP, the whole in one file")
def _(f: Path) -> Truth:
    pt(f / "pytorch_model_fsdp.bin")
    pt(f / "optimizer.bin", OPTIMIZER)
    return Opens(f, STATE)


@case("accelerate with FSDP, a file for each rank")
def _(f: Path) -> Truth:
    for rank in (0, 1):
        pt(f / f"pytorch_model_fsdp_rank{rank}.bin", {"flat": torch.ones(3)})
        pt(f / f"optimizer_rank{rank}.bin", OPTIMIZER)
    return Refused(f, ("2 parts of one checkpoint, one for each rank", "put them together"))


@case("FSDP, flat parameters")
def _(f: Path) -> Truth:
    path = pt(f / "model.pt", {"_fsdp_wrapped_module._flat_param": torch.ones(3)})
    return IsPart(path, "FSDP checkpoint with flat parameters", None, None)


@case("Trainer with FSDP")
def _(f: Path) -> Truth:
    run = f / "checkpoint-10"
    saved_dcp(run / "pytorch_model_fsdp_0", {"model": STATE})
    saved_dcp(run / "optimizer_0", {"optimizer": OPTIMIZER})
    trainer_files(run)
    (run / "optimizer.pt").unlink()
    return Opens(run, STATE)


@case("torchtitan, one step")
def _(f: Path) -> Truth:
    saved_dcp(f / "step-500", STATE)
    return Opens(f / "step-500", STATE)


@case("torchtitan, a run")
def _(f: Path) -> Truth:
    for step in (900, 1000):
        saved_dcp(f / f"step-{step}", STATE)
    return Refused(
        f, ("'step-1000', 'step-900' in it do; the last is 'step-1000'", f"open '{f / 'step-1000'}'")
    )


@case("torchtitan, a run with one step that was interrupted")
def _(f: Path) -> Truth:
    saved_dcp(f / "step-500", STATE)
    saved_dcp(f / "step-1000", STATE)
    (f / "step-1000" / ".metadata").unlink()
    return Refused(f, ("but 'step-500' in it does",))


@case("Megatron-Core torch_dist, one iteration")
def _(f: Path) -> Truth:
    saved_dcp(f / "iter_0000010")
    pt(f / "iter_0000010" / "common.pt", {"iteration": 10, "rng": torch.zeros(3)})
    as_json(
        f / "iter_0000010" / "metadata.json", {"sharded_backend": "torch_dist", "sharded_backend_version": 1}
    )
    return Opens(f / "iter_0000010", STATE)


@case("Megatron-Core torch_dist, a run")
def _(f: Path) -> Truth:
    for number in (10, 20):
        saved_dcp(f / f"iter_{number:07d}", STATE if number == 20 else OTHER)
        pt(f / f"iter_{number:07d}" / "common.pt", {"rng": torch.zeros(3)})
    text(f / "latest_checkpointed_iteration.txt", "20")
    return Opens(f, STATE, says=("iter_0000020 was taken",))


@case("Megatron-Core zarr")
def _(f: Path) -> Truth:
    as_json(f / "metadata.json", {"sharded_backend": "zarr", "sharded_backend_version": 1})
    tree(f, {"model.weight/.zarray": "{}", "common.pt": ""})
    return Refused(f, ("zarr", "convert it to torch_dist"))


@case("NeMo 2")
def _(f: Path) -> Truth:
    saved_dcp(f / "weights")
    pt(f / "weights" / "common.pt", {"rng": torch.zeros(2)})
    tree(f, {"context/model.yaml": "{}", "context/io.json": "{}"})
    return Opens(f, STATE)


@case("NeMo 1, unpacked")
def _(f: Path) -> Truth:
    pt(f / "model_weights.ckpt")
    text(f / "model_config.yaml", "a: 1")
    return Opens(f, STATE)


@case("NeMo 1, unpacked, with distributed weights")
def _(f: Path) -> Truth:
    saved_dcp(f / "model_weights")
    text(f / "model_config.yaml", "a: 1")
    return Opens(f, STATE)


@case("NeMo 1, a folder with the archive alone")
def _(f: Path) -> Truth:
    text(f / "model.nemo", b"\0" * 2000)
    return Refused(f, ("NeMo archive", "tar -xf"))
