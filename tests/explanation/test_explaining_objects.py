"""`explaining()` looks at what failed to load itself, not only at the words about it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

import ckptkit


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.square, self.narrow = nn.Linear(4, 12), nn.Linear(4, 4), nn.Linear(12, 4)


def model() -> nn.Module:
    return nn.Sequential(*(Block() for _ in range(2)))


def turned() -> dict[str, torch.Tensor]:
    return {
        key: value.t().contiguous() if value.dim() == 2 else value
        for key, value in model().state_dict().items()
    }


def note_of(target: Any, state: Any) -> tuple[RuntimeError, str]:
    with pytest.raises(RuntimeError) as caught, ckptkit.explaining():
        target.load_state_dict(state)
    (note,) = caught.value.__notes__
    return caught.value, note


def test_square_weights_which_no_text_names_are_in_the_fix() -> None:
    error, note = note_of(model(), turned())
    assert "2 square weights of the same blocks" in note
    assert "square weights of the same blocks" not in str(ckptkit.explain(str(error)))


def test_it_is_found_below_the_functions_of_others() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model()

        def restore(self, file: dict[str, Any]) -> None:
            self.inner.load_state_dict(file["weights"])

    with pytest.raises(RuntimeError) as caught, ckptkit.explaining():
        Outer().restore({"weights": turned()})
    assert "2 square weights" in caught.value.__notes__[0]


def test_objects_that_cannot_be_looked_at_leave_the_text() -> None:
    class Shy(nn.Linear):
        def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
            raise ValueError("not now")

    _, note = note_of(Shy(2, 3), {"module.weight": torch.ones(3, 2), "module.bias": torch.ones(3)})
    assert "prefix_strip" in note


def test_nothing_is_kept_alive_and_the_error_is_what_it_was() -> None:
    target = model()
    gone = weakref.ref(target)
    error, note = note_of(target, turned())
    assert type(error) is RuntimeError
    assert str(error).startswith("Error(s) in loading state_dict for Sequential")
    del target, error, note
    gc.collect()
    assert gone() is None
