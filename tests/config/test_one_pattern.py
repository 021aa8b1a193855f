"""One pattern may stand where a list of patterns is asked, in every field of every config."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import ckptkit
from ckptkit.config.adapt import AdaptEntry
from ckptkit.config.groups import GroupEntry
from ckptkit.config.schemas import json_schema
from ckptkit.rules import AnyRule

MODELS: tuple[type[BaseModel], ...] = (
    *get_args(get_args(AnyRule)[0]), AdaptEntry, GroupEntry, ckptkit.LoadConfig, ckptkit.FreezeConfig, ckptkit.GroupsConfig
)  # fmt: skip
LISTS = {"keys", "allow_missing", "allow_unexpected", "freeze", "unfreeze", "no_decay"}
FIELDS = [(model, name) for model in MODELS for name in model.model_fields if name in LISTS]


def field(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    info = model.model_fields[name]
    return TypeAdapter(Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation)


@pytest.mark.parametrize(("model", "name"), FIELDS, ids=lambda v: getattr(v, "__name__", v))
def test_one_pattern_is_a_list_of_one(model: type[BaseModel], name: str) -> None:
    read = field(model, name).validate_python
    assert (
        read("*.bias", strict=True)
        == read(["*.bias"], strict=True)
        == read(("*.bias",), strict=True)
        == ["*.bias"]
    )
    for wrong in ("x[", ["x["], 3, [3], {"a": "b"}):
        with pytest.raises(ValidationError):
            read(wrong, strict=True)


@pytest.mark.parametrize("kind", ["remap", "load", "freeze", "groups"])
def test_the_schema_says_so_too(kind: str) -> None:
    schema = json_schema(kind)
    found = 0
    for model in (schema, *schema.get("$defs", {}).values()):
        for name, described in model.get("properties", {}).items():
            if name in LISTS:
                found += 1
                kinds = [each.get("type") for each in described["anyOf"]]
                assert kinds in (["array", "string"], ["array", "string", "null"]), (model["title"], name)
    assert found


def test_it_selects_what_the_list_would() -> None:
    state = {"a.weight": None, "a.bias": None}
    assert list(ckptkit.remap(state, [{"op": "drop", "keys": "*.bias"}])) == ["a.weight"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"freeze": "x["}, "freeze: the key pattern 'x[' has an unclosed '['; a literal bracket is '[[]'"),
        ({"freeze": ["a", "x["]}, "freeze.1: the key pattern 'x[' has an unclosed '['; a literal bracket is '[[]'"),
        ({"freeze": 3}, "freeze: must be a list, not 3"),
    ],
)  # fmt: skip
def test_an_error_stands_at_the_place_that_was_written(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ckptkit.ConfigError) as caught:
        ckptkit.FreezeConfig.parse(fields)
    assert str(caught.value) == message


def test_a_wrong_pattern_beside_the_word_auto_is_one_problem() -> None:
    with pytest.raises(ckptkit.ConfigError) as caught:
        ckptkit.GroupsConfig(no_decay="x[")
    assert str(caught.value).startswith("no_decay: the key pattern 'x[' has an unclosed")
    assert ckptkit.GroupsConfig(no_decay="auto").no_decay == "auto"
