"""Whatever stands in a config, wrong values are one error that names the file and each place, in few words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit import CkptkitError, RemapConfig
from ckptkit.config.base import Config
from ckptkit.config.documents import read_document
from ckptkit.config.schemas import CONFIGS
from ckptkit.errors import ConfigError

HUGE = 16**5000  # more digits than Python writes


def refusal(document: Any, config: type[Config] = RemapConfig) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.parse(document)
    return caught.value


@pytest.mark.parametrize("name", ["null", "1", "1.5", "true"])
def test_a_field_whose_name_is_no_text_is_named_beside_the_other_problems(name: str, tmp_path: Path) -> None:
    """G3, G28."""
    path = tmp_path / "a.yaml"
    path.write_text(f"{name}: a\nrool: b\n")
    with pytest.raises(ConfigError) as caught:
        RemapConfig.from_file(path)
    assert [p.message.split(";")[0] for p in caught.value.problems] == [
        "a field name must be text",
        "unknown field",
    ]
    assert caught.value.file == str(path)
    assert str(path) in caught.value.message


def test_a_field_called_self_is_an_unknown_field() -> None:
    """G3: Python's own parameter of that name is not in its way."""
    assert [p.location for p in refusal({"self": 1, "cls": 2}).problems] == ["self", "cls"]


@pytest.mark.parametrize("version", [True, 1.0, "1", 2, None, [1], pytest.param(HUGE, id="huge")])
@pytest.mark.parametrize("config", CONFIGS.values())
def test_the_version_is_the_integer_one(config: type[Config], version: Any) -> None:
    """G28: types are strict, though True and 1.0 are equal to 1."""
    assert [p.location for p in refusal({"version": version}, config).problems] == ["version"]
    with pytest.raises(ConfigError):
        config(version=version)


RULES = {
    "reshape": "keys = ['a']\nshape = [2, @]",
    "transpose": "keys = ['a']\ndims = [0, @]",
    "split": "pattern = 'a'\ninto = ['x', 'y']\nsizes = [@, 1]",
    "renumber": "pattern = '(?P<index>[0-9]+)'\noffset = @",
    "resize": "keys = ['a']\nshape = [2, 4]\nmethod = 'pad'\nfill = @",
    "slice": "keys = ['a']\nstep = @",
}


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, hex(1 << 63)], ids=["20000 bits", "64 bits"])
@pytest.mark.parametrize("op", RULES)
def test_numbers_beyond_64_bits_are_named_with_their_place(op: str, number: str, tmp_path: Path) -> None:
    """G3: nothing counts with them, Python refuses to write them; hexadecimal ones of TOML have any length."""
    path = tmp_path / "a.toml"
    path.write_text(f"[[rules]]\nop = '{op}'\n{RULES[op].replace('@', number)}\n")
    with pytest.raises(ConfigError, match="does not fit in 64 bits") as caught:
        RemapConfig.from_file(path)
    assert caught.value.problems[0].location.startswith("rules.0.")
    assert refusal(read_document(path)).problems == caught.value.problems


def test_numbers_of_a_map_stand_once() -> None:
    """G28: "1" and 1 and "01" are one number."""
    rule = {"op": "renumber", "pattern": r"(?P<index>\d+)"}
    for numbers in ({"1": 3, 1: 2}, {"1": 3, "01": 2}):
        assert "the number 1 stands twice in map" in refusal({"rules": [{**rule, "map": numbers}]}).message


LONG = "x" * 100_000
QUOTED: dict[str, Any] = {
    "field": {LONG: 1},
    "op": {"rules": [{"op": LONG}]},
    "op_of_many": {"rules": [{"op": [LONG] * 50}]},
    "value": {"description": [LONG]},
    "pattern": {"rules": [{"op": "drop", "keys": ["[" + LONG]}]},
    "dtype": {"rules": [{"op": "cast", "dtype": LONG}]},
    "replacement": {"rules": [{"op": "rename", "pattern": "a", "replacement": LONG + r"\9"}]},
    "group": {"rules": [{"op": "rename", "pattern": "a", "replacement": rf"\g<{LONG}>"}]},
    "fill": {"rules": [{"op": "resize", "keys": ["a"], "shape": [1], "method": "pad", "fill": LONG}]},
    "mode": {"rules": [{"op": "resize", "keys": ["a"], "shape": [1], "method": "interpolate", "mode": LONG}]},
    "permute": {"rules": [{"op": "permute", "keys": ["a"], "dims": list(range(5000)), "view": [2]}]},
}


@pytest.mark.parametrize("name", QUOTED)
def test_what_is_quoted_is_cut(name: str) -> None:
    error = refusal(QUOTED[name])
    assert len(error.message) < 2000
    assert all(len(p.location) + len(p.message) < 2000 for p in error.problems)


def test_of_many_problems_the_message_shows_the_first_and_counts_the_rest() -> None:
    error = refusal({"rules": [{"op": "drop", "keys": [1] * 1000}]})
    assert len(error.problems) == 1000
    assert error.message.count("\n") == 51
    assert error.message.endswith("and 950 more")


BITS = st.sampled_from([63, 64, 20_000]).map(lambda bits: 1 << bits)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | BITS
    | st.sampled_from([0, 1, -1, 1.5, 1e300, "", "a", "*", "re:(", "\ud800", "auto", "drop"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["op", "keys", "map", "self", 1, None, True, (1,)]) | BITS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FIELDS = sorted(
    {name for config in CONFIGS.values() for name in config.model_fields} | {"self", "", "\ud800"}
)
OPS = [
    "drop",
    "renumber",
    "permute",
    "reshape",
    "rotary",
    "split",
    "slice",
    "resize",
    "cast",
    "copy",
    "concat",
]
RULE_FIELDS = ["keys", "pattern", "into", "dim", "dims", "view", "sizes", "groups", "step", "map", "offset", "heads",
               "shape", "method", "fill", "grid", "mode", "required", "dtype", "tie"]  # fmt: skip


@given(
    config=st.sampled_from(sorted(CONFIGS)),
    fields=st.dictionaries(st.sampled_from(FIELDS) | st.sampled_from([1, None]) | BITS, VALUES, max_size=3),
    rule=st.dictionaries(st.sampled_from(RULE_FIELDS), VALUES, max_size=5),
    op=st.sampled_from(OPS),
)
def test_whatever_stands_in_a_config_is_read_or_one_error(
    config: str, fields: dict[Any, Any], rule: dict[str, Any], op: str
) -> None:
    """G3."""
    for document in (fields, {"rules": [{"op": op, **rule}]}):
        try:
            CONFIGS[config].parse(document).to_dict()
        except CkptkitError as error:
            shown = error.message
        else:
            shown = ""
        assert len(shown) < 20_000
