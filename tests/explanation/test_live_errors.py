"""Models broken in every way, the installed torch's own words, the proposed fix, and a load that succeeds."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import ckptkit

from real_models import import_transformers


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)


class Net(nn.Module):
    def __init__(
        self,
        width: int = 8,
        classes: int = 5,
        depth: int = 2,
        words: int = 120,
        side: int = 4,
        channels: int = 3,
    ):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3)
        self.embed_tokens = nn.Embedding(words, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, side * side + 1, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.bn = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, classes)


import_transformers()
from transformers.pytorch_utils import Conv1D  # noqa: E402 - after it is known where the real models are

State = dict[str, Any]


def renamed(change: Callable[[str], str]) -> State:
    return {change(key): value for key, value in Net().state_dict().items()}


def wrapped(wrap: Callable[[nn.Module], nn.Module]) -> State:
    return dict(wrap(Net()).state_dict())


def compiled(module: nn.Module) -> nn.Module:
    result: nn.Module = torch.compile(module)  # type: ignore[assignment]
    return result


def checkpointed(module: nn.Module) -> nn.Module:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    for block in module.blocks:  # type: ignore[union-attr]
        block.query = checkpoint_wrapper(block.query)
        # torch itself takes the segment out of state_dict; what is saved by hand keeps it.
    return module


def by_parameters(module: nn.Module) -> State:
    return {key: value.detach() for key, value in [*module.named_parameters(), *module.named_buffers()]}


CASES: dict[str, tuple[nn.Module, State, str]] = {
    "ddp": (Net(), wrapped(nn.DataParallel), "prefix_strip"),
    "ddp twice": (Net(), wrapped(lambda m: nn.DataParallel(nn.DataParallel(m))), "prefix_strip"),
    "compile": (Net(), wrapped(compiled), "prefix_strip"),
    "ddp and compile": (Net(), wrapped(lambda m: nn.DataParallel(compiled(m))), "prefix_strip"),
    "model.": (Net(), renamed(lambda k: f"model.{k}"), "prefix_strip"),
    "net.": (Net(), renamed(lambda k: f"net.{k}"), "prefix_strip"),
    "wrapped model": (nn.DataParallel(Net()), dict(Net().state_dict()), "prefix_add"),
    "checkpoint wrapper": (Net(), by_parameters(checkpointed(Net())), "prefix_strip"),
    "segment": (Net(), renamed(lambda k: k.replace("blocks.", "encoder.layers.")), "rename"),
    "gamma and beta": (
        nn.ModuleList(nn.LayerNorm(4) for _ in range(3)),
        {f"{i}.{n}": torch.ones(4) for i in range(3) for n in ("gamma", "beta")},
        "rename",
    ),
    "classes": (Net(classes=7), Net().state_dict(), "head_mismatch"),
    "channels": (Net(channels=1), Net().state_dict(), "input_channels"),
    "positions": (Net(side=6), Net().state_dict(), "pos_embed"),
    "vocabulary": (Net(words=128), Net().state_dict(), "vocab_resize"),
    "conv1d": (nn.Linear(4, 6), dict(Conv1D(6, 4).state_dict()), "layout"),
    "counter": (
        nn.BatchNorm1d(4, track_running_stats=False),
        {"weight": torch.ones(4), "bias": torch.ones(4), "num_batches_tracked": torch.tensor(1)},
        "extra_buffers",
    ),
    "criterion": (Net(), {**Net().state_dict(), "criterion.weight": torch.ones(3)}, "extra_modules"),
}  # fmt: skip


def error_of(model: nn.Module, state: State) -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state)
    return caught.value


@pytest.mark.parametrize("name", CASES)
def test_torchs_error_is_explained_and_the_proposed_fix_loads(name: str) -> None:
    model, state, cause = CASES[name]
    explanation = ckptkit.explain(f"RuntimeError: {error_of(model, state)}")
    first = explanation.findings[0]
    assert first.cause == cause, str(explanation)
    assert first.fix is not None
    fields = {**first.fix.load, "rules": list(first.fix.remap)}
    source: Any = state
    if isinstance(
        model, nn.DataParallel
    ):  # loading sees through the wrapper, whose own names are asked for here
        source, fields = ckptkit.remap(state, fields["rules"]), {}
        model.load_state_dict(source)
        return
    assert ckptkit.load(model, source, fields).ok


def test_an_eight_bit_checkpoint_is_said_to_be_one_and_nothing_is_dropped() -> None:
    """bitsandbytes keeps int8 rows with their scales (SCB) beside them."""
    state = {"weight": torch.ones(4, 4, dtype=torch.int8), "bias": torch.ones(4), "SCB": torch.ones(4)}
    first = ckptkit.explain(
        str(error_of(nn.Linear(4, 4), {**state, "weight_format": torch.tensor(0)}))
    ).findings[0]
    assert first.cause == "quantized"
    assert first.fix is not None
    assert not first.fix.remap


WIDTHS = {"width": Net(width=16), "depth": Net(depth=5)}


@pytest.mark.parametrize("name", WIDTHS)
def test_another_architecture_is_said_to_be_one_and_nothing_is_offered(name: str) -> None:
    explanation = ckptkit.explain(str(error_of(WIDTHS[name], Net().state_dict())))
    first = explanation.findings[0]
    assert first.cause in ("arch_mismatch", "partial_model"), str(explanation)
    if first.cause == "arch_mismatch":
        assert first.fix is not None
        assert not first.fix.remap
        assert not first.fix.load


def test_a_training_file_passed_whole_is_opened_at_its_weights(tmp_path: Path) -> None:
    whole = {"epoch": 1, "state_dict": Net().state_dict(), "optimizer": {"state": {}, "param_groups": []}}
    torch.save(whole, tmp_path / "run.pt")
    first = ckptkit.explain(str(error_of(Net(), whole))).findings[0]
    assert (first.cause, first.fix and first.fix.load) == ("nesting", {"root": "state_dict"})
    assert ckptkit.load(Net(), tmp_path / "run.pt", first.fix.load if first.fix else {}).ok


def _pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 10\n")


def _page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html></html>")


def _cut(path: Path) -> None:
    torch.save({"w": torch.zeros(100_000)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _code(path: Path) -> None:
    torch.save({"a": pytest.raises}, path)


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "pointer": (_pointer, "file_not_checkpoint"),
    "page": (_page, "file_not_checkpoint"),
    "cut": (_cut, "file_corrupt"),
    "code": (_code, "weights_only"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_torch_says_of_a_bad_file_is_explained_without_advice_to_run_it(
    name: str, tmp_path: Path
) -> None:
    make, cause = FILES[name]
    make(tmp_path / "m.pt")
    with pytest.raises((RuntimeError, pickle.UnpicklingError)) as caught:
        torch.load(tmp_path / "m.pt", weights_only=True)
    explanation = ckptkit.explain(f"{type(caught.value).__name__}: {caught.value}")
    assert explanation.findings[0].cause == cause, str(explanation)
    assert "weights_only=False" not in str(explanation)


def test_what_safetensors_says_is_explained(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(Exception, match="header") as caught:
        safetensors.torch.load_file(tmp_path / "m.safetensors")
    assert ckptkit.explain(str(caught.value)).findings[0].cause == "file_corrupt"
    tied = torch.ones(3)
    with pytest.raises(RuntimeError) as shared:
        safetensors.torch.save_file({"a": tied, "b": tied}, tmp_path / "x.safetensors")
    assert ckptkit.explain(str(shared.value)).findings[0].cause == "shared_memory"


def test_an_optimizer_of_other_parameters_is_explained() -> None:
    one = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    other = torch.optim.SGD([nn.Linear(2, 2).weight], lr=0.1)
    with pytest.raises(ValueError) as caught:
        other.load_state_dict(one.state_dict())
    assert ckptkit.explain(f"ValueError: {caught.value}").findings[0].cause == "optimizer_state"


def test_an_error_passes_with_the_findings_below_it() -> None:
    with pytest.raises(RuntimeError) as caught, ckptkit.explaining():
        Net().load_state_dict(wrapped(nn.DataParallel))
    (note,) = caught.value.__notes__
    assert "ckptkit explains:\n1. " in note
    assert "prefix_strip" in note
    assert "strip_prefix" in note
    with pytest.raises(KeyError) as other, ckptkit.explaining():
        raise KeyError("nothing to do with it")
    assert not hasattr(other.value, "__notes__")


def test_the_fix_is_written_as_a_config_that_remap_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckptkit.__main__ import main

    monkeypatch.chdir(tmp_path)
    state = wrapped(nn.DataParallel)
    torch.save(state, "run.pt")
    Path("error.txt").write_text(str(error_of(Net(), state)))
    assert main(["explain", "error.txt", "-o", "fix.yaml"]) == 0
    assert main(["remap", "run.pt", "fixed.pt", "--config", "fix.yaml"]) == 0
    Net().load_state_dict(torch.load("fixed.pt", weights_only=True))
    Path("other.txt").write_text("ZeroDivisionError: division by zero")
    assert main(["explain", "other.txt"]) == 1
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(Path("error.txt").read_bytes())))
    assert main(["explain", "--json"]) == 0


def test_causes_that_come_together_are_written_as_one_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper around a model and its loss, saved whole."""
    from ckptkit.__main__ import main

    monkeypatch.chdir(tmp_path)
    trained, model = Net(), Net()
    state = nn.DataParallel(nn.ModuleDict({"net": trained, "criterion": nn.Linear(2, 2)})).state_dict()
    torch.save({"state_dict": state, "epoch": 1}, "run.pt")
    Path("error.txt").write_text(str(error_of(model, dict(state))))
    assert main(["explain", "error.txt", "-o", "fix.yaml"]) == 0
    config = ckptkit.LoadConfig.from_file("fix.yaml")
    assert [rule.op for rule in config.rules] == ["strip_prefix", "drop"]
    assert ckptkit.load(model, "run.pt", config).ok
    assert torch.equal(model.head.weight, trained.head.weight)
