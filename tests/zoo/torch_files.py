"""Single files of torch.save: what people put around and instead of a plain state_dict."""

from __future__ import annotations

import argparse
import io
import pathlib
import pickle
import tarfile
from collections import OrderedDict
from pathlib import Path

import torch

from .making import OTHER, STATE, pt, shifted, text
from .truth import Opens, Refused, Truth, case


def _loaded(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]


@case("torch zip")
def _(f: Path) -> Truth:
    return Opens(pt(f / "a.pt"), _loaded(f / "a.pt"))


@case("torch legacy")
def _(f: Path) -> Truth:
    path = pt(f / "a.pt", OrderedDict(STATE), _use_new_zipfile_serialization=False)
    return Opens(path, _loaded(path))


@case("a module's state_dict with ties")
def _(f: Path) -> Truth:
    model = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    model[1].weight = model[0].weight
    path = pt(f / "a.pth", model.state_dict())
    return Opens(path, _loaded(path), ties=(("0.weight", "1.weight"),))


@case("views into one storage")
def _(f: Path) -> Truth:
    base = torch.arange(20.0)
    path = pt(f / "a.pt", {"a": base[:6].view(2, 3), "b": base[3:9], "c": base.view(4, 5).t()})
    return Opens(path, _loaded(path))


@case("every dtype in one file")
def _(f: Path) -> Truth:
    kinds = (torch.float64, torch.float16, torch.int8, torch.uint8, torch.bool, torch.complex64,
             torch.float8_e4m3fn)  # fmt: skip
    path = pt(f / "a.pt", {str(kind)[6:]: torch.ones(3).to(kind) for kind in kinds})
    return Opens(path, _loaded(path))


@case("an empty tensor and a scalar")
def _(f: Path) -> Truth:
    path = pt(f / "a.pt", {"empty.weight": torch.zeros(0, 3), "scalar.weight": torch.tensor(2.0)})
    return Opens(path, _loaded(path))


@case("Lightning")
def _(f: Path) -> Truth:
    saved = {
        "epoch": 3, "global_step": 40, "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{key}": value for key, value in STATE.items()},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"params": [0]}]}],
        "lr_schedulers": [], "hyper_parameters": {"lr": 0.1},
    }  # fmt: skip
    return Opens(pt(f / "epoch=3-step=40.ckpt", saved), saved["state_dict"], says=("state_dict",))  # type: ignore[arg-type]


@case("Lightning with hyperparameters of a foreign class")
def _(f: Path) -> Truth:
    saved = {
        "state_dict": STATE,
        "hyper_parameters": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("x")),
    }
    return Opens(pt(f / "last.ckpt", saved), STATE)


@case("timm's trainer, with a moving average")
def _(f: Path) -> Truth:
    saved = {"epoch": 9, "arch": "resnet", "state_dict": STATE, "state_dict_ema": shifted(), "version": 2,
             "optimizer": {"state": {}, "param_groups": [{"params": [0]}]},
             "args": argparse.Namespace(model="resnet"), "metric": 77.0}  # fmt: skip
    return Opens(pt(f / "model_best.pth.tar", saved), STATE, says=("state_dict_ema",))


@case("timm's trainer, the moving average by its root")
def _(f: Path) -> Truth:
    path = pt(f / "last.pth.tar", {"state_dict": STATE, "state_dict_ema": shifted()})
    return Opens(path, shifted(), flags=("--root", "state_dict_ema"))


@case("Lightning with a callback's moving average")
def _(f: Path) -> Truth:
    saved = {"state_dict": STATE, "callbacks": {"EMA": {"ema_state_dict": shifted()}}}
    return Opens(pt(f / "a.ckpt", saved), STATE, says=("ema_state_dict",))


@case("only a moving average")
def _(f: Path) -> Truth:
    return Opens(pt(f / "ema.pt", {"ema": STATE, "step": 4}), STATE, says=("moving average",))


@case("ESRGAN, params beside params_ema")
def _(f: Path) -> Truth:
    path = pt(f / "net_g.pth", {"params": STATE, "params_ema": shifted()})
    return Opens(path, STATE, says=("params_ema",))


@case("a GAN, two models")
def _(f: Path) -> Truth:
    path = pt(f / "gan.pt", {"generator": STATE, "discriminator": OTHER, "iteration": 5})
    return Refused(path, ("could be in 'generator', 'discriminator'", "--root PATH"), "whole")


@case("a GAN, its generator by its root")
def _(f: Path) -> Truth:
    path = pt(f / "gan.pt", {"generator": STATE, "discriminator": OTHER})
    return Opens(path, STATE, flags=("--root", "generator"))


@case("StyleGAN with a moving average and optimizers")
def _(f: Path) -> Truth:
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"params": [0]}]}
    path = pt(
        f / "a.pt", {"g": STATE, "d": OTHER, "g_ema": shifted(), "g_optim": optimizer, "d_optim": optimizer}
    )
    return Refused(path, ("could be in 'g', 'd'", "--root PATH"), "whole")


@case("fairseq")
def _(f: Path) -> Truth:
    saved = {"args": None, "cfg": {"model": argparse.Namespace(arch="x")}, "model": STATE, "criterion": None,
             "optimizer_history": [{"num_updates": 3}], "task_state": {}, "extra_state": {"train_iterator": {}},
             "last_optimizer_state": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{}]}}  # fmt: skip
    return Opens(pt(f / "checkpoint_best.pt", saved), STATE)


@case("mmengine")
def _(f: Path) -> Truth:
    saved = {"meta": {"epoch": 1, "mmengine_version": "0.10", "dataset_meta": {"classes": ("a",)}},
             "state_dict": STATE, "message_hub": {"log_scalars": {}, "runtime_info": {"iter": 4}},
             "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"params": [0]}]},
             "param_schedulers": [{"last_step": 1}]}  # fmt: skip
    return Opens(pt(f / "epoch_1.pth", saved), STATE)


@case("detectron2")
def _(f: Path) -> Truth:
    saved = {"model": STATE, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{}]},
             "scheduler": {"last_epoch": 4}, "iteration": 89999}  # fmt: skip
    return Opens(pt(f / "model_final.pth", saved), STATE)


@case("whisper")
def _(f: Path) -> Truth:
    return Opens(pt(f / "base.pt", {"dims": {"n_mels": 80}, "model_state_dict": STATE}), STATE)


@case("DataParallel")
def _(f: Path) -> Truth:
    state = {f"module.{key}": value for key, value in STATE.items()}
    return Opens(pt(f / "a.pth", {"epoch": 1, "state_dict": state}), state)


@case("statistics beside the weights")
def _(f: Path) -> Truth:
    saved = {"model": STATE, "normalizer": {"mean": torch.zeros(2), "std": torch.ones(2)}}
    return Opens(pt(f / "policy.pt", saved), STATE, says=("normalizer",))


@case("an optimizer by itself")
def _(f: Path) -> Truth:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], momentum=0.9)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
    optimizer.step()
    path = pt(f / "optimizer.pt", optimizer.state_dict())
    return Refused(path, ("optimizer's state", "the file that holds the model"), "not understood")


@case("a single tensor")
def _(f: Path) -> Truth:
    return Refused(pt(f / "latent.pt", torch.ones(3)), ("a single tensor",), "not understood")


@case("no tensors at all")
def _(f: Path) -> Truth:
    return Refused(
        pt(f / "a.pt", {"lr": 0.1, "steps": [1, 2]}), ("no dictionary of tensors", "lr"), "not understood"
    )


@case("random states")
def _(f: Path) -> Truth:
    path = pt(
        f / "rng.pth", {"python": (3, (1, 2)), "cpu": torch.zeros(3, dtype=torch.uint8), "numpy": ("MT", 1)}
    )
    return Refused(path, ("no dictionary of tensors",), "not understood")


@case("a nested root by a dotted path")
def _(f: Path) -> Truth:
    path = pt(f / "a.pt", {"trainer": {"nets": {"actor": STATE, "critic": OTHER}}, "x": 1})
    return Opens(path, STATE, flags=("--root", "trainer.nets.actor"))


@case("torch zip without a suffix")
def _(f: Path) -> Truth:
    return Opens(pt(f / "weights"), STATE)


@case("a torch file named .safetensors")
def _(f: Path) -> Truth:
    path = pt(f / "model.safetensors")
    return Refused(path, ("named .safetensors", "zip archive, as torch writes it"), "damaged")


@case("a name with blanks, quotes and letters of many languages")
def _(f: Path) -> Truth:
    return Opens(pt(f / "mein 'bestes' Modell äöü 模型.pt"), STATE)


@case("torch before 0.1.10, a tar file")
def _(f: Path) -> Truth:
    path = f / "old.pth"
    with tarfile.open(path, "w") as archive:
        for name, content in (
            ("sys_info", {"little_endian": True}),
            ("pickle", {}),
            ("storages", 0),
            ("tensors", 0),
        ):
            blob = pickle.dumps(content, 2)
            info = tarfile.TarInfo(name)
            info.size = len(blob)
            archive.addfile(info, io.BytesIO(blob))
    return Refused(path, ("tar", "before 2017"), "not understood")


@case("a tar archive of something else")
def _(f: Path) -> Truth:
    path = f / "data.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(text(f / "x.txt", "hello"), "x.txt")
    return Refused(path, ("tar archive", "unpack it"), "not understood")


@case("a NeMo 1 archive")
def _(f: Path) -> Truth:
    path = f / "model.nemo"
    with tarfile.open(path, "w") as archive:
        archive.add(text(f / "src" / "model_config.yaml", "a: 1"), "./model_config.yaml")
        archive.add(pt(f / "src" / "model_weights.ckpt"), "./model_weights.ckpt")
    return Refused(path, ("NeMo", "tar -xf"), "not understood")
