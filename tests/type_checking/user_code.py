"""Code as users write it; never run, only looked at by type checkers (see test_type_checkers.py)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

import ckptkit
from ckptkit import rules

MIXED = [{"op": "drop", "keys": ["a"]}, {"op": "strip_prefix", "prefix": "b"}, rules.AddPrefix(prefix="c")]


def configs(path: Path) -> list[ckptkit.RemapConfig]:
    plain = {"op": "drop", "keys": "*.bias"}
    return [
        ckptkit.RemapConfig(),
        ckptkit.RemapConfig(rules=[{"op": "strip_prefix", "prefix": "module."}]),
        ckptkit.RemapConfig(
            rules=[{"op": "renumber", "pattern": r"(?P<index>\d+)", "map": {3: 0}}, plain], root="model"
        ),
        ckptkit.RemapConfig(rules=[rules.StripPrefix(prefix="module."), rules.Drop(keys="*.bias"), plain]),
        ckptkit.RemapConfig(description="swap", rules=[rules.Rename(pairs=[["^a", "b"], ["^b", "a"]])]),
        ckptkit.RemapConfig.from_file(path),
        ckptkit.RemapConfig.parse({"rules": []}),
    ]


def every_rule() -> list[ckptkit.Rule]:
    return [
        rules.StripPrefix(prefix="a.", keys=["*"], required=False),
        rules.AddPrefix(prefix="a."),
        rules.Rename(pattern="^a", replacement="b"),
        rules.Renumber(pattern=r"(?P<index>\d+)", offset=1),
        rules.Keep(keys=["a.*"]),
        rules.Drop(keys="a.*"),
        rules.Cast(dtype="bf16"),
        rules.Copy(key="a", into="b", tie=True),
        rules.Transpose(keys=["a"], dims=[0, 1]),
        rules.Permute(keys=["a"], dims=[1, 0]),
        rules.Reshape(keys="a", shape=[-1, 4]),
        rules.Split(pattern=r"(.*)\.qkv", into=[r"\1.q", r"\1.k", r"\1.v"], dim=0),
        rules.Unstack(pattern=r"(.*)\.w", into=r"\1.{index}.w", dim=0),
        rules.Concat(patterns=[r"(.*)\.q", r"(.*)\.k"], into=r"\1.qk", dim=0),
        rules.Stack(pattern=r"(.*)\.(?P<index>\d+)\.w", into=r"\1.w", dim=0),
        rules.Resize(
            keys="pos", shape=[1, 577, 768], method="interpolate", grid=[14, 14], target_grid=[24, 24]
        ),
    ]


def remap_and_plan(path: Path, state: Mapping[str, torch.Tensor], model: nn.Module) -> None:
    dropping = [{"op": "drop", "keys": ["*.bias"]}]
    lazy: ckptkit.Checkpoint = ckptkit.remap(path, dropping)
    lazy = ckptkit.remap("a.pt", rules=dropping, root="model")
    made: dict[str, object] = ckptkit.remap(state, [rules.Drop(keys="*.bias")])
    made = ckptkit.remap(model, "rules.yaml")
    made = ckptkit.remap(OrderedDict(state), {"rules": dropping})
    plan = ckptkit.plan(path, dropping, target=model)
    plan = ckptkit.plan(lazy.signature, ckptkit.LoadConfig(rules=dropping), model)
    lazy = ckptkit.remap(path, plan.invert())
    written: ckptkit.Written = ckptkit.save(lazy, path, max_shard_size="5GB", overwrite=True)
    size: int = sum(file.bytes for file in written.files)
    shape: tuple[int, ...] = plan.outputs[0].shape
    print(made, size, shape, ckptkit.verify_roundtrip(path, dropping).ok)


def load(model: nn.Module, path: Path) -> ckptkit.LoadConfig | None:
    report = ckptkit.load(model, path, strict=False)
    report = ckptkit.load(
        model, path, [{"op": "add_prefix", "prefix": "model."}], allow_missing="head.*", dtype=torch.bfloat16
    )
    report = ckptkit.load(model, path, {"strict": False})
    report = ckptkit.load(model, path, path.with_suffix(".yaml"))
    report = ckptkit.load(
        model, path, ckptkit.RemapConfig(), adapt=[{"keys": ["head.*"], "method": "reinit"}]
    )
    report = ckptkit.check(model, path, ckptkit.LoadConfig(strict=False, on_mismatch="skip", dtype="fp16"))
    share: float = report.coverage.parameters
    shapes: list[tuple[int, ...]] = [mismatch.source_shape for mismatch in report.mismatched]
    finding: ckptkit.Finding | None = report.findings[0] if report.findings else None
    fix: ckptkit.Fix | None = finding.fix if finding is not None else None
    print(share, shapes, fix.remap if fix is not None else (), [tied.from_ for tied in report.tied])
    return report.fix


def explain(model: nn.Module, state: Mapping[str, torch.Tensor]) -> ckptkit.Explanation:
    try:
        with ckptkit.explaining():
            return ckptkit.explain(model.load_state_dict(state, strict=False))
    except ckptkit.CkptkitError as error:
        causes: list[str] = [finding.cause for finding in error.findings]
        print(causes, error.type)
        return ckptkit.explain(error)
    except RuntimeError as error:
        return ckptkit.explain(str(error))


def mixed(model: nn.Module, path: Path) -> None:
    ckptkit.RemapConfig(rules=MIXED)
    print(ckptkit.plan(path, MIXED), ckptkit.remap(path, MIXED), ckptkit.check(model, path, rules=MIXED))
    ckptkit.load(model, path, MIXED)


def train(model: nn.Module) -> torch.optim.Optimizer:
    ckptkit.freeze(model, ["backbone.*"])
    ckptkit.freeze(model, "backbone.*", unfreeze=["backbone.layer4.*"], batch_norm="leave")
    ckptkit.freeze(model, freeze="backbone.*")
    ckptkit.freeze(model, ckptkit.FreezeConfig(freeze=["*"]))
    frozen: tuple[str, ...] = ckptkit.freeze(model, Path("freeze.yaml")).frozen
    ckptkit.unfreeze(model)
    hook = ckptkit.load_hook([{"op": "strip_prefix", "prefix": "a."}])
    model.register_load_state_dict_pre_hook(hook)  # type: ignore[no-untyped-call] # torch's
    hook = ckptkit.load_hook(rules=[rules.StripPrefix(prefix="a.")])
    groups = ckptkit.param_groups(model, lr=1e-3, layer_decay=0.75, no_decay=["*.bias"])
    groups = ckptkit.param_groups(model, [{"keys": "head.*", "lr": 1e-2}], lr=1e-3)
    groups = ckptkit.param_groups(
        model, ckptkit.GroupsConfig(lr=1e-3, groups=[{"keys": ["head.*"], "lr": 1e-2}])
    )
    print(frozen)
    return torch.optim.AdamW(groups)


def look(path: Path, model: nn.Module) -> None:
    with ckptkit.open(path, root="model") as checkpoint:
        weight: torch.Tensor = checkpoint["head.weight"]
        part = checkpoint.get_slice("head.weight")[:, 0:2]
        model.load_state_dict(checkpoint)
    difference = ckptkit.diff(path, model, values=True)
    inference = ckptkit.infer(path, model)
    ok: bool = difference.same and ckptkit.verify(path).ok and inference.complete
    print(
        weight,
        part,
        ok,
        ckptkit.__version__,
        [renamed.a for renamed in difference.renamed],
        inference.config.rules,
    )
