"""Messages are of bounded length, whatever a file holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ckptkit
from ckptkit.errors import LONGEST, CkptkitError
from ckptkit.text import quote_list


def test_a_message_about_a_key_of_a_megabyte_has_a_beginning_and_an_end(tmp_path: Path) -> None:
    """G3: file and reason are there, and a terminal can show it."""
    key = "k" * (1 << 20)
    torch.save({key: torch.ones(1, dtype=torch.complex128)}, tmp_path / "f.pt")
    with pytest.raises(CkptkitError, match="or write a torch file") as caught:
        ckptkit.save(tmp_path / "f.pt", tmp_path / "o.safetensors")
    assert len(str(caught.value)) < LONGEST
    assert str(caught.value).startswith("safetensors has no complex128, the dtype of 'kkk")
    assert caught.value.key == key


def test_a_message_of_usual_length_is_kept() -> None:
    assert str(CkptkitError("x" * LONGEST)) == "x" * LONGEST


def test_long_keys_are_quoted_cut_in_the_middle() -> None:
    text = quote_list(["a", "b" * 100, "c" * 2000], 3)
    assert text.startswith(f"'a', '{'b' * 100}', 'ccc")
    assert "..." in text
    assert len(text) < 400
