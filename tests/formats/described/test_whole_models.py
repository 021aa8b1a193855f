"""Models saved whole are the state_dict that they would give, told by a process that has not their code."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ckptkit
from ckptkit.formats.described.versions import version_of

from .models import WHOLE

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, nn.Module], dict[str, Any], Path]:
    """Every model, what was read of its file elsewhere, and the folder of the files."""
    folder = tmp_path_factory.mktemp("whole")
    models = {}
    for name, build in WHOLE.items():
        torch.manual_seed(len(name))
        models[name] = build()
        torch.save(models[name], folder / f"{name.replace('/', '_')}.pt")
    return models, read_elsewhere([str(path) for path in folder.iterdir()]), folder


def read_elsewhere(paths: list[str]) -> dict[str, Any]:
    """What the program `reading` tells of files, by their stem."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-S", str(here / "reading.py")],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    document = json.loads(done.stdout)
    assert document["tried"] == [] and not document["torch"]
    return {Path(path).stem: told for path, told in document["found"].items()}


def expected(state: dict[str, Any], names: dict[int, list[str]] | None = None) -> dict[str, Any]:
    """The same of a live state_dict."""
    tensors = {}
    groups: dict[Any, list[str]] = {}
    for key, value in state.items():
        if not isinstance(value, torch.Tensor):
            tensors[key] = ["object"]
            continue
        dtype = str(value.dtype).removeprefix("torch.")
        flat = value.detach().contiguous().reshape(-1).view(torch.uint8)
        tensors[key] = [list(value.shape), dtype, hashlib.sha256(flat.numpy().tobytes()).hexdigest()]
        if value.numel():
            place = (
                value.untyped_storage().data_ptr(),
                value.storage_offset(),
                value.shape,
                value.stride(),
                dtype,
            )
            groups.setdefault(place, []).append(key)
    return {
        "tensors": tensors,
        "order": list(tensors),
        "tied": [group for group in groups.values() if len(group) > 1],
    }


@pytest.mark.parametrize("name", WHOLE)
def test_a_model_saved_whole_is_its_state_dict(name: str, saved: Any) -> None:
    models, found, _ = saved
    state = models[name].state_dict()
    told = found[name.replace("/", "_")]
    assert {part: told[part] for part in ("tensors", "order", "tied")} == expected(state)
    versions = {key: dict(value) for key, value in state._metadata.items()}
    kept = told["versions"] or {}
    assert all(versions[place] == version for place, version in kept.items())
    for place, module in models[name].named_modules(remove_duplicate=False):
        if type(module).__module__.startswith("torch.nn."):
            assert kept[place] == versions[place]


def test_the_class_is_named_and_what_its_code_would_do_is_said_not_to_be_known(saved: Any) -> None:
    notes = saved[1]["tied"]["notes"]
    assert any("a whole model, pickled as " in note and "users_code.Tied" in note for note in notes)
    assert any("is not looked up: what a state_dict() of its own" in note for note in notes)
    assert not any("is not looked up" in note for note in saved[1]["linear"]["notes"])


def test_it_is_converted_checked_verified_and_loaded_as_any_state_dict(saved: Any, tmp_path: Path) -> None:
    models, _, folder = saved
    for target in ("a.safetensors", "a.pt"):
        ckptkit.save(ckptkit.open(folder / "tied.pt"), tmp_path / target)
        with ckptkit.open(tmp_path / target) as back:
            assert sorted(back) == sorted(models["tied"].state_dict())
            assert all(back[key].equal(value) for key, value in models["tied"].state_dict().items())
    fresh = WHOLE["tied"]()
    assert not ckptkit.load(fresh, folder / "tied.pt").missing
    assert ckptkit.verify(folder / "linked.pt").ok
    assert torch.load(tmp_path / "a.pt", weights_only=True)["kept"].tolist() == [0, 1, 2]


def test_the_versions_of_torchs_own_classes_are_those_of_this_torch() -> None:
    stack, seen = [nn.Module], set()
    while stack:
        kind = stack.pop()
        stack += kind.__subclasses__()
        told = version_of(kind.__module__, kind.__qualname__)
        if told is not None and kind not in seen and not kind.__name__.startswith("_"):
            assert told == kind._version, kind
        seen.add(kind)
    assert len(seen) > 150
