"""Slips in config files are named with their line and their mend, and so is every wrong field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckptkit import RemapConfig
from ckptkit.config.places import line_of
from ckptkit.errors import ConfigError


def refusal(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        RemapConfig.from_file(path)
    assert caught.value.file == str(path)
    return caught.value.message.removeprefix(f"{path}: ")


RULE = "rules:\n"
SLIPS = {
    "regex_in_double_quotes": (
        RULE + r'  - {op: rename, pattern: "^x\.(\d+)", replacement: y}' + "\n",
        "malformed YAML in line 2, column 31: a backslash in double quotes begins an escape; "
        r"use single quotes: '^x\.(\d+)'",
    ),
    "half_escaped": (
        RULE + r'  - {op: rename, pattern: "it\"s\\.\d", replacement: y}' + "\n",
        r"""use single quotes: 'it"s\.\d'""",
    ),
    "star_in_brackets": (
        RULE + "  - op: drop\n    keys: [*.bias, a]\n",
        "malformed YAML in line 3, column 13: a value that begins with * stands in quotes: '*.bias'",
    ),
    "star_in_a_list": (
        RULE + "  - op: drop\n    keys:\n      - *.bias\n",
        "malformed YAML in line 4, column 10: a value that begins with * stands in quotes: '*.bias'",
    ),
    "lone_star": (RULE + "  - op: drop\n    keys: *\n", "a value that begins with * stands in quotes: '*'"),
    "star_and_word": (
        RULE + "  - {op: drop, keys: *bias}\n",
        "line 2: YAML aliases (*bias) are not allowed; write the value out, or put a pattern in quotes: '*bias'",
    ),
    "no_blank": (
        RULE + "  - op:drop\n    keys: [x]\n",
        "malformed YAML in line 3, column 9: a blank is missing after the colon: op: drop",
    ),
    "no_blank_in_braces": (
        RULE + "  - {op:drop, keys: [x]}\n",
        "rules.0 (line 2): a blank is missing after the colon: op: drop",
    ),
    "no_blank_alone": (RULE + "  - op:drop\n", "; a blank is missing after the colon: op: drop"),
    "no_blank_at_the_top": (
        "root:auto\nrules: []\n",
        "malformed YAML in line 2, column 6: a blank is missing after the colon: root: auto",
    ),
    "nothing_but_no_blank": (
        "root:auto\n",
        "the top level must be a mapping, not a str; a blank is missing after the colon: root: auto",
    ),
    "tab": (
        RULE + "\t- op: drop\n",
        "malformed YAML in line 2, column 1: a tab stands where YAML wants blanks; indent with blanks",
    ),
    "two_colons": (
        "description: a: b\n",
        "malformed YAML in line 1, column 15: a value with a colon and a blank in it stands in quotes: 'a: b'",
    ),
    "colon_after_a_field": (
        "root: auto\ndescription: see http://x: y\n",
        "stands in quotes: 'see http://x: y'",
    ),
    "open_quote": (
        'description: "abc\nroot: auto\n',
        "malformed YAML in line 3, column 1: the end of the file is inside a quote that begins in line 1",
    ),
    "single_quote": (
        "description: 'it's'\n",
        "malformed YAML in line 1, column 18: a single quote inside single quotes is written twice, ''",
    ),
    "bracket": (
        RULE + "  - op: rename\n    pattern: [0-9]+\\.x\n",
        r"malformed YAML in line 3, column 19: a value that begins with [ stands in quotes: '[0-9]+\.x'",
    ),
    "bracket_in_brackets": (
        RULE + "  - {op: drop, keys: [re:^a{2}]}\n",
        "a value in brackets that holds a bracket, a brace or a colon stands in quotes, and each bracket is closed",
    ),
    "at": (
        "description: @b c\n",
        "malformed YAML in line 1, column 14: a value that begins with @ stands in quotes: '@b'",
    ),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_named_with_its_line_and_its_mend(name: str, tmp_path: Path) -> None:
    text, words = SLIPS[name]
    assert words in refusal(tmp_path, "a.yaml", text)


def test_a_mend_in_quotes_is_the_value_that_was_meant(tmp_path: Path) -> None:
    for name in (
        "regex_in_double_quotes",
        "star_in_brackets",
        "star_in_a_list",
        "two_colons",
        "bracket",
        "at",
    ):
        text, words = SLIPS[name]
        mend = words[words.index("quotes: ") + 8 :]
        value = yaml.safe_load(mend)
        assert value in text


def test_a_backslash_in_json_and_toml_is_named_too(tmp_path: Path) -> None:
    assert refusal(tmp_path, "a.json", r'{"root": "a\.b"}') == (
        r"malformed JSON in line 1, column 12: Invalid \escape; every backslash is written twice in JSON"
    )
    assert refusal(tmp_path, "a.toml", 'root = "a\\.b"').endswith(
        "; a backslash in double quotes begins an escape; use single quotes"
    )


SAID = {
    "comma.json": ('{"rules": [],}', "line 1, column 14: a comma stands before a closing bracket; leave it out"),
    "single.json": ("{'rules': []}", "line 1, column 2: text stands in double quotes in JSON, not in single ones"),
    "comment.json": ("{ // rules\n}", "line 1, column 3: JSON has no comments; leave it out, or write YAML"),
    "python.json": ('{"strict": True}', "line 1, column 12: JSON writes true, false and null"),
    "bare.toml": ("root = auto", "; text stands in quotes, a list in [ ], and true and false have small letters"),
    "list.yaml": ("- op: drop\n  keys: [a]", "mapping, not a list; write the field that it is for above it, as in rules:"),
    "rule.yaml": ("op: drop\nkeys: [a]", "this is one rule, and a config has a list of them; write rules: above it, and - "
                  "before op"),
    "one.yaml": ("rules:\n  op: drop\n", "rules (line 1): must be a list, not {'op': 'drop'}; put [ ] around it, or begin "
                 "it with - in YAML"),
    "word_for_rule.yaml": ("rules: [drop]", "rules.0 (line 1): must be a mapping of fields, e.g. {op: drop, keys: [a.*]}, "
                           "not 'drop'"),
    "number.yaml": ("root: 0", "root (line 1): must be text, not 0; put it in quotes: '0'"),
    "word.yaml": ("rules: [{op: drop, keys: a, required: no}]", "required (line 1): must be true or false, not 'no'; write "
                  "true or false, without quotes"),
    "version.yaml": ("version: 2", "version (line 1): must be 1, not 2"),
    "open.yaml": ("rules: [{op: drop,\n keys: [a]\n", "each bracket is closed; the first one begins in line 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_other_slips_are_told_with_their_mend(name: str, tmp_path: Path) -> None:
    text, words = SAID[name]
    assert words in refusal(tmp_path, name, text)


WRONG = {
    "a.yaml": (
        "root: auto\n\nrules:\n  - op: drop\n    keys: [a]\n  - op: rename\n    pattern: '('\n    replacement: x\n"
        "  - {op: drop}\n  - op: drop\n    keys:\n      - a\n      - '['\nrool: x\n",
        {"rules.1.pattern": 7, "rules.2.keys": 9, "rules.3.keys.1": 13, "rool": 14},
    ),
    "a.json": (
        '{"rules": [\n\t{"op": "drop", "keys": ["a"]},\n\t{"op": "rename",\n\t "pattern": "(", "replacement": "x"},\n'
        '\t{"op": "drop"}],\n "rool": "x"}',
        {"rules.1.pattern": 4, "rules.2.keys": 5, "rool": 6},
    ),
    "a.toml": (
        "root = 'auto'\nrool = 'x'\n[[rules]]\nop = 'drop'\nkeys = ['a']\n[[rules]]\nop = 'rename'\npattern = '('\n"
        "replacement = 'x'\n[[rules]]\nop = 'drop'\n",
        {"rules.1.pattern": 8, "rules.2.keys": 10, "rool": 2},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_field_is_named_with_its_line(name: str, tmp_path: Path) -> None:
    text, lines = WRONG[name]
    message = refusal(tmp_path, name, text)
    for location, line in lines.items():
        assert f"  {location} (line {line}): " in message
    assert message.startswith(f"{len(lines)} problems")


def test_a_missing_field_of_the_whole_file_has_no_line(tmp_path: Path) -> None:
    assert line_of("a: 1\n", ".yaml", "b") is None
    assert line_of("a:\n  b: 1\n", ".yaml", "a.c") == 1
    assert line_of("x = '''\na = 1\n'''\n", ".toml", "a") is None


SCALARS = st.text("ab :'\"#-[]{}*&\\é\n", max_size=8) | st.integers(0, 9) | st.booleans()
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


def standing(value: Any, line: int, path: tuple[str, ...], found: dict[str, int]) -> int:
    """Note the line of everything in a value that begins on a line, written with a line for each; the last line of it."""
    if not isinstance(value, dict | list):
        return line
    for step, child in value.items() if isinstance(value, dict) else enumerate(value):
        here = (*path, str(step))
        found[".".join(here)] = line + 1
        line = standing(child, line + 1, here, found)
    return line + 1


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(tree=st.dictionaries(st.text("abc", min_size=1, max_size=2), TREES, min_size=1, max_size=4))
def test_the_line_of_each_place_is_where_it_stands(tree: dict[str, Any]) -> None:
    text = json.dumps(tree, indent="\t")
    found: dict[str, int] = {}
    assert standing(tree, 1, (), found) == text.count("\n") + 1
    assert {place: line_of(text, ".json", place) for place in found} == found
    assert {place: line_of(text.replace("\t", " "), ".yaml", place) for place in found} == found


@pytest.mark.parametrize("style", [None, True, False])
@given(tree=st.dictionaries(st.sampled_from(["a", "b", "c"]), TREES, min_size=2, max_size=3))
def test_fields_at_the_top_of_yaml_are_found_in_every_style(style: bool | None, tree: dict[str, Any]) -> None:
    text = "# a comment\n" + yaml.safe_dump(tree, default_flow_style=style, sort_keys=False)
    for name in tree:
        number = line_of(text, ".yaml", name)
        assert number is not None and f"{name}:" in text.split("\n")[number - 1]
