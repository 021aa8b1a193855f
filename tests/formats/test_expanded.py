"""Files that repeat a few bytes without end are refused by whoever would look at all the values, and by nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit
from ckptkit.cli.app import run
from ckptkit.content import row_major_bytes
from ckptkit.errors import CkptkitError
from ckptkit.formats.memory import MemorySource
from ckptkit.formats.tensor_bytes import flat_bytes

HUGE = (2**20, 2**20)
STATES: dict[str, Callable[[], Any]] = {
    "one": lambda: {"w": torch.ones(1).expand(HUGE)},
    "flat": lambda: {"w": torch.ones(1).expand(2**40)},
    "conjugated": lambda: {"w": torch.ones(1, dtype=torch.complex64).expand(HUGE).conj()},
    "negated": lambda: {"w": torch.ones(1, dtype=torch.complex64).expand(HUGE).conj().imag},
    "many": lambda: {f"w{i}": torch.ones(1).expand(2**26) for i in range(300)},
    "inside": lambda: {"w": torch.ones(2), "odd": {"inner": [torch.ones(1).expand(HUGE)]}},
}
COMMANDS = (
    ["verify", "--hash", "f.pt"],
    ["verify", "--finite", "f.pt"],
    ["inspect", "--stats", "f.pt"],
    ["diff", "--values", "f.pt", "f.pt"],
    ["diff", "f.pt", "other.pt"],
    ["convert", "f.pt", "o.safetensors"],
    ["remap", "f.pt", "o.safetensors", "--cast", "float16"],
    ["remap", "f.pt", "o.pt", "--cast", "float16"],
)


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_values_without_end_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    command: list[str],
) -> None:
    """G5, G6: a file of two kilobytes is answered at once; nothing is written."""
    monkeypatch.chdir(tmp_path)
    state = STATES[name]()
    torch.save(state, "f.pt")
    torch.save({f"other.{key}": value for key, value in state.items()}, "other.pt")
    looks = name != "inside" or command[:2] not in (
        ["verify", "--finite"], ["inspect", "--stats"], ["diff", "f.pt"],
    )  # fmt: skip
    code = run(command)
    assert code == (2 if looks else int(command[0] == "diff"))
    words = capsys.readouterr().err
    assert "is an expanded view: " in words or "safetensors" in words or not looks
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.pt", "other.pt"]


def test_views_that_are_only_kept_stay_what_they_are(tmp_path: Path) -> None:
    """G18, G19."""
    torch.save({"w": torch.ones(1).expand(HUGE), "v": torch.ones(2)}, tmp_path / "f.pt")
    opened = ckptkit.open(tmp_path / "f.pt")
    assert opened["w"].stride() == (0, 0)
    ckptkit.save(
        ckptkit.remap(tmp_path / "f.pt", [{"op": "rename", "pattern": "^", "replacement": "x."}]),
        tmp_path / "o.pt",
    )
    assert ckptkit.open(tmp_path / "o.pt")["x.w"].shape == HUGE
    assert (tmp_path / "o.pt").stat().st_size < 5000


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(1).expand(2**22),
        torch.arange(8.0).expand(2**19, 8),
        torch.arange(8.0)[:, None].expand(8, 2**19),
        torch.arange(2.0**20).reshape([2] * 20).permute(*range(19, -1, -1)),
        torch.arange(6).to(torch.complex128).reshape(2, 3).t(),
        torch.arange(6).to(torch.complex128)[::2],
        torch.arange(24).reshape(2, 3, 4)[:, :, ::2],
        torch.ones(3, 1, 1).expand(3, 2, 1),
    ],
    ids=lambda tensor: f"{tensor.numel()} {tensor.stride()[:3]}",
)
def test_views_of_any_strides_have_their_bytes_in_few_steps(tensor: torch.Tensor) -> None:
    """G5, G19: repeated values are no million of steps, nor are twenty dimensions."""
    found = b"".join(map(bytes, row_major_bytes(MemorySource({"w": tensor}), "w")))
    assert found == bytes(flat_bytes(tensor).numpy())


def test_the_refusal_counts_what_is_small_alone(tmp_path: Path) -> None:
    torch.save({f"w{i}": torch.ones(1).expand(2**27) for i in range(3)}, tmp_path / "f.pt")
    with pytest.raises(
        CkptkitError, match="'w2' is an expanded view: 4 bytes .* and 1610612736 with those of"
    ):
        ckptkit.save(tmp_path / "f.pt", tmp_path / "o.safetensors")


@pytest.mark.parametrize(
    "look",
    [
        lambda path: ckptkit.remap(path, [{"op": "cast", "dtype": "float16"}])["w"],
        lambda path: ckptkit.verify_roundtrip(path, [{"op": "rename", "pattern": "^", "replacement": "x."}]),
    ],
)
def test_python_is_refused_too_when_it_computes_with_them(
    tmp_path: Path, look: Callable[[Path], Any]
) -> None:
    """G3: instead of an error of torch about terabytes of memory."""
    torch.save({"w": torch.ones(1).expand(HUGE)}, tmp_path / "f.pt")
    with pytest.raises(CkptkitError, match="'w' is an expanded view"):
        look(tmp_path / "f.pt")
