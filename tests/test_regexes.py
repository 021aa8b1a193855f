"""Regular expressions of the user: what they cost is bounded, whatever they are and whoever asks."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import ckptkit
from ckptkit import regexes
from ckptkit.__main__ import main
from ckptkit.dialect import read_expression
from ckptkit.errors import ConfigError, PlanError
from ckptkit.patterns import compile_pattern, nearest, select
from ckptkit.regexes import MAX_CHOICES, SHORT, Budget, compile_regex

from .deadline import deadline

DEADLINE = 30
KEYS = ("a" * 60 + "!", "ab" * 30 + "!", "aA1." * 20 + "!", "a" * 400 + "!", "a.b" * 300 + "!")

# Each would be at work for longer than anybody waits on a key of "a"s with a "!".
HOSTILE = [
    "(?:a|aa)" * 30 + "[yz]$",
    "^(?:(?:a|aa)+)+[yz]$",
    "(a|a)*[yz]",
    ".*" * 8 + "[YZ]",
    "(.*?a){25}[YZ]",
    "(?i)(?:a|A|aA)*[yz]$",
    "(?:(?=.*[yz])a|aa|a)*[yz]$",
    r"(a+)(?:\1|a)*[yz]$",
]


def _select(pattern: str, keys: list[str]) -> object:
    return select([f"re:{pattern}"], keys)


def _rule(op: str, **fields: object) -> Callable[[str, list[str]], object]:
    def run(pattern: str, keys: list[str]) -> object:
        rule = {"op": op, "pattern": pattern, **fields}
        return ckptkit.remap({key: torch.ones(1) for key in keys}, [rule])

    return run


ASKED = {
    "select": _select,
    "rename": _rule("rename", replacement="x"),
    "copy": _rule("copy", into="x"),
    "split": _rule("split", into=["x"]),
    "unstack": _rule("unstack", into="{index}"),
    "renumber": lambda pattern, keys: _rule("renumber", offset=1)(
        r"(?P<index>\d+)?" + "(?:a|aa)" * 30 + "[yz]$", keys
    ),
    "stack": lambda pattern, keys: _rule("stack", into="x")(f"(?P<index>)(?:{pattern})", keys),
    "concat": lambda pattern, keys: ckptkit.remap(
        {key: torch.ones(1) for key in keys}, [{"op": "concat", "patterns": [pattern], "into": "x"}]
    ),
}


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regexes, "SECONDS", 0.1)


@pytest.mark.parametrize("pattern", HOSTILE)
@pytest.mark.usefixtures("_soon")
def test_an_expression_that_would_not_end_is_stopped_with_what_to_do(pattern: str) -> None:
    """G27: the error names the expression and the key."""
    with deadline(DEADLINE), pytest.raises(PlanError, match="still at work after 0.1 s") as caught:
        _select(pattern, ["a" * 3000 + "!"])
    assert f"'{pattern}'"[:60] in caught.value.message
    assert "'aaaaaaaaaa" in caught.value.message and "(3001 characters)" in caught.value.message
    assert "put text between them that they cannot match" in caught.value.message
    assert caught.value.key == "a" * 3000 + "!"


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.usefixtures("_soon")
def test_whatever_matches_keys_is_stopped(asked: str) -> None:
    """G27: every rule names itself."""
    where = "" if asked == "select" else rf"^rules\.0 \({asked}\): "
    with deadline(DEADLINE), pytest.raises(PlanError, match=where + "the regular expression"):
        ASKED[asked]("(?:a|aa)" * 30 + "[yz]$", ["a" * 3000 + "!"])


@pytest.mark.usefixtures("_soon")
def test_one_budget_serves_all_keys_of_a_pattern() -> None:
    """G27: a hundred thousand keys, each of which takes a little too long, cannot add up."""
    slow = ".*.*.*[YZ]$"
    keys = [f"{'a' * 180}{n}" for n in range(100_000)]
    assert compile_regex(slow).search(keys[0]) is None
    with deadline(DEADLINE), pytest.raises(PlanError, match=r"in \d+ matches, the last with the key 'aaa"):
        _select(slow, keys)


@pytest.mark.usefixtures("_soon")
def test_one_budget_serves_all_patterns_of_a_rule() -> None:
    """G27: a thousand patterns, each of which takes a little too long, cannot add up either."""
    key = "a" * 300
    slow = [f".*.*.*[Y{chr(0x4E00 + n)}]$" for n in range(2000)]
    with deadline(DEADLINE), pytest.raises(PlanError, match=r"in \d+ matches"):
        select([f"re:{pattern}" for pattern in slow], [key])
    for rule in (
        {"op": "rename", "pairs": [[pattern, "x"] for pattern in slow]},
        {"op": "concat", "patterns": slow, "into": "x"},
    ):
        with deadline(DEADLINE), pytest.raises(PlanError, match=r"rules.0 .* in \d+ matches"):
            ckptkit.plan({key: torch.ones(1)}, [rule])


def test_what_is_done_between_the_patterns_of_a_rule_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling ten thousand of them, say."""
    monkeypatch.setattr(regexes, "SECONDS", 0.05)
    budget, regex = Budget(), compile_regex("a.*b")
    for _ in range(5):
        with budget.over(1):
            assert regex.search("axb", budget)
        end = time.thread_time() + 0.03
        while time.thread_time() < end:
            pass
    assert budget.left > 0.03


def test_an_honest_expression_may_be_matched_with_any_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """What every match has is added to the budget, so their number does not use it up."""
    monkeypatch.setattr(regexes, "SECONDS", 0.02)
    monkeypatch.setattr(regexes, "PER_MATCH", 1.0)
    budget, regex = Budget(), compile_regex(r"layers\.(\d+)\.(.*)")
    for n in range(20_000):
        assert regex.search(f"layers.{n}.weight", budget)
    monkeypatch.setattr(regexes, "PER_MATCH", 0.0)
    with pytest.raises(PlanError, match=r"in \d{5,} matches"):
        for n in range(1_000_000):
            regex.search(f"layers.{n}.weight", budget)


@pytest.mark.usefixtures("_soon")
def test_the_time_of_other_threads_is_not_charged() -> None:
    """`regex` counts the processor time of the whole process, which others may use up."""
    over = threading.Event()

    def busy() -> None:
        big = "a" * 200_000
        while not over.is_set():
            big.count("aab")

    others = [threading.Thread(target=busy) for _ in range(4)]
    for other in others:
        other.start()
    try:
        for _ in range(20):
            assert compile_regex(".*.*.*[YZ]$").search("a" * 150) is None
    finally:
        over.set()
        for other in others:
            other.join()


def test_the_law_ends_in_the_library_and_on_the_command_line(tmp_path: Path) -> None:
    """G27: `^(a+)+$` on 40 a's and a `!`, with no timer and no handler of a signal."""
    key = "a" * 40 + "!"
    with deadline(2):
        assert compile_regex("^(a+)+$").search(key) is None
        assert _select("^(a+)+$|b", [key, "b"]).keys == ["b"]  # type: ignore[attr-defined]
    ckptkit.save({key: torch.ones(1)}, tmp_path / "a.safetensors")
    command = [
        sys.executable,
        "-m",
        "ckptkit",
        "remap",
        str(tmp_path / "a.safetensors"),
        "--dry-run",
        "--rename",
    ]
    ran = subprocess.run(
        [*command, "(?:a|aa)" * 30 + "[yz]$", "b"], capture_output=True, text=True, timeout=DEADLINE
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: --rename '(?:a|aa)(?:a|aa)"), ran.stderr
    assert "was still at work after 1 s of processor time on the key 'aaa" in ran.stderr
    assert signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL


TOO_LARGE = {
    "nested": "((a{1000}){1000}){1000}",
    "count": "a{4294967294}",
    "counts": "(?:ab{5}){19999}",
    "beside": "(?:a{9000})(?:b{9000})c{9000}",
    "set": "(?:[ab)]{300}){300}",
    "comment": "(?x)((a{1000}){1000} # (\n){1000}",
    "escaped": r"(?:\)a{300}){300}",
    "within_a_comment": "(?:(?#()a{300}){300}",
    "deep": "(" * 400 + "a" + ")" * 400,
    "deeper": "(?=a" * 2000 + ")" * 2000,
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_an_expression_that_would_fill_the_memory_is_refused_when_it_is_read(name: str) -> None:
    """G5: `regex` keeps every part of a counted repeat, a kilobyte for each."""
    with deadline(DEADLINE), pytest.raises(ConfigError, match="is too large or too deeply nested"):
        compile_regex(TOO_LARGE[name])
    with pytest.raises(ConfigError, match="is too large or too deeply nested"):
        ckptkit.RemapConfig.parse(
            {"rules": [{"op": "rename", "pattern": TOO_LARGE[name], "replacement": "x"}]}
        )


@pytest.mark.parametrize(
    "pattern", [r"(?:\d{4}-){3}", "(?:[0-9a-f]{8}-){4}[0-9a-f]{12}", "a{1000}", "(a{0,9999}){0,9999}"]
)
def test_counts_that_people_write_are_taken(pattern: str) -> None:
    assert compile_regex(pattern).search("b") is None or pattern.startswith("(a{0")


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
        r"^(\w+(?:\.\w+)*)\.weight$",
        r"^(?:[^.]+\.)*weight$",
        r"^(?:(?:encoder|decoder)\.)*(?:\w+\.)*(\d+)",
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
        assert ours.subn(regexes.read_template(pattern, "x"), key) == plain.subn("x", key)


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


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.usefixtures("_soon")
def test_every_expression_ends_on_every_key(seed: int) -> None:
    """G27: whatever is put together of repeats, alternatives and looks ahead."""
    choose, ended = random.Random(seed), 0
    for _ in range(60):
        pattern = choose.choice(["", "^", "(?i)"]) + some_pattern(choose, choose.choice([0, 1, 2])) + "[YZ]$"
        regex = compile_regex(pattern)
        for key in KEYS:
            try:
                with deadline(DEADLINE):
                    regex.search(key)
                ended += 1
            except PlanError:
                pass
    assert ended > 100


def test_what_is_matched_without_a_limit_ends_by_itself() -> None:
    """A short expression of few choices, a short key: the cube of its length at most, charged afterwards."""
    choose, seen = random.Random(0), 0
    while seen < 150:
        pattern = some_pattern(choose, choose.choice([0, 1])) + "[YZ]$"
        if read_expression(pattern).choices > MAX_CHOICES:
            continue
        seen += 1
        regex = compile_regex(pattern)
        with deadline(5):
            for key in ("a" * SHORT, "ab" * (SHORT // 2), "a.b" * (SHORT // 3)):
                assert regex.search(key) is None


@pytest.mark.parametrize(
    ("pattern", "few"),
    [
        (r"^model\.layers\.(\d+)\.", True),
        (r"(.*)\.w(\d)\.weight$", True),
        ("a{3}b?", True),
        ("(?:a|b).*", True),
        ("(a+)+", False),
        ("(?:ab){2}", False),
        ("(?:a|aa)(?:a|aa)(?:a|aa)", False),
        ("(?:a|b|c|d)", False),
        (r"(.*)\1", False),
        ("(?P<n>a)(?P=n)", False),
        (".*.*.*", False),
        ("a*?b*?", False),
    ],
)
def test_few_choices_are_no_more_than_two_and_none_in_another(pattern: str, few: bool) -> None:
    assert (read_expression(pattern).choices <= MAX_CHOICES) == few


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
