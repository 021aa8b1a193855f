"""Regular expressions and globs that could keep a library busy, where nothing can interrupt them."""

from __future__ import annotations

import random
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import ckptkit
from ckptkit.__main__ import main
from ckptkit.errors import ConfigError
from ckptkit.patterns import compile_pattern, nearest
from ckptkit.regexes import compile_regex

from .deadline import deadline

DEADLINE = 30
KEYS = ("a" * 60 + "!", "ab" * 30 + "!", "aA1." * 20 + "!", "a" * 400 + "!", "a.b" * 300 + "!")


@pytest.mark.parametrize(
    "pattern",
    ["(?i)(?:a*A)*$", "(?i)(?:ab|AB)*$", "(?i:(?:[a-z]*A)*)$", "(?i)(?:\u017f*s)*$", "(?:(?=.*b)a)*$", "(?:[^\\W]*\\w)*!"],
)  # fmt: skip
def test_repeats_inside_a_repeat_are_compared_as_the_match_compares_them(pattern: str) -> None:
    """G27: without regard to case where the expression says so, and with what looks ahead at each turn."""
    with pytest.raises(ConfigError, match="nests repeats"):
        compile_regex(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["(?:(?>(?:a*a)*b))*", "(?:(?>(?:a|a)*b))*", "(?:(?:(?:a*a)*b)++c)*", "(?>(?:a*a)*b)*+", "x(?:y(?>(a*?a)+?b))*z"],
)  # fmt: skip
def test_what_is_not_gone_back_into_is_looked_into(pattern: str) -> None:
    """G27: an atomic group, or a possessive repeat, has one way out and may have many to go through inside."""
    with pytest.raises(ConfigError, match="nests repeats"):
        compile_regex(pattern)
    assert compile_regex(r"(?:(?>\w+)\.)*(?>[a-z]+_)*+weight").fullmatch("a.b.c_weight")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(?:(?:a+){4}){4}$", "17 repeats that can all match the same text"),
        (".*" * 10 + "Z$", "11 repeats that can all match the same text"),
        (r"\w+\d*" * 5 + r"\w+!b$", "12 repeats that can all match the same text"),
        ("^" + "a?" * 40 + "a{40}$", "optional parts"),
        ("a+b+" * 200, "more than 300 repeats"),
    ],
)  # fmt: skip
def test_a_high_power_of_the_length_is_refused(pattern: str, reason: str) -> None:
    """G27: when the config is read."""
    with pytest.raises(ConfigError, match=reason):
        compile_regex(pattern)
    with pytest.raises(ConfigError, match=re.escape(reason)):
        ckptkit.RemapConfig.parse({"rules": [{"op": "rename", "pattern": pattern, "replacement": "x"}]})


HONEST = (
    "model.layers.11.self_attn.q_proj.weight",
    "_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.self_attn.q_proj.base_layer.weight",
    "optimizer.state.model.layers.31.block_sparse_moe.experts.7.w1.weight.exp_avg",
    "module." * 20 + "layers.1.attn.weight",
)


@pytest.mark.parametrize(
    "pattern",
    [
        r".*foo.*bar.*",
        r".*layers.*attn.*weight.*",
        r"(.*)\.(.*)\.(.*)\.(.*)",
        r"^(.*)\.(\d+)\.(.*)\.(\d+)\.(.*)\.weight$",
        r"(?:\w+\.)+(\d+)\.(?:\w+\.)+weight",
        r"(\w+)\.(\w+)\.(\w+)\.(\w+)\.(\w+)\.(\w+)\.(\w+)\.(\w+)\.(\w+)\.(\w+)",
        r"(?:model\.)?(?:module\.)?(?:encoder\.)?(?:backbone\.)?layers?\.(\d+)\.(?:self_)?attn\.(.*)",
        r"^(?:.*\.a\..*|.*\.b\..*|.*\.c\..*|.*\.d\..*|.*\.e\..*|.*\.f\..*)$",
        r"(?!.*head)(?!.*embed)(?!.*norm).*weight",
        r"(?i)(layer_?norm\w*|ln_?\w*)\.(?:gamma|beta)$",
        r"[\u4e00-\u9fff]+|[^\x00-\x7f]",
    ],
)
def test_what_people_write_is_accepted_and_matched(pattern: str) -> None:
    ours, plain = compile_regex(pattern), re.compile(pattern)
    for key in HONEST:
        for name in ("search", "fullmatch"):
            found, expected = getattr(ours, name)(key), getattr(plain, name)(key)
            assert (found and found.span()) == (expected and expected.span())
        assert ours.subn("x", key) == plain.subn("x", key)


def test_a_key_on_which_an_expression_could_hang_is_refused_and_a_short_one_is_matched() -> None:
    """G27: the library has no timer; what is refused names the expression, the key and what to write."""
    pattern = ".*.*.*.*Z$"
    assert compile_regex(pattern).search("a" * 30) is None
    with pytest.raises(
        ConfigError, match=r"'\.\*\.\*\.\*\.\*Z\$' could be at work for minutes on a key of 2000 char"
    ):
        compile_regex(pattern).search("a" * 2000)
    rule = {"op": "rename", "pattern": pattern, "replacement": "x", "required": False}
    with pytest.raises(ConfigError, match="for minutes"), deadline(DEADLINE):
        ckptkit.remap({"a" * 2000 + "Zx": torch.ones(1)}, [rule])


ATOMS = ["a", "b", "A", ".", "[ab]", "[^b]", r"\w", r"\d", r"\.", "ab", "(?:ab|a)", "(?:a|b)", "(a)", "(?i:a)", "(?=.*b)",
         "(?!a*b)", "(?>a*)"]  # fmt: skip
REPEATS = [
    "*",
    "+",
    "?",
    "*?",
    "+?",
    "{2}",
    "{0,3}",
    "{1,4}",
    "{2,}",
    "{3,9}",
    "{0,30}",
    "*+",
    "",
    "",
    "",
    "",
    "",
]


def some_pattern(choose: random.Random, depth: int) -> str:
    """A pattern of a few parts, some of them repeated, some nested."""
    parts = []
    for _ in range(choose.randint(1, 5)):
        part = choose.choice(ATOMS)
        if depth and choose.random() < 0.4:
            kind = choose.choice(("(?:", "(?:", "(?>"))
            part = f"{kind}{some_pattern(choose, depth - 1)}|{some_pattern(choose, depth - 1)})"
        parts.append(part + (choose.choice(REPEATS) if not part.startswith(("(?=", "(?!")) else ""))
    return "".join(parts)


@pytest.mark.parametrize("seed", range(4))
def test_every_expression_that_is_accepted_ends_on_every_key_that_is(seed: int) -> None:
    """G27: whatever is put together of repeats, alternatives and looks ahead."""
    choose, accepted = random.Random(seed), 0
    for _ in range(60):
        pattern = choose.choice(["", "^", "(?i)"]) + some_pattern(choose, choose.choice([0, 1, 2])) + "Z$"
        try:
            regex = compile_regex(pattern)
        except ConfigError:
            continue
        accepted += 1
        for key in KEYS:
            with deadline(DEADLINE), suppress(ConfigError):
                regex.search(key)
                regex.fullmatch(key)
    assert accepted > 10


@pytest.mark.parametrize(
    "glob", ["*a*a*a*a*a*a*a*!b", "*?" * 12 + "!b", "*a" * 2000 + "!b", "*[ab]?*a?[!b]" * 8 + "!b"]
)
def test_a_glob_takes_the_time_of_its_key_however_many_stars_it_has(glob: str) -> None:
    """G5."""
    with deadline(DEADLINE):
        assert not compile_pattern(glob).matches("a" * 5000 + "!bZx")
        assert compile_pattern(glob).matches("a" * 5000 + "!b")


def test_the_nearest_keys_are_found_soon_among_keys_of_few_letters() -> None:
    """G5: comparing two texts takes the cube of their length at worst."""
    letters = "abcdefghijkl"
    keys = [f"{a}{b}{c}{'ab' * 95}" for a in letters for b in letters for c in letters]
    with deadline(DEADLINE):
        assert nearest(f"lkl{'ab' * 95}", keys)[0] == f"lkl{'ab' * 95}"


def test_a_glob_of_any_length_is_refused_or_a_plain_key() -> None:
    assert compile_pattern("a" * 20_000).matches("a" * 20_000)
    with pytest.raises(ConfigError, match="has 20001 characters; 10000 is the limit"):
        compile_pattern("*" + "a" * 20_000)


@pytest.mark.parametrize("flags", ["", "(?i)"])
def test_ranges_that_take_long_to_compile_are_refused_before_they_are(flags: str) -> None:
    """G5: a pattern of ten thousand characters took twenty seconds, and a config holds a hundred of them."""
    with deadline(DEADLINE), pytest.raises(ConfigError, match="take long to compile"):
        compile_regex(flags + "[\x00-\U0010ffff]" * 1900)


def test_control_c_ends_the_reading_of_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was put off for as long as the values of a config were checked."""
    import ckptkit.rules.base as base

    done = []

    def interrupted(text: str) -> None:
        signal.raise_signal(signal.SIGINT)
        done.append(text)

    monkeypatch.setattr(base, "compile_regex", interrupted)
    (tmp_path / "c.yaml").write_text("rules:\n- {op: split, pattern: '(.*)', into: ['a', 'b']}\n")
    ckptkit.save({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    config = str(tmp_path / "c.yaml")
    assert main(["remap", str(tmp_path / "a.safetensors"), "--dry-run", "--config", config]) == 130
    assert done == []
    assert "interrupted" in capsys.readouterr().err
