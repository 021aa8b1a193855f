"""Hostile objects: nothing is executed or looked up, time and memory are bounded, every refusal is one error."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ckptkit
from ckptkit.formats.pickled import Opaque, OrderedNode, paused_gc
from ckptkit.formats.pickled.errors import Refused
from ckptkit.formats.pickled.measuring import measure

from ...deadline import deadline
from . import users_code as users

pytestmark = pytest.mark.filterwarnings("ignore")
SECONDS = float(os.environ.get("CKPTKIT_FUZZ_SECONDS", "0"))
COUNT = 250


def _saved(save: Callable[[Any], object]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def _whole(stream: Any) -> None:
    torch.save(
        {"model": users.Tied(), "ema": users.Shared(), "config": users.Linked(), "n": np.arange(3)}, stream
    )


VALID: dict[str, Callable[[], bytes]] = {
    "whole": lambda: _saved(_whole),
    "legacy": lambda: _saved(lambda s: torch.save(users.Tied(), s, _use_new_zipfile_serialization=False)),
    "script": lambda: _saved(lambda s: torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.GRU(2, 1))), s)),
    "export": lambda: _saved(lambda s: torch.export.save(torch.export.export(nn.Linear(2, 1), (torch.ones(1, 2),)), s)),
    "pickle": lambda: pickle.dumps({"model": {"w": np.ones((2, 3)), "b": np.arange(3, dtype=">i4")}, "__author__": "x"}, 2),
    "npz": lambda: _saved(lambda s: np.savez(s, w=np.ones((2, 3)), b=np.asfortranarray(np.ones((2, 2), "f2")))),
}  # fmt: skip


@pytest.mark.parametrize("kind", VALID)
def test_no_mutated_object_runs_looks_up_crashes_or_ends_in_a_foreign_exception(
    kind: str, tmp_path: Path
) -> None:
    limit = [str(10**9), str(SECONDS)] if SECONDS else [str(COUNT), "90"]
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            str(Path(__file__).parent / "fuzzing.py"),
            kind,
            "0",
            *limit,
            str(tmp_path),
        ],
        input=VALID[kind](),
        capture_output=True,
        timeout=SECONDS + 200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:])},
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{kind}: {result['outcomes']}")
    assert result["wrong"] == [] and not result["memory"]
    assert {"ok", "error"} >= set(result["outcomes"]) and result["outcomes"]["error"] > 0


def _chain(length: int) -> Any:
    node: Any = Opaque("a", "B", (), {})
    for _ in range(length):
        node = Opaque("a", "B", (), {"next": node, "more": [node, (node,)]})
    return node


def _ladder(length: int) -> Any:
    """Tuples that all lead back to one list, which holds all of them."""
    top: list[Any] = []
    inner: Any = (top,)
    for _ in range(50):
        inner = (inner, *range(2))
    top += [(inner, number) for number in range(length)]
    return top


def _wide(length: int) -> Any:
    """Many objects that share one list, which is too deep to be walked."""
    deep: list[Any] = []
    for _ in range(150):
        deep = [deep]
    shared = [*range(length), deep]
    return [Opaque("a", "B", (), {"x": shared}) for _ in range(length)]


@pytest.mark.parametrize("make", [_chain, _ladder, _wide])
def test_tangled_objects_are_measured_in_linear_time(make: Callable[[int], Any]) -> None:
    """Twice over all of them would take ten thousand million steps."""
    tree = make(100_000)
    with paused_gc(), deadline(60):
        measure(tree, 1 << 30)


def test_what_is_too_deep_is_cut_in_an_object_and_refused_outside() -> None:
    deep: list[Any] = []
    for _ in range(150):
        deep = [deep]
    held = Opaque("a", "B", (), {"x": deep})
    measure(held, 100)
    assert type(held.state) is Opaque and "nested more than 100 deep" in held.state.label
    with pytest.raises(Refused, match="nested more than 100 deep"):
        measure({"x": [deep]}, 100)


def test_a_cycle_is_cut_at_the_nearest_list_or_dictionary() -> None:
    loop: list[Any] = [1]
    loop.append(((loop,), 2))
    state = OrderedNode(a=loop)
    measure(state, 100)
    assert loop[0] == 1 and type(loop[1]) is Opaque and "contains itself" in loop[1].label
    node: dict[Any, Any] = {}
    node["self"], node["list"] = node, [node]
    state.attributes["up"] = state
    measure({"n": node, "s": state}, 100)
    assert type(node["self"]) is Opaque and type(node["list"][0]) is Opaque
    assert type(state.attributes["up"]) is Opaque


def test_a_module_whose_tables_lie_is_an_object(tmp_path: Path) -> None:
    """State that only looks like a module's: foreign children, names that are none, one name twice."""
    for change in (
        lambda m: m._modules.update(x=3),
        lambda m: m._parameters.update({7: torch.ones(1)}),
        lambda m: m._buffers.update(weight=torch.ones(1)),
        lambda m: m._modules.update({"": nn.Linear(1, 1)}),
    ):
        model = nn.Linear(1, 1)
        change(model)
        torch.save({"state_dict": {"w": torch.ones(1)}, "x": model}, tmp_path / "f.pt")
        with ckptkit.open(tmp_path / "f.pt") as checkpoint:
            assert list(checkpoint) == ["w"]
        assert ckptkit.verify(tmp_path / "f.pt").ok
