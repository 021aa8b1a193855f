"""Folders and files with several models, roots one in another, and names that mislead."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from .making import OTHER, STATE, as_json, pt, shifted, st, text
from .truth import Opens, Refused, Truth, case


@case("a list of state_dicts")
def _(f: Path) -> Truth:
    return Opens(pt(f / "a.pt", [STATE, OTHER]), OTHER, flags=("--root", "1"))


@case("a list of state_dicts, none chosen")
def _(f: Path) -> Truth:
    return Refused(pt(f / "a.pt", [STATE, OTHER]), ("a list", "--root"), "not understood")


@case("models in a list by a root")
def _(f: Path) -> Truth:
    return Opens(pt(f / "a.pt", {"models": [STATE, OTHER], "step": 3}), STATE, flags=("--root", "models.0"))


@case("two networks in one folder")
def _(f: Path) -> Truth:
    pt(f / "netG.pth")
    pt(f / "netD.pth", OTHER)
    return Refused(f, ("2 checkpoints ('netD.pth', 'netG.pth')", f"'{f / 'netG.pth'}'"))


@case("one network in two formats under one name")
def _(f: Path) -> Truth:
    pt(f / "net.pth", shifted())
    return Opens(st(f / "net.safetensors").parent, STATE, says=("net.pth",))


@case("members of an ensemble")
def _(f: Path) -> Truth:
    for number in range(3):
        pt(f / f"fold_{number}" / "model.pt")
    return Refused(f, ("'fold_0', 'fold_1', 'fold_2' in it do", f"'{f / 'fold_2'}'"))


@case("a folder inside a folder inside a folder")
def _(f: Path) -> Truth:
    pt(f / "lightning_logs" / "version_0" / "checkpoints" / "a.ckpt", {"state_dict": STATE})
    return Refused(
        f, ("holds no checkpoint itself", f"'{f / 'lightning_logs' / 'version_0' / 'checkpoints'}'")
    )


@case("a folder named like a file")
def _(f: Path) -> Truth:
    return Opens(
        st(f / "model.safetensors" / "model.safetensors").parent, STATE, says=("the content is a folder",)
    )


@case("a folder named like an index")
def _(f: Path) -> Truth:
    (f / "model.safetensors.index.json").mkdir()
    return Opens(st(f / "model.safetensors").parent, STATE)


@case("a folder named like a shard beside the real one")
def _(f: Path) -> Truth:
    (f / "other.safetensors").mkdir()
    return Opens(st(f / "model.safetensors").parent, STATE)


@case("a link to a file")
def _(f: Path) -> Truth:
    os.symlink(st(f / "real" / "a.safetensors"), f / "b.safetensors")
    return Opens(f / "b.safetensors", STATE)


@case("a link to a folder")
def _(f: Path) -> Truth:
    os.symlink(st(f / "real" / "model.safetensors").parent, f / "latest")
    return Opens(f / "latest", STATE)


@case("a link that leads nowhere")
def _(f: Path) -> Truth:
    os.symlink("gone.safetensors", f / "model.safetensors")
    return Refused(f / "model.safetensors", ("is a link to a file that does not exist",))


@case("a link to itself")
def _(f: Path) -> Truth:
    os.symlink("model.safetensors", f / "model.safetensors")
    return Refused(f / "model.safetensors", ("link",))


@case("names that are no text")
def _(f: Path) -> Truth:
    text(f / os.fsdecode(b"\xff\xfe.txt"), "x")
    return Opens(st(f / "model.safetensors").parent, STATE)


@case("two checkpoints with names that are no text")
def _(f: Path) -> Truth:
    pt(f / os.fsdecode(b"a\xff.pt"))
    pt(f / "b\nnotes.pt", OTHER)
    return Refused(f, ("2 checkpoints", "a\\udcff.pt", "b\\nnotes.pt"))


@case("a file that is not there")
def _(f: Path) -> Truth:
    return Refused(f / "model.safetensors", ("does not exist",))


@case("an empty folder")
def _(f: Path) -> Truth:
    return Refused(f, ("holds no checkpoint: it is empty",))


@case("a folder with text only")
def _(f: Path) -> Truth:
    text(f / "README.md", "x")
    as_json(f / "config.json", {})
    return Refused(f, ("holds no checkpoint",))


@case("an unfinished file of another process beside the weights")
def _(f: Path) -> Truth:
    text(f / "model.safetensors.tmp", b"\0" * 100)
    text(f / "tmpabc123", b"\x80\x02")
    return Opens(st(f / "model.safetensors").parent, STATE)


@case("keys that are numbers")
def _(f: Path) -> Truth:
    path = pt(f / "a.pt", {0: torch.ones(2), 1: torch.ones(3)})
    return Opens(path, {"0": torch.ones(2), "1": torch.ones(3)})


@case("weights named like an optimizer's")
def _(f: Path) -> Truth:
    pt(f / "optim_model.pt", STATE)
    return Opens(f / "optim_model.pt", STATE)
