"""A plan file is input like any other: what was changed in it is refused with the file and the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit
from ckptkit.errors import FormatError, PlanError

Document = dict[str, Any]


def _expr(expr: Any, **more: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["outputs"][0].update(expr=expr, **more)

    return change


def _set(**fields: Any) -> Callable[[Document], None]:
    return lambda document: document.update(fields)


def _deep(document: Document) -> None:
    expr: Any = {"read": "q"}
    for _ in range(300):
        expr = {"op": "transpose", "dims": [0, 1], "of": [expr]}
    _expr(expr)(document)


Q = [{"read": "q"}]
CHANGES: dict[str, Callable[[Document], Any]] = {
    "outputs are text": _set(outputs="abc"),
    "outputs are numbers": _set(outputs=[1]),
    "no expression": _expr(None),
    "an operation that is a list": _expr({"op": [], "of": []}),
    "a truth value as a dimension": _expr({"op": "slice", "dim": True, "start": 0, "stop": 1, "of": Q}),
    "a slice beyond the end": _expr({"op": "slice", "dim": 0, "start": 0, "stop": 99, "of": Q}),
    "two inputs of one": _expr({"op": "transpose", "dims": [0, 1], "of": [*Q, *Q]}),
    "a dimension that is not there": _expr({"op": "transpose", "dims": [0, 5], "of": Q}),
    "a key that is not there": _expr({"read": "gone"}),
    "another shape than declared": _expr({"read": "q"}, shape=[1, 1]),
    "another dtype than declared": _expr({"read": "q"}, dtype="float16"),
    "a dtype of nobody": _expr({"op": "cast", "dtype": "../x", "of": Q}),
    "a resize without sense": _expr(
        {"op": "resize", "method": "pad", "shape": [9, 2], "args": {"fill": [1]}, "of": Q}
    ),
    "an abyss": _deep,
    "another hash": _set(source_hash="sha256:0"),
    "a file elsewhere": _set(layout=[{"file": "../x.safetensors", "keys": []}]),
    "equal of different shapes": _set(equal=[{"key": "a", "one": {"read": "q"}, "other": {"read": "v"}}]),
    "rules below zero": _set(rules=[{"index": -1, "op": "rename", "matched": 0}]),
    "no dropped": lambda document: document.pop("dropped"),
    "another format": _set(format="ckptkit.signature"),
    "a version of the future": _set(version=2),
    "an output twice": lambda document: document["outputs"].append(document["outputs"][0]),
}


@pytest.fixture
def plan(tmp_path: Path) -> Document:
    state = {"q": torch.ones(4, 2), "v": torch.ones(3)}
    ckptkit.save(state, tmp_path / "a.safetensors")
    made = ckptkit.plan(tmp_path / "a.safetensors", [{"op": "transpose", "keys": ["q"]}])
    ckptkit.save_plan(made, tmp_path / "good.json")
    document: Document = json.loads((tmp_path / "good.json").read_text())
    return document


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_plan_is_refused(name: str, plan: Document, tmp_path: Path) -> None:
    CHANGES[name](plan)
    (tmp_path / "bad.json").write_text(json.dumps(plan))
    with pytest.raises(FormatError) as caught:
        ckptkit.load_plan(tmp_path / "bad.json")
    assert caught.value.file == str(tmp_path / "bad.json")


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"\xff", b'{"format": "ckptkit.plan", "format": 1}', b"[" * 100_000]
)
def test_what_is_no_plan_is_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(raw)
    with pytest.raises(FormatError, match="bad.json"):
        ckptkit.load_plan(tmp_path / "bad.json")


def test_a_plan_for_another_checkpoint_says_what_differs(plan: Document, tmp_path: Path) -> None:
    loaded = ckptkit.load_plan(tmp_path / "good.json")
    with pytest.raises(PlanError, match="it lacks 'q', 'v'; make it anew"):
        ckptkit.remap({"other": torch.ones(1)}, loaded)
    assert ckptkit.remap(tmp_path / "a.safetensors", loaded)["q"].shape == (2, 4)


def test_a_plan_is_never_written_over_a_file(plan: Document, tmp_path: Path) -> None:
    loaded = ckptkit.load_plan(tmp_path / "good.json")
    with pytest.raises(ckptkit.WriteError, match="exists"):
        ckptkit.save_plan(loaded, tmp_path / "a.safetensors")
