"""Loading: what `load_state_dict` would do with a good state_dict, and nothing at all with a bad one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ckptkit

from ..strategies import content
from .architectures import ARCHITECTURES, Parametrised, TiedHead


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """Every parameter and buffer with values of its own, tied ones staying tied."""
    generator = torch.Generator().manual_seed(seed)
    for value in [*model.parameters(), *model.buffers()]:
        if value.is_floating_point():
            value.data.copy_(torch.rand(value.shape, generator=generator))
        elif value.dtype is torch.int64:
            value.data.copy_(torch.randint(0, 5, value.shape, generator=generator))
    return model


def tensors(model: nn.Module) -> dict[str, Any]:
    """All the bytes of a model: its state_dict, its non-persistent buffers, and which parameters require gradients."""
    state = {k: v for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}
    return content({**state, **dict(model.named_buffers())})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_load_equals_load_state_dict_on_a_real_architecture(name: str, tmp_path: Path) -> None:
    source = randomised(ARCHITECTURES[name](), 1)
    target = randomised(ARCHITECTURES[name](), 2)
    expected = randomised(ARCHITECTURES[name](), 2)
    suffix = ".pt" if len(name) % 2 else ".safetensors"
    ckptkit.save(source, tmp_path / f"a{suffix}")
    outcome = expected.load_state_dict(source.state_dict())
    report = ckptkit.load(target, tmp_path / f"a{suffix}")
    assert report.ok
    assert (list(report.missing), list(report.unexpected)) == (outcome.missing_keys, outcome.unexpected_keys)
    assert {*report.loaded, *(key for key, _ in report.tied)} == set(source.state_dict())
    assert tensors(target) == tensors(expected)
    assert report.coverage.parameters == 1.0


@pytest.mark.parametrize("name", ["vit", "bert", "gpt2", "resnet", "tied-lstm"])
def test_the_same_keys_are_reported_as_load_state_dict_reports(name: str) -> None:
    model = ARCHITECTURES[name]()
    state = dict(model.state_dict())
    for key in list(state)[::3]:
        state["other." + key] = state.pop(key)
    outcome = ARCHITECTURES[name]().load_state_dict(state, strict=False)
    report = ckptkit.check(model, state, {"strict": False})
    tied = {key for key, _ in report.tied}
    assert set(report.missing) | tied == set(outcome.missing_keys)
    assert set(report.unexpected) == set(outcome.unexpected_keys)


MODELS: dict[str, type[nn.Module]] = {"parametrised": Parametrised, "tied": TiedHead}


@given(data=st.data(), name=st.sampled_from(sorted(MODELS)))
def test_a_failing_load_changes_no_byte_of_the_model(data: Any, name: str) -> None:
    model = randomised(MODELS[name](), 1)
    state = dict(randomised(MODELS[name](), 2).state_dict())
    for key in data.draw(st.lists(st.sampled_from(sorted(state)), min_size=1, max_size=3, unique=True)):
        kind = data.draw(st.sampled_from(["remove", "add", "reshape"]))
        if kind == "remove":
            del state[key]
        elif kind == "add":
            state[key + ".more"] = torch.ones(2)
        else:
            state[key] = torch.ones(*state[key].shape, 3)
    before = tensors(model)
    config = {
        "strict": data.draw(st.booleans()),
        "on_mismatch": data.draw(st.sampled_from(["error", "skip"])),
    }
    try:
        report = ckptkit.load(model, state, config)
    except ckptkit.CkptkitError:
        assert tensors(model) == before
    else:
        assert report.ok
        after = tensors(model)
        filled_by_partner = {"embed.weight", "head.weight"}
        assert all(after[m.key] == before[m.key] for m in report.mismatched if m.key not in filled_by_partner)
        # A hook may also miss a name of its own, as that of the old spectral_norm does.
        assert all(after[key] == before[key] for key in report.missing if key in after)


def test_a_class_that_refuses_while_it_loads_leaves_the_model_as_it_was() -> None:
    class Refuses(nn.Linear):
        def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
            super()._load_from_state_dict(state, prefix, *rest)
            if not self.weight.is_meta:
                raise RuntimeError("the weight has the wrong sign")

    model = nn.Sequential(nn.Linear(2, 2), Refuses(2, 2), nn.Linear(2, 2))
    before = tensors(model)
    state = randomised(copy.deepcopy(model), 3).state_dict()
    with pytest.raises(
        ckptkit.IncompatibleKeysError,
        match=r"as it was before: _load_from_state_dict of Refuses at '1' failed: .*: the weight has the wrong sign;",
    ):
        ckptkit.load(model, state)
    assert tensors(model) == before


def test_a_damaged_file_is_found_before_a_parameter_changes(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    torch.save(randomised(copy.deepcopy(model), 1).state_dict(), tmp_path / "a.pt")
    blob = bytearray((tmp_path / "a.pt").read_bytes())
    with ckptkit.open(tmp_path / "a.pt") as checkpoint:
        region = checkpoint.source.view("1.bias").storage.region
    assert region is not None
    blob[region.offset] ^= 1
    (tmp_path / "a.pt").write_bytes(blob)
    before = tensors(model)
    with pytest.raises(ckptkit.FormatError, match="(?i)crc"):
        ckptkit.load(model, tmp_path / "a.pt")
    assert tensors(model) == before


def test_the_known_prefixes_are_the_cause_and_the_fix_loads() -> None:
    model = TiedHead()
    state = {"module." + k: v for k, v in randomised(TiedHead(), 1).state_dict().items()}
    report = ckptkit.check(model, state)
    (finding, *_) = report.findings
    assert (finding.cause, finding.confidence) == ("prefix_strip", "certain")
    assert finding.fix is not None
    assert ckptkit.load(model, state, {"rules": list(finding.fix.remap)}).ok


def test_a_meta_model_needs_assign_and_is_tied_again() -> None:
    with torch.device("meta"):
        model = TiedHead()
    state = randomised(TiedHead(), 1).state_dict()
    with pytest.raises(ckptkit.UsageError, match="is on the meta device .* load with assign: true"):
        ckptkit.load(model, state)
    ckptkit.load(model, state, {"assign": True})
    assert model.head.weight is model.embed.weight
    assert content(model.state_dict()) == content(state)
    assert model.embed.weight.data_ptr() != state["embed.weight"].data_ptr()


def test_two_tensors_for_one_tied_parameter_are_an_error_when_they_differ() -> None:
    state = dict(randomised(TiedHead(), 1).state_dict())
    state["head.weight"] = state["head.weight"].clone()
    assert ckptkit.check(TiedHead(), state).ok
    state["head.weight"][0, 0] += 1
    with pytest.raises(
        ckptkit.IncompatibleKeysError, match="are one tied parameter, and the checkpoint has different"
    ):
        ckptkit.load(TiedHead(), state)


def test_a_missing_key_whose_tied_partner_is_filled_is_tied_and_not_missing() -> None:
    state = dict(randomised(TiedHead(), 1).state_dict())
    del state["embed.weight"]
    report = ckptkit.load(TiedHead(), state)
    assert report.tied == (("embed.weight", "head.weight"),)
    assert not report.missing


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrappers_are_seen_through(wrap: Any) -> None:
    model, state = TiedHead(), randomised(TiedHead(), 1).state_dict()
    assert ckptkit.load(wrap(model), state).ok
    assert content(model.state_dict()) == content(state)


POLICIES = [
    ("auto", False, torch.float32), ("auto", True, torch.float16), ("model", True, torch.float32),
    ("checkpoint", False, torch.float16), ("bfloat16", False, torch.bfloat16), ("bfloat16", True, torch.bfloat16),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "assign", "expected"), POLICIES)
def test_the_dtype_policy_decides_what_the_parameters_become(
    policy: str, assign: bool, expected: torch.dtype
) -> None:
    model = nn.Linear(2, 2)
    state = {k: v.half() for k, v in nn.Linear(2, 2).state_dict().items()}
    ckptkit.load(model, state, {"dtype": policy, "assign": assign})
    assert model.weight.dtype is expected
    assert torch.equal(model.weight.float(), state["weight"].float()) or expected is torch.bfloat16


def test_permissions_allow_and_what_is_unused_stands_in_the_report() -> None:
    state = {"weight": torch.ones(2, 2), "extra.a": torch.ones(1)}
    config = {"allow_missing": ["bias", "nothing"], "allow_unexpected": ["extra.*"]}
    report = ckptkit.load(nn.Linear(2, 2), state, config)
    assert report.ok
    assert report.missing == ("bias",)
    assert "allow_missing 'nothing' matches no missing key" in report.notes
    with pytest.raises(ckptkit.IncompatibleKeysError, match="1 unexpected: extra.a"):
        ckptkit.load(nn.Linear(2, 2), state, {"allow_missing": ["bias"]})


def test_a_load_that_fills_nothing_or_too_little_is_an_error() -> None:
    with pytest.raises(ckptkit.IncompatibleKeysError, match="nothing of the checkpoint would be loaded"):
        ckptkit.load(nn.Linear(2, 2), {"x": torch.ones(1)}, {"strict": False})
    wrapped = {"module.1.weight": torch.ones(2), "module.1.bias": torch.ones(2)}
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))  # its counter is made of nothing
    for state in (wrapped, {"0.weight": torch.ones(3, 3)}):
        report = ckptkit.check(model, state, strict=False, on_mismatch="skip")
        assert report.errors == ("nothing of the checkpoint would be loaded",)
        assert report.coverage == (0.0, 0.0)
    with pytest.raises(ckptkit.IncompatibleKeysError, match="33.3% of the parameters would be filled"):
        ckptkit.load(nn.Linear(2, 2), {"bias": torch.ones(2)}, {"strict": False, "min_loaded": 0.5})


def test_lazily_initialised_modules_are_named() -> None:
    with pytest.raises(ckptkit.UsageError, match="'0.weight', '0.bias' have no shape; run the model once"):
        ckptkit.load(nn.Sequential(nn.LazyLinear(3)), {})


def test_what_is_no_module_is_refused_by_its_type() -> None:
    with pytest.raises(ckptkit.UsageError, match="loaded into an nn.Module, not a value of type dict"):
        ckptkit.load({}, {"weight": torch.ones(2)})  # type: ignore[arg-type]


def test_a_hook_keeps_old_checkpoints_and_new_ones_loading() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.new = nn.Linear(2, 2)
            rules = [{"op": "rename", "pattern": "^old", "replacement": "new"}]
            self.register_load_state_dict_pre_hook(ckptkit.load_hook(rules))

    model = nn.Sequential(Net())
    old = {"0.old.weight": torch.ones(2, 2), "0.old.bias": torch.ones(2)}
    model.load_state_dict(old)
    assert model[0].new.weight.sum() == 4
    model.load_state_dict(model.state_dict())
    again = nn.Sequential(Net())
    assert ckptkit.load(again, old).ok
    assert again[0].new.weight.sum() == 4


def test_old_files_of_batch_norm_get_their_counter_from_torch() -> None:
    state = {k: v for k, v in nn.BatchNorm1d(3).state_dict().items() if k != "num_batches_tracked"}
    report = ckptkit.load(nn.BatchNorm1d(3), state)
    assert report.ok
    assert report.missing == ()


def test_one_sub_module_of_a_larger_checkpoint_and_the_ema_copy(tmp_path: Path) -> None:
    weights, ema = (
        {"encoder." + k: v for k, v in randomised(nn.Linear(2, 2), s).state_dict().items()} for s in (1, 2)
    )
    torch.save({"state_dict": weights, "ema": ema}, tmp_path / "a.pt")
    rules = [{"op": "strip_prefix", "prefix": "encoder."}]
    model = nn.Linear(2, 2)
    ckptkit.load(model, tmp_path / "a.pt", {"rules": rules})
    assert torch.equal(model.weight, weights["encoder.weight"])
    ckptkit.load(model, tmp_path / "a.pt", {"rules": rules, "root": "ema"})
    assert torch.equal(model.weight, ema["encoder.weight"])


def test_the_report_prints_dumps_and_shows() -> None:
    state = {
        "blocks." + k: v for k, v in nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).state_dict().items()
    }
    report = ckptkit.check(
        nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)), state, {"strict": False, "on_mismatch": "skip"}
    )
    document = report.to_json()
    assert document["format"] == "ckptkit.load_report"
    assert {
        "ok",
        "loaded",
        "missing",
        "unexpected",
        "mismatched",
        "adapted",
        "tied",
        "coverage",
        "findings",
    } <= set(document)
    assert "blocks.{0..1}.weight  x2" in str(report)
    assert "<pre" in report._repr_html_()
