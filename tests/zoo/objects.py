"""What a pickle holds besides dictionaries of tensors: whole models, programs, arrays, objects of any class."""

from __future__ import annotations

import argparse
import io
import pickle
import types
from collections import UserDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .making import OTHER, STATE, pt, shifted
from .truth import Opens, Refused, Truth, case


class Net(torch.nn.Module):
    """A model of a user: its class means nothing to whoever reads the file."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(4, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.head = torch.nn.Linear(3, 4, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("table", torch.ones(5), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any path through all of it."""
        return self.head(self.norm(self.embed(x)))


class Config:
    """A tree with links to parents, as OmegaConf's."""

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.child = Config(self) if parent is None else None


TIED = (("embed.weight", "head.weight"),)


@case("a whole model")
def _(f: Path) -> Truth:
    model = Net()
    return Opens(pt(f / "model.pt", model), model.state_dict(), ties=TIED, says=("Net",))


@case("a whole model, legacy")
def _(f: Path) -> Truth:
    model = Net()
    return Opens(
        pt(f / "model.pt", model, _use_new_zipfile_serialization=False), model.state_dict(), ties=TIED
    )


@case("a whole model inside DataParallel")
def _(f: Path) -> Truth:
    model = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)))
    return Opens(pt(f / "model.pt", {"epoch": 3, "net": model}), model.state_dict())


@case("ultralytics, a model and its moving average")
def _(f: Path) -> Truth:
    model, average = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    saved = {"model": model, "ema": average, "updates": 7, "optimizer": None, "train_args": {"lr": 0.1}}
    return Opens(pt(f / "best.pt", saved), model.state_dict(), says=("ema",))


@case("ultralytics after stripping, the model alone")
def _(f: Path) -> Truth:
    model = torch.nn.Linear(2, 3).half()
    saved = {"model": model, "ema": None, "optimizer": None, "epoch": -1}
    return Opens(pt(f / "best.pt", saved), model.state_dict())


@case("a whole model beside the statistics of its inputs")
def _(f: Path) -> Truth:
    model = torch.nn.Linear(2, 3)
    saved = {"model": model, "normalizer": {"mean": torch.zeros(2), "std": torch.ones(2)}}
    return Opens(pt(f / "policy.pt", saved), model.state_dict(), says=("normalizer",))


@case("TorchScript")
def _(f: Path) -> Truth:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).eval()
    torch.jit.trace(model, torch.ones(1, 2)).save(str(f / "model.pt"))
    loaded = torch.jit.load(str(f / "model.pt")).state_dict()
    return Opens(f / "model.pt", loaded, verified="whole")


@case("torch.export")
def _(f: Path) -> Truth:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    torch.export.save(torch.export.export(model, (torch.ones(1, 2),)), str(f / "model.pt2"))
    return Opens(f / "model.pt2", model.state_dict())


@case("numpy arrays instead of tensors")
def _(f: Path) -> Truth:
    arrays = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b.bias": np.ones(3)}
    state = {key: torch.from_numpy(value) for key, value in arrays.items()}
    return Opens(pt(f / "a.pt", {"model": arrays, "epoch": np.float64(3)}), state)


@case("random states of numpy beside the weights")
def _(f: Path) -> Truth:
    saved = {
        "state_dict": STATE,
        "rng": {"numpy": np.random.RandomState(0).get_state(), "best": np.float32(0.5)},
    }
    return Opens(pt(f / "a.pt", saved), STATE)


@case("a configuration with links to its parents")
def _(f: Path) -> Truth:
    return Opens(pt(f / "a.ckpt", {"state_dict": STATE, "hyper_parameters": {"cfg": Config()}}), STATE)


@case("a list that holds itself")
def _(f: Path) -> Truth:
    loop: list[Any] = []
    loop.append(loop)
    return Opens(pt(f / "a.ckpt", {"state_dict": STATE, "loop": loop}), STATE)


@case("a defaultdict")
def _(f: Path) -> Truth:
    return Opens(pt(f / "a.pt", {"model": defaultdict(list, STATE)}), STATE)


@case("a UserDict")
def _(f: Path) -> Truth:
    return Opens(pt(f / "a.pt", {"model": UserDict(STATE), "step": 1}), STATE)


@case("a namespace around two models")
def _(f: Path) -> Truth:
    saved = types.SimpleNamespace(net=STATE, ema=shifted(), step=4)
    return Opens(pt(f / "a.pt", saved), STATE, flags=("--root", "net"))


@case("Megatron, older, a tree in place of a state_dict")
def _(f: Path) -> Truth:
    inner = {"embedding": {"word_embeddings": {"weight": torch.ones(4, 2)}},
             "encoder": {"layers.0.weight": torch.ones(2, 2), "layers.0.bias": torch.zeros(2)}}  # fmt: skip
    saved = {"model": {"language_model": inner}, "iteration": 3,
             "args": argparse.Namespace(tensor_model_parallel_size=1)}  # fmt: skip
    state = {"embedding.word_embeddings.weight": torch.ones(4, 2), "encoder.layers.0.weight": torch.ones(2, 2),
             "encoder.layers.0.bias": torch.zeros(2)}  # fmt: skip
    return Opens(pt(f / "model_optim_rng.pt", saved), state, flags=("--root", "model.language_model"))


@case("Transformer Engine, bytes among the weights")
def _(f: Path) -> Truth:
    state = {**STATE, "layers.0._extra_state": io.BytesIO(b"scale")}
    return Refused(pt(f / "a.pt", state), ("layers.0._extra_state", "drop it"), "whole")


@case("a sparse tensor among the weights")
def _(f: Path) -> Truth:
    state = {**OTHER, "adjacency": torch.eye(3).to_sparse()}
    return Refused(pt(f / "a.pt", state), ("adjacency",), "not understood")


@case("a model zoo's pickle of arrays")
def _(f: Path) -> Truth:
    arrays = {"conv1_w": np.ones((2, 3), np.float32), "bn_b": np.zeros(2, np.float32)}
    path = f / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "x", "matching_heuristics": True}, 2))
    return Opens(path, {key: torch.from_numpy(value) for key, value in arrays.items()})


@case("an archive of numpy arrays")
def _(f: Path) -> Truth:
    arrays = {"a.weight": np.ones((2, 3), np.float32), "b.bias": np.zeros(2, np.float32)}
    np.savez(f / "weights.npz", **arrays)
    return Opens(f / "weights.npz", {key: torch.from_numpy(value) for key, value in arrays.items()})
