"""A fix from a text must not touch what the text does not show: the keys that fit."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch

import ckptkit

PARTS = ("attn.wq", "attn.wo", "mlp.fc1", "mlp.fc2", "norm1")
LAYERS = [f"layers.{i}.{part}.weight" for i in range(4) for part in PARTS]


def text(
    missing: list[str], unexpected: list[str], name: str = "Net", shapes: dict[str, Any] | None = None
) -> str:
    lines = [f"RuntimeError: Error(s) in loading state_dict for {name}:"]
    for head, keys in (("Missing", missing), ("Unexpected", unexpected)):
        if keys:
            lines.append(f"\t{head} key(s) in state_dict: " + ", ".join(f'"{key}"' for key in keys) + ". ")
    for key, (a, b) in (shapes or {}).items():
        lines.append(
            f"\tsize mismatch for {key}: copying a param with shape torch.Size({list(a)}) from checkpoint, the shape in "
            f"current model is torch.Size({list(b)})."
        )
    return "\n".join(lines)


def touched(findings: Any, keys: list[str]) -> list[str]:
    """Keys that a rule of any finding would drop or rename, or let be missing."""
    found = []
    for finding in findings:
        for rule in finding.fix.remap if finding.fix else ():
            if rule["op"] == "drop":
                found += [key for key in keys if any(fnmatchcase(key, p) for p in rule["keys"])]
            if rule["op"] == "rename":
                found += [key for key in keys if re.search(rule["pattern"], key)]
        for pattern in (finding.fix.load if finding.fix else {}).get("allow_missing", ()):
            found += [key for key in keys if fnmatchcase(key, pattern)]
    return found


# missing, unexpected, keys that fit and stay
CASES: dict[str, tuple[list[str], list[str], list[str]]] = {
    "a part of each layer is left over": (
        LAYERS, [f"model.{k}" for k in LAYERS] + [f"model.layers.{i}.gate.weight" for i in range(4)], LAYERS),
    "one norm of an encoder": ([], ["encoder.ln.weight", "encoder.ln.bias"], ["encoder.0.weight", "encoder.lnx.bias"]),
    "one module of each block": (
        [], [f"layer{n}.0.se.fc1.weight" for n in (1, 2)], ["layer1.0.conv1.weight", "layer2.0.bn1.bias"]),
    "the same in the model": (
        [f"layer{n}.0.se.fc1.weight" for n in (1, 2)], [], ["layer1.0.conv1.weight", "layer2.0.bn1.bias"]),
    "a number in the way": (["_fc.weight"], ["_fc.1.weight"], ["blocks.1.weight", "blocks.1.conv.1.weight"]),
    "experts beside a router": (
        [f"m.{i}.experts.{j}.w1.weight" for i in (0, 1) for j in (0, 1)],
        [f"m.{i}.experts.{j}.gate.weight" for i in (0, 1) for j in (0, 1)],
        ["m.0.gate.weight", "m.1.router.gate.weight"]),
    "a last layer norm": (["encoder.layer_norm.weight"], [], ["encoder.layers.0.fc.weight"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_no_rule_reaches_keys_that_are_not_in_the_text(name: str) -> None:
    missing, unexpected, fitting = CASES[name]
    findings = ckptkit.explain(text(missing, unexpected)).findings
    assert findings
    assert touched(findings, fitting) == []


@pytest.mark.parametrize(
    ("parts", "whole"),
    [(("q_proj", "k_proj", "v_proj"), "qkv_proj"), (("gate_proj", "up_proj"), "gate_up_proj"), (("wq", "wk", "wv"), "wqkv"), (("to_k", "to_v"), "to_kv")],  # noqa: E501
)  # fmt: skip
@pytest.mark.parametrize("fused_in_file", [True, False])
def test_what_is_fused_on_one_side_is_never_renamed_to_one_of_its_parts(
    parts: tuple[str, ...], whole: str, fused_in_file: bool
) -> None:
    apart = [f"layers.{i}.m.{part}.weight" for i in range(3) for part in parts]
    one = [f"layers.{i}.m.{whole}.weight" for i in range(3)]
    findings = ckptkit.explain(text(apart, one) if fused_in_file else text(one, apart)).findings
    assert findings[0].cause == "fused_split"
    assert not [rule for finding in findings if finding.fix for rule in finding.fix.remap]


def test_packed_weights_are_not_renamed() -> None:
    missing = [f"layers.{i}.q.weight" for i in range(3)]
    packed = [f"layers.{i}.q.{part}" for i in range(3) for part in ("qweight", "qzeros", "scales", "g_idx")]
    findings = ckptkit.explain(text(missing, packed)).findings
    assert [finding.cause for finding in findings] == ["quantized"]


def test_a_rename_is_found_however_many_keys_there_are_and_does_not_depend_on_hashing() -> None:
    missing = [f"enc.{i}.self_attn.{p}.weight" for i in range(900) for p in "qkvo"]
    unexpected = [key.replace("self_attn", "attention") for key in missing]
    (finding,) = ckptkit.explain(text(missing, unexpected)).findings
    assert finding.cause == "rename"
    assert finding.fix is not None
    assert [re.sub(rule["pattern"], rule["replacement"], unexpected[5]) for rule in finding.fix.remap] == [
        missing[5]
    ]


LAYOUTS = [
    ((7, 7, 3, 64), (64, 3, 7, 7), {"op": "permute", "dims": [3, 2, 0, 1]}),
    ((3, 3, 3, 4, 16), (16, 3, 3, 3, 4), {"op": "permute", "dims": [4, 0, 1, 2, 3]}),
    ((768, 2304), (2304, 768), {"op": "transpose"}),
    ((32, 128, 1, 1), (32, 128), {"op": "reshape", "shape": [32, 128]}),
    ((3, 3, 64, 64), (64, 64, 3, 3), None),
    ((32, 128, 1, 1), (128, 32), None),
]


@pytest.mark.parametrize(("a", "b", "rule"), LAYOUTS)
def test_a_reshape_never_stands_in_for_another_order_of_dimensions(
    a: tuple[int, ...], b: tuple[int, ...], rule: dict[str, Any] | None
) -> None:
    finding = ckptkit.explain(text([], [], shapes={"conv.weight": (a, b)})).findings[0]
    assert finding.cause == "layout"
    assert finding.fix is not None
    assert list(finding.fix.remap) == ([{**rule, "keys": ["conv.weight"]}] if rule else [])
    assert rule is not None or "scramble" in finding.fix.advice


def test_positions_of_a_text_are_no_image_grid() -> None:
    finding = ckptkit.explain(
        text([], [], shapes={"transformer.wpe.weight": ((1024, 768), (256, 768))})
    ).findings[0]
    assert finding.cause == "pos_embed"
    assert finding.fix is not None
    assert finding.fix.load == {"adapt": [{"keys": ["transformer.wpe.weight"], "method": "crop"}]}


def test_two_causes_behind_shapes_are_both_named() -> None:
    shapes = {
        "pos_embed": ((1, 197, 768), (1, 577, 768)),
        "head.weight": ((1000, 768), (10, 768)),
        "head.bias": ((1000,), (10,)),
    }
    causes = [finding.cause for finding in ckptkit.explain(text([], [], shapes=shapes)).findings]
    assert causes == ["pos_embed", "head_mismatch"]


def test_weight_norm_on_one_side_only_is_not_renamed() -> None:
    missing = [f"ups.{i}.weight" for i in range(3)]
    unexpected = [f"ups.{i}.weight_{p}" for i in range(3) for p in "gv"]
    finding = ckptkit.explain(text(missing, unexpected)).findings[0]
    assert finding.cause == "parametrization"
    assert finding.fix is not None
    assert finding.fix.remap == ()
    assert "remove_weight_norm" in finding.fix.advice


MESSAGES = [
    ("RuntimeError: PytorchStreamReader failed reading file data/105: file read failed", "file_corrupt"),
    ("_pickle.UnpicklingError: unpickling stack underflow", "file_corrupt"),
    ("_pickle.UnpicklingError: Weights only load failed. ... WeightsUnpickler error: Ran out of input", "file_corrupt"),
    ("RuntimeError: don't know how to restore data location of torch.FloatStorage (tagged with cuda:0)", "device_map"),
    ("AttributeError: 'collections.OrderedDict' object has no attribute 'eval'", "wrong_object"),
    ("AttributeError: 'NoneType' object has no attribute 'items'", "wrong_object"),
    ("RuntimeError: Cannot use ``weights_only=True`` with TorchScript archives passed to ``torch.load``.", "wrong_object"),
    ("AttributeError: Can't get attribute '_rebuild_parameter_v2' on <module 'torch._utils' from 'x'>", "format_version"),
    ("NotImplementedError: cannot instantiate 'PosixPath' on your system", "format_version"),
    ("ValueError: Cannot load /m because conv_in.weight expected shape torch.Size([320, 4, 3, 3]), but got torch.Size([320, 9, 3, 3]).", "input_channels"),  # noqa: E501
    ("[IncompatibleKeys] missing: ['conv1.weight', 'bn1.weight'] unexpected: ['module.conv1.weight', 'module.bn1.weight']", "prefix_strip"),  # noqa: E501
]  # fmt: skip


@pytest.mark.parametrize(("words", "cause"), MESSAGES)
def test_messages_are_known_by_their_kind(words: str, cause: str) -> None:
    assert ckptkit.explain(words).findings[0].cause == cause


def test_ordinary_imports_that_fail_are_no_load_failure() -> None:
    assert (
        ckptkit.explain(
            "File 'train.py', line 3\n    import cv2\nModuleNotFoundError: No module named 'cv2'"
        ).findings
        == ()
    )


@pytest.mark.parametrize(("rows", "wanted"), [(25216, 50304), (16, 32), (32000, 128256)])
def test_a_table_that_a_shard_explains_too_is_not_filled_up(rows: int, wanted: int) -> None:
    text = (
        f"size mismatch for embed_tokens.weight: copying a param with shape torch.Size([{rows}, 64]) from checkpoint, the "
        f"shape in current model is torch.Size([{wanted}, 64])."
    )
    explanation = ckptkit.explain(text)
    assert explanation.fix is None
    assert explanation.findings[0].confidence == "guess"
    assert "shards" in explanation.findings[0].title
    report = ckptkit.check(
        ckptkit.signature({"embed_tokens.weight": torch.zeros(wanted, 1), "norm.weight": torch.zeros(1)}),
        {"embed_tokens.weight": torch.zeros(rows, 1), "norm.weight": torch.zeros(1)},
    )
    assert report.fix is None
