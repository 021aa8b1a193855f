"""Texts that are made to keep a pattern busy: the time to read one grows as the text does, not as its square."""

from __future__ import annotations

from typing import Any

import pytest

import ckptkit

from ..deadline import deadline

DEADLINE = 20  # seconds; a proof that it ends, not a measurement
SIZE = 100_000  # characters
HEAD = "Missing key(s) in state_dict: "

TEXTS: dict[str, str] = {
    "spaces": "error   \n" + " " * SIZE + "x\n",
    "new lines": "error\n" + "\n" * SIZE + "x",
    "spaces and new lines": "error\n" + " \n\t" * (SIZE // 3) + "x",
    "spaces of a quoted mail": "> \n" * (SIZE // 3) + "x",
    "a row that never ends": "a " * (SIZE // 2),
    "rows of bars": "a |" * (SIZE // 3),
    "folds without numbers": "a{0...999}{0...999}{0...999}{,} | MISSING |\n",
    "many folds": "a{0...999}{0...999} | MISSING |\n" * (SIZE // 32),
    "backticks": HEAD + "`" * SIZE + "x",
    "a process id": "(a pid=" + "1" * SIZE,
    "a dtype": "KeyError: 'F" + "1" * SIZE,
    "adapter keys": "missing adapter keys " * (SIZE // 21),
    "newly initialized": "newly initialized because " * (SIZE // 26),
    "readers": "PytorchStreamReader " * (SIZE // 20),
    "sizes": "size mismatch for a: copying a param of torch.Size([" + "1, " * (SIZE // 3),
    "braces": HEAD + "a." * (SIZE // 2) + "{b, c",
    "one long key": f'size mismatch for {"head" * (SIZE // 4)}: copying a param',
    "heads": HEAD + ", ".join(f'"{"_" * 300}{"head" * 150}-{i}.weight"' for i in range(SIZE // 900)),
    "brothers": HEAD + ", ".join(f'"a{i}.weight"' for i in range(4000)) + ".\n\tUnexpected key(s) in state_dict: "
    + ", ".join(f'"qkv{i}.weight"' for i in range(4000)) + ".",
    "far blocks": f'Error(s) in loading state_dict for Net:\n{HEAD}"layers.1.a.weight", "layers.{10**17}.a.weight".',
    "buffers": HEAD + '"x.weight".\n\tUnexpected key(s) in state_dict: '
    + ", ".join(f'"t{i}.x{i}.position_ids", "t{i}.y.weight"' for i in range(3000)) + ".",
    "shapes": "".join(
        f"size mismatch for head.{i}: copying a param with shape torch.Size([{i}, {i + 1}]) from checkpoint, "
        f"the shape in current model is torch.Size([{i + 2}, 3]).\n" for i in range(5000)),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_made_to_keep_a_pattern_busy_is_answered(name: str) -> None:
    """G5: among them 100,000 characters of white space, of which 1,000 took minutes."""
    with deadline(DEADLINE):
        explanation = ckptkit.explain(TEXTS[name])
        str(explanation)
        explanation.to_json()


@pytest.mark.parametrize(
    ("size", "shape"), [("9" * 5000, None), ("9" * 30, None), ("9" * 18, (int("9" * 18),)), ("", ())]
)
def test_a_size_that_no_tensor_has_is_an_unknown_shape(size: str, shape: Any) -> None:
    """G3: no number of a text is too long for Python."""
    words = (
        f"size mismatch for a: copying a param with shape torch.Size([{size}]) from checkpoint, the shape in current "
        "model is torch.Size([1])."
    )
    (found,) = ckptkit.explain(words).parsed.mismatched
    assert (found.key, found.source_shape) == ("a", shape)
    assert ckptkit.explain(f"Weights only load failed. Unsupported operand {'9' * 5000}").findings


def test_digits_that_are_no_numbers_are_letters() -> None:
    """G3: a superscript is a digit to Python, and no number."""
    keys = ["tower.\u00b2.a.weight", "tower.\u00b2.b.weight", "tower.\u00b9.c.weight"]
    for which in ("Missing", "Unexpected"):
        assert ckptkit.explain(f"{which} key(s) in state_dict: {', '.join(map(repr, keys))}.").findings


def test_long_white_space_says_what_short_white_space_says() -> None:
    words = (
        'Missing key(s) in state_dict:{0}"stem.weight",{0}"stem.bias".{1}'
        'Unexpected key(s) in state_dict:{0}"a.b.weight".'
    )
    plain = ckptkit.explain(words.format(" ", "\n")).parsed
    for gap, line in ((" " * 200, "\n" * 50), ("\n" + " " * 100, "\n" + "\t" * 100)):
        wide = ckptkit.explain(words.format(gap, line)).parsed
        assert (wide.missing, wide.unexpected) == (plain.missing, plain.unexpected)


@pytest.mark.parametrize("key", ["module." * 60 + "w" * 400, "head" * 240, "a.0." * 20 + "q" * 800])
def test_words_about_long_keys_are_short_and_the_keys_stay_whole(key: str) -> None:
    words = (
        f'Missing key(s) in state_dict: "{key}.a", "{key}.b".\n\tUnexpected key(s) in state_dict: "x.{key}.a".\n'
        f"size mismatch for {key}.c: copying a param with shape torch.Size([3]) from checkpoint, the shape in current model "
        "is torch.Size([4])."
    )
    explanation = ckptkit.explain(words)
    assert explanation.parsed.missing == [f"{key}.a", f"{key}.b"]
    for finding in explanation.findings:
        for text in (finding.title, finding.evidence, finding.fix.advice if finding.fix else ""):
            assert len(text) <= 610, text
