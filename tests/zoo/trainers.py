"""What trainers leave: real savers of transformers, peft, accelerate and timm where they can be imported, and layouts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from .making import OTHER, STATE, as_json, pt, sharded, shifted, st, text, trainer_files
from .truth import Opens, Refused, Truth, case
from real_models import import_timm, import_transformers


def _gpt2() -> Any:
    transformers = import_transformers()
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        bos_token_id=1, eos_token_id=2, n_layer=2, n_head=2, n_embd=8, vocab_size=20, n_positions=8
    )
    return transformers.GPT2LMHeadModel(config)


def _written(model: Any) -> dict[str, torch.Tensor]:
    """transformers leaves out, without a word in the file, what the model's code ties again."""
    return {key: value for key, value in model.state_dict().items() if key != "lm_head.weight"}


@case("transformers")
def _(f: Path) -> Truth:
    model = _gpt2()
    model.save_pretrained(f)
    return Opens(f, _written(model), ordered=False)


@case("transformers, sharded")
def _(f: Path) -> Truth:
    model = _gpt2()
    model.save_pretrained(f, max_shard_size="4KB")
    assert (f / "model.safetensors.index.json").exists()
    return Opens(f, _written(model), ordered=False)


@case("transformers, a variant alone")
def _(f: Path) -> Truth:
    model = _gpt2().half()
    model.save_pretrained(f, variant="fp16")
    return Opens(f, _written(model), ordered=False, says=("'fp16' alone",))


@case("transformers, a sharded variant by its name")
def _(f: Path) -> Truth:
    model = _gpt2().half()
    model.save_pretrained(f, variant="fp16", max_shard_size="2KB")
    assert (f / "model.safetensors.index.fp16.json").exists()
    return Opens(f, _written(model), flags=("--variant", "fp16"), ordered=False)


@case("transformers with TensorFlow's and Flax's weights beside")
def _(f: Path) -> Truth:
    text(f / "tf_model.h5", b"\x89HDF\r\n\x1a\n")
    text(f / "flax_model.msgpack", b"\x81\xa1a\xc0")
    text(f / "config.json", "{}")
    return Opens(st(f / "model.safetensors").parent, STATE)


@case("Trainer")
def _(f: Path) -> Truth:
    trainer_files(f)
    as_json(f / "config.json", {})
    return Opens(st(f / "model.safetensors").parent, STATE)


@case("Trainer, sharded")
def _(f: Path) -> Truth:
    trainer_files(f)
    sharded(f)
    return Opens(f, STATE)


@case("Trainer with an adapter")
def _(f: Path) -> Truth:
    trainer_files(f)
    as_json(f / "adapter_config.json", {"peft_type": "LORA"})
    return Opens(st(f / "adapter_model.safetensors").parent, STATE)


@case("Trainer, a run")
def _(f: Path) -> Truth:
    for step in (10, 9):
        st(f / f"checkpoint-{step}" / "model.safetensors")
        trainer_files(f / f"checkpoint-{step}")
    return Refused(f, ("'checkpoint-10', 'checkpoint-9' in it do; the last is 'checkpoint-10'",
                       f"open '{f / 'checkpoint-10'}'"))  # fmt: skip


@case("Trainer, a run with the final model")
def _(f: Path) -> Truth:
    st(f / "checkpoint-10" / "model.safetensors", shifted())
    return Opens(st(f / "model.safetensors").parent, STATE)


@case("Trainer, a checkpoint without its model")
def _(f: Path) -> Truth:
    trainer_files(f)
    return Refused(f, ("holds no weights, only what a trainer saves beside them", "optimizer.pt"))


@case("peft")
def _(f: Path) -> Truth:
    import_transformers()
    import peft

    model = peft.get_peft_model(_gpt2(), peft.LoraConfig(target_modules=["c_attn"], r=2, fan_in_fan_out=True))
    model.save_pretrained(str(f))
    return Opens(f, peft.get_peft_model_state_dict(model))


@case("peft, an adapter in torch's format")
def _(f: Path) -> Truth:
    as_json(f / "adapter_config.json", {"peft_type": "LORA"})
    return Opens(pt(f / "adapter_model.bin").parent, STATE)


@case("peft, an adapter of its own name")
def _(f: Path) -> Truth:
    as_json(f / "second" / "adapter_config.json", {"peft_type": "LORA"})
    st(f / "second" / "adapter_model.safetensors")
    return Refused(f, ("holds no checkpoint itself, but 'second' in it does", f"open '{f / 'second'}'"))


@case("peft, an adapter beside the whole model")
def _(f: Path) -> Truth:
    as_json(f / "adapter_config.json", {"peft_type": "LORA"})
    st(f / "adapter_model.safetensors", OTHER)
    st(f / "model.safetensors")
    return Refused(f, ("holds an adapter", "and a whole model", f"'{f / 'model.safetensors'}'"))


@case("peft, an adapter without its weights")
def _(f: Path) -> Truth:
    as_json(f / "adapter_config.json", {"peft_type": "LORA"})
    text(f / "README.md", "x")
    return Refused(
        f, ("an adapter (adapter_config.json) without its weights", "fetch adapter_model"), "damaged"
    )


@case("adapters of two ranks, which are widths")
def _(f: Path) -> Truth:
    st(f / "lora_rank4.safetensors", OTHER)
    return Opens(st(f / "lora_rank8.safetensors"), STATE)


@case("adapters of two ranks, which are widths, in one folder")
def _(f: Path) -> Truth:
    st(f / "lora_rank4.safetensors", OTHER)
    st(f / "lora_rank8.safetensors")
    return Refused(f, ("2 checkpoints", f"'{f / 'lora_rank8.safetensors'}'"))


@case("accelerate's save_state")
def _(f: Path) -> Truth:
    accelerate = __import__("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model, optimizer = accelerator.prepare(model, optimizer)
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    accelerator.save_state(str(f / "state"))
    state = {key: value.detach() for key, value in accelerator.unwrap_model(model).state_dict().items()}
    return Opens(f / "state", state, ordered=False)


@case("accelerate's save_model, sharded")
def _(f: Path) -> Truth:
    accelerate = __import__("accelerate")
    model = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.Linear(20, 30))
    accelerate.Accelerator(cpu=True).save_model(model, str(f), max_shard_size="3KB")
    assert (f / "model.safetensors.index.json").exists()
    return Opens(f, model.state_dict(), ordered=False)


@case("accelerate, several models of one run")
def _(f: Path) -> Truth:
    st(f / "model.safetensors")
    st(f / "model_1.safetensors", OTHER)
    pt(f / "optimizer.bin", {"state": {}})
    pt(f / "random_states_0.pkl", {"step": 1})
    return Refused(f, ("2 models of one run", f"'{f / 'model_1.safetensors'}'"))


@case("accelerate, several models of one run in torch's format")
def _(f: Path) -> Truth:
    pt(f / "pytorch_model.bin")
    pt(f / "pytorch_model_1.bin", OTHER)
    return Refused(f, ("2 models of one run",))


@case("accelerate with a registered object and data loaders")
def _(f: Path) -> Truth:
    for name in (
        "custom_checkpoint_0.pkl",
        "sampler.bin",
        "dl_state_dict.bin",
        "scaler.pt",
        "optimizer_1.bin",
    ):
        pt(f / name, {"x": torch.ones(2)})
    return Opens(st(f / "model.safetensors").parent, STATE)


def _timm_run(f: Path) -> dict[str, torch.Tensor]:
    import_timm()
    from timm.utils import CheckpointSaver

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    saver = CheckpointSaver(model, optimizer, args=argparse.Namespace(model="x"), checkpoint_dir=str(f),
                            recovery_dir=str(f), max_history=2)  # fmt: skip
    for epoch, metric in enumerate((0.5, 0.7, 0.6)):
        saver.save_checkpoint(epoch, metric)
    text(f / "summary.csv", "epoch")
    text(f / "args.yaml", "model: x")
    return model.state_dict()


@case("timm's trainer, a file of its run")
def _(f: Path) -> Truth:
    return Opens(f / "model_best.pth.tar", _timm_run(f))


@case("timm's trainer, a run")
def _(f: Path) -> Truth:
    _timm_run(f)
    return Refused(f, ("checkpoints ('checkpoint-", "'model_best.pth.tar'", "name one of them"))


@case("mmengine, a run")
def _(f: Path) -> Truth:
    pt(f / "epoch_1.pth", {"state_dict": OTHER})
    pt(f / "epoch_12.pth", {"state_dict": STATE, "meta": {"epoch": 12}})
    text(f / "last_checkpoint", "/data/work_dirs/x/epoch_12.pth")
    return Opens(f, STATE, says=("epoch_12.pth was taken, which last_checkpoint names",))


@case("detectron2, a run")
def _(f: Path) -> Truth:
    pt(f / "model_0004999.pth", {"model": OTHER})
    pt(f / "model_final.pth", {"model": STATE, "iteration": 9})
    text(f / "last_checkpoint", "model_final.pth")
    text(f / "metrics.json", "{}")
    return Opens(f, STATE)


@case("a pointer to a file that is not there")
def _(f: Path) -> Truth:
    pt(f / "epoch_1.pth")
    pt(f / "epoch_2.pth")
    text(f / "last_checkpoint", "epoch_3.pth")
    return Refused(f, ("last_checkpoint names 'epoch_3.pth', which is not there", f"'{f / 'epoch_2.pth'}'"))


@case("torchtune, an epoch")
def _(f: Path) -> Truth:
    epoch = f / "epoch_0"
    sharded(epoch, frame="ft-model-{n:05d}-of-{count:05d}.safetensors")
    pt(f / "recipe_state" / "recipe_state.pt", {"seed": 1})
    return Opens(epoch, STATE)


@case("torchtune, older files of one epoch")
def _(f: Path) -> Truth:
    for n, keys in enumerate((("embed.weight",), ("layers.0.weight", "layers.0.bias")), 1):
        pt(f / f"hf_model_{n:04d}_0.pt", {key: STATE[key] for key in keys})
    pt(f / "recipe_state.pt", {"seed": 1, "optimizer": {}})
    return Refused(f, ("2 parts of one checkpoint",))


@case("torchtune, a file in Meta's format")
def _(f: Path) -> Truth:
    pt(f / "recipe_state.pt", {"seed": 1})
    return Opens(pt(f / "meta_model_0.pt").parent, STATE)


@case("torchtune, an adapter and the merged model")
def _(f: Path) -> Truth:
    pt(f / "adapter_0.pt", OTHER)
    pt(f / "hf_model_0001_0.pt")
    return Refused(f, ("2 checkpoints ('adapter_0.pt', 'hf_model_0001_0.pt')", "name one of them"))


@case("diffusers' training, with a moving average")
def _(f: Path) -> Truth:
    run = f / "checkpoint-500"
    st(run / "unet" / "diffusion_pytorch_model.safetensors")
    st(run / "unet_ema" / "diffusion_pytorch_model.safetensors", shifted())
    pt(run / "optimizer.bin", {"state": {}})
    pt(run / "random_states_0.pkl", {"step": 1})
    return Refused(run, ("'unet', 'unet_ema' in it do", f"'{run / 'unet'}'"))


@case("Lightning, a folder with the best and the last")
def _(f: Path) -> Truth:
    pt(f / "epoch=3-step=40.ckpt", {"state_dict": STATE})
    pt(f / "last.ckpt", {"state_dict": OTHER})
    return Refused(f, ("2 checkpoints", "'last.ckpt'", "name one of them"))


@case("a folder with one checkpoint of any name")
def _(f: Path) -> Truth:
    text(f / "log.txt", "x")
    text(f / "events.out.tfevents.1.host", b"\x18\0\0\0\0\0\0\0")
    return Opens(pt(f / "weights.th").parent, STATE)
