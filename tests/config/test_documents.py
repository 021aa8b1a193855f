"""Config files are read strictly: one meaning, small, shallow, plain data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit import RemapConfig
from ckptkit.config.documents import read_document
from ckptkit.config.schemas import json_schema
from ckptkit.errors import ConfigError


def read(folder: Path, name: str, text: str | bytes) -> dict[str, Any]:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(folder / name)


def test_yaml_json_and_toml_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "root: x\nrules:\n  - {op: renumber, pattern: '(?P<index>\\d+)', map: {3: 0}}\n"
    )
    (tmp_path / "a.json").write_text(
        json.dumps(
            {"root": "x", "rules": [{"op": "renumber", "pattern": r"(?P<index>\d+)", "map": {"3": 0}}]}
        )
    )
    (tmp_path / "a.toml").write_text(
        "root = 'x'\n[[rules]]\nop = 'renumber'\npattern = '(?P<index>\\d+)'\nmap = {3 = 0}\n"
    )
    one, two, three = (RemapConfig.from_file(tmp_path / f"a.{suffix}") for suffix in ("yaml", "json", "toml"))
    assert one == two == three
    assert one.rules[0].map == {3: 0}


def test_yaml_words_and_dates_are_text_and_numbers_are_numbers(tmp_path: Path) -> None:
    text = "a: yes\nb: on\nc: 2026-01-01\nd: 1e-3\ne: 012\nf: true\ng: 7\nh: null\ni: 12:30:45\nj: 1_000\n"
    assert read(tmp_path, "a.yaml", text) == {
        "a": "yes", "b": "on", "c": "2026-01-01", "d": 0.001, "e": "012", "f": True, "g": 7, "h": None,
        "i": "12:30:45", "j": "1_000",
    }  # fmt: skip


LONG = "x" * 300_000
REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "alias": ("a.yaml", "a: &x 1\nb: *x\n", "line 1: YAML anchors (&x) are not allowed"),
    "lone_alias": ("a.yaml", "b: *x\n", "YAML aliases (*x) are not allowed"),
    "tag": ("a.yaml", "a: !!python/object/apply:os.system [ls]\n", "YAML tags"),
    "merge": ("a.yaml", "<<: {a: 1}\n", "YAML merge keys (<<) are not allowed"),
    "twice_yaml": ("a.yaml", "a: 1\na: 2\n", "line 2: the field 'a' stands twice"),
    "twice_json": ("a.json", '{"a": 1, "a": 2}', "the field 'a' stands twice"),
    "twice_toml": ("a.toml", "a = 1\na = 2\n", "malformed TOML"),
    "nan": ("a.json", '{"a": NaN}', "NaN is not a JSON number"),
    "infinite": ("a.json", '{"a": 1e999}', "is too large"),
    "digits": ("a.json", '{"a": ' + "9" * 5000 + "}", "has 5000 digits"),
    "deep_json": ("a.json", "[" * 5000, "nested more than 100 deep"),
    "deep_yaml": ("a.yaml", "[" * 5000, "nested more than 100 deep"),
    "deep_toml": ("a.toml", "a = " + "[" * 300 + "]" * 300, "nested more than 100 deep"),
    "dotted_toml": ("a.toml", "a." * 480_000 + "a = 1", "nested more than 100 deep"),
    "dotted_table": ("a.toml", "[" + "'a' . " * 120_000 + "a]", "nested more than 100 deep"),
    "dotted_behind_text": (
        "a.toml",
        'a = {x = """y""""", ' + '"b".' * 100_000 + 'b = "q"}',
        "nested more than 100 deep",
    ),
    "many_yaml": ("a.yaml", "a: [" + "1," * 60_000 + "]", "more than 50000 values"),
    "many_json": ("a.json", '{"a": [' + "[]," * 60_000 + "0]}", "more than 50000 values"),
    "many_toml": ("a.toml", "a = [" + "{}," * 60_000 + "]", "more than 50000 values"),
    "next_line": (
        "a.yaml",
        "a: 1 # comment\x85root: b",
        "line 1: the character '\\x85' ends a line for some",
    ),
    "line_separator": ("a.yaml", "a: 1\nb: 1 # comment\u2028c: d", "line 2: the character '\\u2028'"),
    "lone_return": ("a.yaml", "a: 1 # comment\rc: d", "the character '\\r' ends a line for some"),
    "long_tag": ("a.yaml", "a: !" + "x" * 500_000 + " b", "YAML tags (!xxx"),
    "long_field": ("a.json", f'{{"{LONG}": 1, "{LONG}": 2}}', "stands twice"),
    "large": ("a.yaml", "a: " + "x" * 1_000_001, "larger than 1000000 bytes"),
    "bytes": ("a.yaml", b"a: \xff\n", "not UTF-8 text (byte 3)"),
    "list": ("a.json", "[1]", "the top level must be a mapping, not a list"),
    "malformed_yaml": ("a.yaml", "a: [1\nb: 2\n", "malformed YAML in line"),
    "malformed_json": ("a.json", "{", "malformed JSON in line 1, column 2"),
    "suffix": ("a.ini", "", "a config file ends in .yaml, .yml, .json or .toml, not in '.ini'"),
    "key_list": ("a.yaml", "? [a]\n: 1\n", "a field name must be plain text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_plain_data_is_one_error(name: str, tmp_path: Path) -> None:
    file, text, words = REFUSED[name]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, file, text)
    assert words in caught.value.message
    assert len(caught.value.message) < 1000
    assert caught.value.file == str(tmp_path / file)


def test_dots_in_texts_and_comments_of_toml_are_no_nesting(tmp_path: Path) -> None:
    dots = "a." * 500
    text = f'a = \'{dots}\' # {dots}\nb = """{dots}""""\nc = [{"1.5, " * 500}]\n'
    assert read(tmp_path, "a.toml", text) == {"a": dots, "b": dots + '"', "c": [1.5] * 500}


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    assert read(tmp_path, "a.yaml", "a: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}


def test_every_problem_of_a_file_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "version: 2\nrules:\n  - {op: strip_prefx, prefix: a}\n  - {op: rename, pattern: '(', replacment: x}\n"
        "  - {op: drop, keys: []}\n  - {prefix: a}\nrool: auto\n"
    )
    with pytest.raises(ConfigError) as caught:
        RemapConfig.from_file(tmp_path / "r.yaml")
    found = {p.location: p.message for p in caught.value.problems}
    assert list(found) == [
        "version", "rules.0.op", "rules.1.pattern", "rules.1.replacment", "rules.2.keys", "rules.3", "rool"
    ]  # fmt: skip
    assert found["rules.0.op"].startswith("unknown op 'strip_prefx'; did you mean 'strip_prefix'?")
    assert found["rules.1.replacment"].startswith("unknown field; did you mean 'replacement'?")
    assert found["rool"].startswith("unknown field; did you mean 'root'?")
    assert "7 problems in this RemapConfig" in caught.value.message


RULES = st.one_of(
    st.builds(
        lambda p: {"op": "strip_prefix", "prefix": p},
        st.sampled_from(["module.", "é", "a: b", "'", "yes", "1"]),
    ),
    st.builds(
        lambda k: {"op": "drop", "keys": k},
        st.lists(st.sampled_from(["*", "a.*", "[[]x", "re:^a$"]), min_size=1),
    ),
    st.just({"op": "rename", "pairs": [["^a", "b"], ["^b", r"\g<0>"]]}),
    st.builds(lambda o: {"op": "renumber", "pattern": r"(?P<index>\d+)", "offset": o}, st.integers(-3, 3)),
    st.just({"op": "cast", "dtype": "float16", "required": False}),
)


@given(
    rules=st.lists(RULES, max_size=5),
    description=st.none() | st.sampled_from(["", "x: y", "line\nline", "\u2028", "a\x85b\r"]),
)
def test_what_is_written_as_yaml_reads_back_equal(rules: list[Any], description: str | None) -> None:
    import tempfile

    config = RemapConfig(rules=rules, description=description)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.yaml")
        path.write_text(config.to_yaml(), encoding="utf-8")
        assert RemapConfig.from_file(path) == config


def test_a_config_is_frozen_and_strict() -> None:
    config = RemapConfig(rules=[])
    with pytest.raises(ValueError, match="frozen"):
        config.root = "x"  # type: ignore[misc]
    with pytest.raises(ConfigError, match="version"):
        RemapConfig.parse({"version": "1"})


def test_the_schema_knows_every_rule_and_its_fields() -> None:
    schema = json_schema("remap")
    rules = {
        d["properties"]["op"]["const"]: d for d in schema["$defs"].values() if "op" in d.get("properties", {})
    }
    assert {"strip_prefix", "add_prefix", "rename", "renumber", "keep", "drop", "cast", "copy"} <= set(rules)
    assert all(rule["additionalProperties"] is False for rule in rules.values())
    assert rules["strip_prefix"]["required"] == ["prefix"]
