"""TorchScript and torch.export archives are the state_dicts that torch gives of them; their programs are not run."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ckptkit
from ckptkit.errors import CkptkitError, FormatError, UnsupportedFormatError
from ckptkit.execute import check_target

from . import users_code as users
from .test_whole_models import expected, read_elsewhere

pytestmark = pytest.mark.filterwarnings("ignore")


class Scripted(nn.Module):
    """Parameters, both kinds of buffers, tensors that are neither, ties, lists, an optional one that is None."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.c = nn.Linear(2, 2, bias=False)
        self.c.weight = self.a.weight
        self.norm = nn.BatchNorm1d(2)
        self.p = nn.Parameter(torch.randn(2), requires_grad=False)
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("hidden", torch.ones(1), persistent=False)
        self.register_buffer("missing", None)
        self.loose = torch.zeros(3)
        self.table = {"x": torch.ones(2)}
        self.many = nn.ModuleList([nn.Linear(2, 2), nn.ReLU()])
        self.turned = nn.Parameter(torch.randn(3, 2).t())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for module in self.many:
            x = module(x)
        x = self.c(self.norm(self.a(x))) + self.p + self.hidden + self.loose[0]
        return x @ self.turned


def _traced(model: nn.Module, *inputs: torch.Tensor) -> Any:
    return torch.jit.trace(model.eval(), inputs)


SCRIPTED: dict[str, Callable[[], Any]] = {
    "scripted": lambda: torch.jit.script(Scripted()),
    "traced": lambda: _traced(Scripted(), torch.ones(1, 2)),
    "lstm": lambda: torch.jit.script(nn.LSTM(2, 3)),
    "attention": lambda: torch.jit.script(nn.MultiheadAttention(4, 2)),
    "convolution": lambda: _traced(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), torch.ones(1, 1, 4, 4)
    ),
    "half": lambda: torch.jit.script(nn.Linear(3, 2).bfloat16()),
    "transformer": lambda: torch.jit.script(nn.TransformerEncoderLayer(8, 2, 16)),
    "nothing": lambda: torch.jit.script(nn.ReLU()),
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("script")
    for name, build in SCRIPTED.items():
        build().save(str(folder / f"{name}.pt"))
    return read_elsewhere([str(path) for path in folder.iterdir()]), folder


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_script_is_the_state_dict_that_torch_gives(name: str, scripts: Any) -> None:
    found, folder = scripts
    state = torch.jit.load(folder / f"{name}.pt").state_dict()
    told = found[name]
    assert {part: told[part] for part in ("tensors", "order", "tied")} == expected(state)
    assert told["versions"] == {key: dict(value) for key, value in state._metadata.items()}
    assert any("its code is not run and not kept" in note for note in told["notes"])
    assert ckptkit.verify(folder / f"{name}.pt").ok


EXPORTED: dict[str, Callable[[], tuple[nn.Module, tuple[torch.Tensor, ...]]]] = {
    "model": lambda: (Scripted(), (torch.ones(1, 2),)),
    "half": lambda: (nn.Linear(3, 2).bfloat16(), (torch.ones(1, 3, dtype=torch.bfloat16),)),
    "tied": lambda: (Tied(), (torch.tensor([1]),)),
}


class Tied(users.Tied):
    """One that can be called."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.embed(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_is_the_state_dict_that_torch_gives(name: str, tmp_path: Path) -> None:
    model, inputs = EXPORTED[name]()
    torch.export.save(torch.export.export(model.eval(), inputs), tmp_path / "e.pt2")
    state = torch.export.load(tmp_path / "e.pt2").state_dict
    told = read_elsewhere([str(tmp_path / "e.pt2")])["e"]
    assert {part: told[part] for part in ("tensors", "order", "tied")} == expected(state)
    with ckptkit.open(tmp_path / "e.pt2") as checkpoint:
        for key, value in state.items():
            assert checkpoint[key].equal(value) and checkpoint[key].stride() == value.stride()
            assert checkpoint.source.flags(key) == (value.requires_grad, isinstance(value, nn.Parameter))
    assert ckptkit.verify(tmp_path / "e.pt2").ok


@pytest.mark.parametrize("kind", ["script", "export", "whole", "arrays"])
def test_what_holds_more_than_weights_is_converted_and_not_rewritten_in_place(
    kind: str, tmp_path: Path
) -> None:
    path, model = tmp_path / "f.pt", nn.Linear(2, 1)
    if kind == "script":
        torch.jit.script(model).save(str(path))
    elif kind == "export":
        torch.export.save(torch.export.export(model, (torch.ones(1, 2),)), tmp_path / "f.pt2")
        (tmp_path / "f.pt2").rename(path)
    else:
        state = {key: value.numpy() for key, value in model.state_dict().items()}
        torch.save(model if kind == "whole" else state, path)
    before = path.read_bytes()
    with pytest.raises(ckptkit.UsageError, match="is read and not rewritten"):
        check_target(ckptkit.plan(ckptkit.open(path), []), ckptkit.open(path), path, in_place=True)
    assert path.read_bytes() == before
    ckptkit.save(path, tmp_path / "o.pt")
    back = torch.load(tmp_path / "o.pt", weights_only=True)
    assert all(back[key].equal(value) for key, value in model.state_dict().items())
    assert ckptkit.open(tmp_path / "o.pt").source.frozen == ""


def rezipped(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The archive with other entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    target = path.with_name("changed.pt")
    target.write_bytes(out.getvalue())
    return target


@pytest.mark.parametrize(
    "line",
    [
        b'  __parameters__ = [__import__("os").getcwd(), ]',
        b'  __parameters__ = ["weight" "bias", ]',
        b'  __parameters__ = ["weight", ] + ["bias"]',
        b"  __parameters__ = weight",
        b'  __parameters__ = ["we\\u0069ght", ]',
    ],
)
def test_a_program_that_does_not_say_plainly_what_is_saved_is_refused(line: bytes, tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "f.pt"))
    plain = b'  __parameters__ = ["weight", "bias", ]'
    path = rezipped(tmp_path / "f.pt", lambda _, held: held.replace(plain, line))
    with pytest.raises(
        UnsupportedFormatError, match="does not say plainly which of its attributes are saved"
    ):
        ckptkit.open(path)


def test_a_program_without_its_code_or_with_text_that_is_none_is_refused(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "f.pt"))
    for change, words in (
        (lambda name, held: None if name.endswith(".py") else held, "the object is no module"),
        (lambda name, held: b"\xff" if name.endswith(".py") else held, "is no text"),
    ):
        with pytest.raises(UnsupportedFormatError, match=words):
            ckptkit.open(rezipped(tmp_path / "f.pt", change))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            b'"sizes": [{"as_int": 1}, {"as_int": 2}]',
            b'"sizes": [{"as_int": 9}, {"as_int": 2}]',
            "bytes of a storage",
        ),
        (b'"weight_0"', b'"../model.json"', "its file is not in the archive"),
        (b'"dtype": 7', b'"dtype": 99', "dtype number 99 is unknown"),
        (b'"as_int": 2', b'"as_expr": "2"', "are not plain numbers"),
        (b'"storage_offset": {"as_int": 0}', b'"storage_offset": {"as_int": -1}', "are not plain numbers"),
        (b'{"config"', b'{"config": {}, "config"', "two"),
        (b'{"config"', b'{"other"', "has no object `config`"),
    ],
)
def test_a_damaged_list_of_weights_is_one_error(old: bytes, new: bytes, words: str, tmp_path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 1), (torch.ones(1, 2),)), tmp_path / "f.pt2")

    def change(name: str, held: bytes) -> bytes:
        return held.replace(old, new) if name.endswith("_weights_config.json") else held

    path = rezipped(tmp_path / "f.pt2", change)
    with pytest.raises(FormatError, match=words if words != "two" else "twice|two|duplicate"):
        ckptkit.open(path)


def test_cut_and_flipped_programs_are_read_right_or_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    torch.jit.script(model).save(str(tmp_path / "s.pt"))
    torch.export.save(torch.export.export(model.eval(), (torch.ones(1, 2),)), tmp_path / "e.pt2")
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for name in ("s.pt", "e.pt2"):
        whole = (tmp_path / name).read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 150)):
            for changed in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]):
                path = tmp_path / "changed"
                path.write_bytes(changed)
                try:
                    with ckptkit.open(path) as checkpoint:
                        for key in checkpoint:
                            assert key not in state or checkpoint[key].equal(state[key])
                except CkptkitError:
                    pass


def test_a_frozen_script_is_refused_and_not_taken_for_a_model_without_weights(tmp_path: Path) -> None:
    script = torch.jit.freeze(torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 2)).eval()))
    torch.jit.save(script, tmp_path / "frozen.pt")
    with pytest.raises(
        ckptkit.FormatError, match=r"a frozen TorchScript archive, .*; give the archive that was saved before"
    ):
        ckptkit.open(tmp_path / "frozen.pt")
    assert ckptkit.verify(tmp_path / "frozen.pt").outcome == "not understood"
