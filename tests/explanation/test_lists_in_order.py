"""Both lists of an error stand in the model's order: many names may change at once, and chance is not taken for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.explanation.aligned import aligned
from ckptkit.explanation.renaming import renamed

WORDS = st.lists(
    st.sampled_from(["attn", "mlp", "norm", "gate", "proj", "dense", "value", "query", "mixer", "stem"]),
    min_size=2,
    max_size=4,
    unique=True,
)
OTHERS = ["alpha", "bravo", "delta", "echo", "foxtrot", "golf", "hotel", "india", "kilo", "lima"]


def error(missing: list[str], unexpected: list[str]) -> str:
    lists = (("Missing", missing), ("Unexpected", unexpected))
    return "RuntimeError: Error(s) in loading state_dict for Net:\n" + "".join(
        f"\t{head} key(s) in state_dict: " + ", ".join(f'"{key}"' for key in keys) + ". \n"
        for head, keys in lists
    )


@given(WORDS, st.integers(2, 4), st.randoms(use_true_random=False))
def test_every_name_of_a_block_may_change(words: list[str], blocks: int, random: Any) -> None:
    new = dict(zip(words, random.sample(OTHERS, len(words)), strict=True))
    ours = [
        f"layers.{i}.{word}.{leaf}" for i in range(blocks) for word in words for leaf in ("weight", "bias")
    ]
    theirs = [
        f"layers.{i}.{new[word]}.{leaf}"
        for i in range(blocks)
        for word in words
        for leaf in ("weight", "bias")
    ]
    rules = aligned(theirs, ours, False)
    assert [renamed(rules, key) for key in ours] == theirs
    (finding, *_) = ckptkit.explain(error(theirs, ours)).findings
    assert finding.cause == "rename"
    assert finding.fix is not None
    assert [renamed(finding.fix.remap, key) for key in ours] == theirs


@given(WORDS, st.randoms(use_true_random=False))
def test_names_that_share_no_word_are_no_renaming_where_nothing_recurs(words: list[str], random: Any) -> None:
    new = random.sample(OTHERS, len(words))
    assert aligned([f"{word}.weight" for word in new], [f"{word}.weight" for word in words], False) == []


def test_a_last_part_that_is_called_otherwise_is_a_renaming() -> None:
    ours = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    theirs = [f"{key}_l0" for key in ours]
    (finding, *_) = ckptkit.explain(error(theirs, ours)).findings
    assert finding.cause == "rename"
    assert finding.fix is not None
    assert [renamed(finding.fix.remap, key) for key in ours] == theirs


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("blocks", [2, 3, 12])
def test_blocks_that_are_counted_from_another_number_all_move(first: int, blocks: int) -> None:
    """Only the first and the last block are in the text: the others have the names of their neighbours."""
    leaves = ("attn.weight", "mlp.weight", "norm.weight", "norm.bias")
    ours = [f"h.{i + first}.{leaf}" for i in range(blocks) for leaf in leaves]
    theirs = [f"h.{i + 1 - first}.{leaf}" for i in range(blocks) for leaf in leaves]
    (finding, *_) = ckptkit.explain(
        error([k for k in theirs if k not in ours], [k for k in ours if k not in theirs])
    ).findings
    assert finding.cause == "rename"
    assert finding.fix is not None
    assert [renamed(finding.fix.remap, key) for key in ours] == theirs


def test_slashes_between_the_parts_are_a_renaming() -> None:
    theirs = [f"net.{i}.{leaf}" for i in range(2) for leaf in ("weight", "bias")]
    ours = [key.replace(".", "/") for key in theirs]
    (finding, *_) = ckptkit.explain(error(theirs, ours)).findings
    assert (finding.cause, finding.fix and [renamed(finding.fix.remap, key) for key in ours]) == (
        "rename",
        theirs,
    )
