"""Whatever is pasted gets an answer: soon, and without an exception."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.config.load import LoadConfig
from ckptkit.explanation import Explanation

ERROR = """RuntimeError: Error(s) in loading state_dict for Net:
\tMissing key(s) in state_dict: "stem.weight", "stem.bias", "blocks.0.attn.q.weight", "blocks.1.attn.q.weight".
\tUnexpected key(s) in state_dict: "module.stem.weight", "module.stem.bias", "module.blocks.0.attn.q.weight".
\tsize mismatch for head.weight: copying a param with shape torch.Size([5, 8]) from checkpoint, the shape in current model \
is torch.Size([7, 8])."""
OTHERS = [
    "",
    'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nZeroDivisionError: division by zero',
    "npm ERR! code ENOENT",
    "the quick brown fox jumps over the lazy dog. " * 50,
    "loss=0.1234 step=100 lr=1e-4\n" * 200,
]


def checked(text: str) -> Explanation:
    """The explanation, whose document is complete and whose fixes are configs."""
    explanation = ckptkit.explain(text)
    document = explanation.to_json()
    assert set(document["parsed"]) == {"class_name", "missing", "unexpected", "mismatched", "truncated"}
    for finding in explanation.findings:
        if finding.fix is not None:
            LoadConfig.parse({**finding.fix.load, "rules": list(finding.fix.remap)})
    assert str(explanation)
    return explanation


@given(st.text(max_size=2000))
@settings(deadline=None, max_examples=100)
def test_any_text_gets_an_answer(text: str) -> None:
    checked(text)


PIECES = st.sampled_from(["\n", '"', ".", "x", "torch.Size([", "", "…", "}", "> "])


@given(st.lists(st.tuples(st.integers(0, len(ERROR)), PIECES), max_size=12), st.integers(0, len(ERROR)))
@settings(deadline=None, max_examples=150)
def test_a_mutated_error_gets_an_answer(edits: list[tuple[int, str]], end: int) -> None:
    text = ERROR[: end or None]
    for place, new in edits:
        text = text[:place] + new + text[place + 1 :]
    checked(text)


KEYS = st.lists(st.text("abc._0[]{}\\*+?^$()é ", max_size=12), max_size=12)


@given(KEYS, KEYS, st.booleans())
@settings(deadline=None, max_examples=150)
def test_keys_of_any_kind_get_an_answer(missing: list[str], unexpected: list[str], quoted: bool) -> None:
    lists = [", ".join(f'"{key}"' if quoted else key for key in keys) for keys in (missing, unexpected)]
    checked(f"Missing key(s) in state_dict: {lists[0]}.\n\tUnexpected key(s) in state_dict: {lists[1]}.")


@pytest.mark.parametrize("text", OTHERS, ids=range(len(OTHERS)))
def test_text_that_is_no_load_failure_gets_an_honest_nothing(text: str) -> None:
    explanation = checked(text)
    assert explanation.findings == ()
    assert str(explanation).startswith(
        "Nothing here looks like a failure to load a checkpoint. Give the whole message"
    )


def many(count: int) -> str:
    ours = ", ".join(f'"layers.{i}.attn.q_{i % 7}.weight"' for i in range(count))
    theirs = ", ".join(f'"blocks.{i}.mha.p_{i % 5}.weight"' for i in range(count))
    return f"Missing key(s) in state_dict: {ours}.\n\tUnexpected key(s) in state_dict: {theirs}."


HUGE: dict[str, Any] = {
    "keys": lambda: many(12_000),
    "quotes": lambda: "Missing key(s) in state_dict: " + '"' * (1 << 20),
    "one key": lambda: 'Missing key(s) in state_dict: "' + "a." * (1 << 19),
    "sizes": lambda: "size mismatch for " * 60_000,
    "brackets": lambda: "torch.Size([" * 80_000,
    "table": lambda: "a | MISSING |\n" * 70_000,
    "noise": lambda: "".join(chr(33 + (i * 7919) % 90) for i in range(1 << 20)),
    "spaces": lambda: "KeyError: '" + " " * (1 << 20),
    "folds": lambda: "a{0...999}{0...999}{0...999} | MISSING |\n",
}


@pytest.mark.parametrize("name", HUGE)
def test_a_megabyte_ends_soon(name: str) -> None:
    start = time.monotonic()
    checked(HUGE[name]())
    assert time.monotonic() - start < 30, "a deadline that proves that it ends"


@pytest.mark.parametrize("dress", [
    lambda t: "\n".join(f"> {line}" for line in t.split("\n")),
    lambda t: "\n".join(f"[rank0]: {line}" for line in t.split("\n")),
    lambda t: "\n".join(f"E       {line}" for line in t.split("\n")),
    lambda t: f"\x1b[31m{t}\x1b[0m",
    lambda t: t.replace('"', "\u201d"),
    lambda t: t.replace("module.stem.bias", "module.st\nem.bias"),
    lambda t: f"```\n{t}\n```",
    lambda t: t.replace("\n\t", " "),
])  # fmt: skip
def test_how_a_text_is_dressed_does_not_matter(dress: Any) -> None:
    plain, dressed = checked(ERROR), checked(dress(ERROR))
    assert dressed.parsed.missing == plain.parsed.missing
    assert dressed.parsed.unexpected == plain.parsed.unexpected
    assert [f.cause for f in dressed.findings] == [f.cause for f in plain.findings]
