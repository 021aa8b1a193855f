"""A new name that looks like a slip is an error, and the spelling that it offers does what was meant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.__main__ import main
from ckptkit.errors import PlanError
from ckptkit.naming import may_be_strange, strange
from ckptkit.rules import NAMING

from .test_laws import moved, plan

KEYS = [f"layers.{n}.{part}.weight" for n in range(3) for part in ("q", "attn_k")]
OFFER = re.compile(r"did you mean pattern '(.*)' with (replacement|into) '(.*)'\? allow_literal")


def refusal(keys: list[str], rule: dict[str, Any]) -> str:
    with pytest.raises(PlanError, match="allow_literal: true permits it") as caught:
        plan(keys, rule)
    return caught.value.message


SLIPS = {
    "dollar": ("$1", "$2"),
    "braces": ("${1}", "${2}"),
    "named": ("{n}", "{part}"),
    "dollar_named": ("${n}", "${part}"),
    "star": ("*", "*"),
    "doubled": (r"\\1", r"\\2"),
}


@given(
    slip=st.sampled_from(sorted(SLIPS)),
    groups=st.sampled_from([r"(?P<n>\d+)", r"(?P<n>[^.]+)"]),
    template=st.sampled_from(["blocks.1.2.w", "h1.2", "1.x.2.weight", "a.1.b.2", "1.2"]),
    ends=st.sampled_from([("^", "$"), ("^", ""), ("", "$")]),
)
def test_the_offered_spelling_does_what_the_right_rule_does(
    slip: str, groups: str, template: str, ends: tuple[str, str]
) -> None:
    pattern = rf"{ends[0]}layers\.{groups}\.(?P<part>\w+)\.weight{ends[1]}"
    first, second = SLIPS[slip]
    meant = template.replace("1", r"\1").replace("2", r"\2")
    # Not by `replace` alone: the second would find the digits of the first.
    written = re.sub("[12]", lambda found: first if found[0] == "1" else second, template)
    message = refusal(KEYS, {"op": "rename", "pattern": pattern, "replacement": written})
    found = OFFER.search(message)
    assert found, message
    right = plan(KEYS, {"op": "rename", "pattern": pattern, "replacement": meant})
    assert moved(plan(KEYS, {"op": "rename", "pattern": found[1], "replacement": found[3]})) == moved(right)


@given(
    glob=st.sampled_from(["layers.*.q.weight", "layers.*.q", "layers.*.*.weight", "layers.*"]),
    anchored=st.booleans(),
)
def test_a_glob_is_offered_as_the_regular_expression_that_it_stands_for(glob: str, anchored: bool) -> None:
    new = glob.replace("layers", "blocks").replace("q", "query")
    message = refusal(KEYS, {"op": "rename", "pattern": f"{'^' * anchored}{glob}", "replacement": new})
    found = OFFER.search(message)
    assert found, message
    made = moved(plan(KEYS, {"op": "rename", "pattern": found[1], "replacement": found[3]}))
    changed = [old for old in KEYS if made[old] != old]
    assert changed
    for old in changed:
        assert made[old] == old.replace("layers", "blocks" if "layers" in glob else "layers").replace(
            ".q.", ".query." if "q" in glob else ".q."
        )


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            {"op": "rename", "pattern": "layers.*.q", "replacement": "blocks.*.q"},
            r"'layers.0.q' would become 'blocks.*.q', with '*' as it stands; did you mean pattern '^layers\.(\d+)\.q' with "
            r"replacement 'blocks.\1.q'? allow_literal: true permits it",
        ),
        (
            {"op": "rename", "pattern": r"^layers\.\d+\.q", "replacement": "blocks.*.q"},
            r"did you mean pattern '^layers\.(\d+)\.q' with replacement 'blocks.\1.q'?",
        ),
        (
            {"op": "rename", "pairs": [["nothing", "x"], [r"layers\.(\d+)", "$1"]], "required": False},
            r"did you mean pattern 'layers\.(\d+)' with replacement '\1'?",
        ),
        (
            {"op": "rename", "pattern": "layers", "replacement": ""},
            r"'layers.0.q' would become '.0.q', with an empty segment; did you mean pattern 'layers\.' with replacement ''?",
        ),
        (
            {"op": "rename", "pattern": r"layers\.(\d+)", "replacement": r"blocks.\1."},
            r"would become 'blocks.0..q', with an empty segment; did you mean pattern 'layers\.(\d+)' with replacement "
            r"'blocks.\1'?",
        ),
        (
            {"op": "rename", "pattern": "q$", "replacement": "q?"},
            "'layers.0.q' would become 'layers.0.q?', with '?' as it stands; wildcards are for patterns, a new name "
            "is written out; allow_literal",
        ),
        ({"op": "strip_prefix", "prefix": "layers"}, "did you mean prefix 'layers.'? allow_literal"),
        ({"op": "add_prefix", "prefix": "m.."}, "did you mean prefix 'm.'? allow_literal"),
        ({"op": "add_prefix", "prefix": "."}, "with an empty segment; change the dots in the rule; allow_literal"),
        (
            {"op": "copy", "key": "layers.0.q", "into": "$1"},
            r"with '$1' as it stands; write '\1' for the text of the first group in the pattern; allow_literal",
        ),
        (
            {"op": "copy", "pattern": r"(.*)\.q", "into": "$1.r"},
            r"did you mean pattern '(.*)\.q' with into '\1.r'?",
        ),
        (
            {"op": "split", "pattern": r"(.*0)\.q", "into": [r"\1.a", "$1.b"], "sizes": [1, 0]},
            r"did you mean pattern '(.*0)\.q' with into '\1.b'?",
        ),
        (
            {"op": "unstack", "pattern": r"(.*)\.q", "into": "$1.{index}"},
            r"did you mean pattern '(.*)\.q' with into '\1.{index}'?",
        ),
        (
            {"op": "concat", "patterns": [r"(.*)\.q", r"(.*)\.k"], "into": "$1.qk"},
            r"did you mean pattern '(.*)\.q' with into '\1.qk'?",
        ),
        (
            {"op": "stack", "pattern": r"layers\.(?P<index>\d+)\.(.*)", "into": "layers.$2"},
            r"did you mean pattern 'layers\.(?P<index>\d+)\.(.*)' with into 'layers.\2'?",
        ),
    ],
)  # fmt: skip
def test_every_rule_that_makes_names_says_what_was_meant(rule: dict[str, Any], words: str) -> None:
    keys = [f"layers.{n}.{part}" for n in range(2) for part in ("q", "k")]
    message = refusal(keys, rule)
    assert words in message
    assert message.startswith(f"rules.0 ({rule['op']}): 'layers.0.q' would become ")


@given(names=st.lists(st.text("a.*$1{}\\?[\n", max_size=5), max_size=4))
def test_what_is_known_of_many_names_holds_of_each(names: list[str]) -> None:
    if any(strange(name) is not None for name in names):
        assert may_be_strange(names)
    assert not may_be_strange(["a.b", "layers.0.weight"])


def test_every_rule_that_makes_names_has_the_permission() -> None:
    assert {
        "add_prefix",
        "concat",
        "copy",
        "rename",
        "renumber",
        "split",
        "stack",
        "strip_prefix",
        "unstack",
    } == NAMING


@pytest.mark.parametrize("key", ["a*b", "w[0]", "a..b", ".a", "cost.$1", "{n}.x", "a?", r"p\1", ""])
def test_what_the_old_name_had_the_new_one_may_have(key: str) -> None:
    made = moved(plan([key, "x"], {"op": "add_prefix", "prefix": "model."}))
    assert made[key] == f"model.{key}"


def test_a_glob_like_name_is_made_where_it_is_permitted() -> None:
    rule = {"op": "rename", "pattern": "^a$", "replacement": "b.*..$1", "allow_literal": True}
    assert moved(plan(["a"], rule)) == {"a": "b.*..$1"}
    assert strange("b.*..$1", "a") == "*"


def test_the_command_line_offers_the_option_to_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "a.safetensors")
    ckptkit.save({"layers.0.q": torch.ones(1), "it's.0": torch.ones(1)}, file)
    for options, words in [
        (
            ["--rename", "layers.*.q", "blocks.*.q"],
            r"did you mean --rename '^layers\.(\d+)\.q' 'blocks.\1.q'? allow_literal: true in a --config permits it",
        ),
        (["--strip-prefix", "layers"], "did you mean --strip-prefix 'layers.'? allow_literal"),
        (["--rename", "it's.*", "its.$1"], """did you mean --rename '^it'"'"'s\\.(\\d+)' 'its.\\1'? allow"""),
    ]:
        assert main(["remap", file, "--dry-run", *options]) == 2
        assert words in capsys.readouterr().err
