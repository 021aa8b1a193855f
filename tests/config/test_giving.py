"""One way to give a config everywhere: each function takes each form, and makes the same of all of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ckptkit
from ckptkit.config.base import Config
from ckptkit.config.fields import FreezeFields, GroupsFields, LoadFields, RemapFields
from ckptkit.config.giving import as_config
from ckptkit.yaml_text import write_yaml

STATE = {"net.0.weight": torch.ones(2, 2), "net.0.bias": torch.zeros(2)}
RULES: list[dict[str, Any]] = [{"op": "strip_prefix", "prefix": "net."}]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2))


def loaded(*args: Any, **fields: Any) -> Any:
    target = model()
    ckptkit.load(target, STATE, *args, **fields)
    return [value.tolist() for value in target.state_dict().values()]


def hooked(*args: Any, **fields: Any) -> Any:
    target = model()
    target.register_load_state_dict_pre_hook(ckptkit.load_hook(*args, **fields))
    target.load_state_dict(dict(STATE))
    return [value.tolist() for value in target.state_dict().values()]


def grouped(*args: Any, **fields: Any) -> Any:
    return [(g["keys"], g["lr"], g["weight_decay"]) for g in ckptkit.param_groups(model(), *args, **fields)]


Call = Callable[..., Any]
REMAP = (ckptkit.RemapConfig, {"root": "none", "rules": RULES})
LOAD = (ckptkit.LoadConfig, {"root": "none", "rules": RULES, "min_loaded": 1.0})
FREEZE = (ckptkit.FreezeConfig, {"freeze": ["*.weight"]})
GROUPS = (ckptkit.GroupsConfig, {"groups": [{"keys": ["*.bias"], "lr": 2.0}]})
FUNCTIONS: dict[str, tuple[tuple[type[Config], dict[str, Any]], Call]] = {
    "plan": (REMAP, lambda *a, **k: ckptkit.plan(STATE, *a, **k).to_json()["outputs"]),
    "remap": (REMAP, lambda *a, **k: list(ckptkit.remap(STATE, *a, **k))),
    "verify_roundtrip": (REMAP, lambda *a, **k: str(ckptkit.verify_roundtrip(STATE, *a, **k))),
    "load_hook": (REMAP, hooked),
    "load": (LOAD, loaded),
    "check": (LOAD, lambda *a, **k: ckptkit.check(model(), STATE, *a, **k).to_json()),
    "freeze": (FREEZE, lambda *a, **k: ckptkit.freeze(model(), *a, **k).to_json()),
    "param_groups": (GROUPS, grouped),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_form_gives_the_same(name: str, tmp_path: Path) -> None:
    (kind, fields), call = FUNCTIONS[name]
    expected = call(kind(**copy.deepcopy(fields)))
    (tmp_path / "a.yaml").write_text(write_yaml(fields))
    (tmp_path / "a.json").write_text(json.dumps(fields))
    listed = copy.deepcopy(fields[kind.listed])
    rest = {name: value for name, value in fields.items() if name != kind.listed}
    forms: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((fields,), {}),
        ((), fields),
        ((tmp_path / "a.yaml",), {}),
        ((str(tmp_path / "a.json"),), {}),
        ((listed,), rest),
        ((tuple(listed),), rest),
        ((rest,), {kind.listed: listed}),
        ((kind(**rest),), {kind.listed: listed}),
        ((getattr(kind(**fields), kind.listed),), rest),  # objects
    ]
    for args, keywords in forms:
        assert call(*args, **keywords) == expected, (args, keywords)


@pytest.mark.parametrize("name", [name for name, (kind, _) in FUNCTIONS.items() if kind in (REMAP, LOAD)])
def test_configs_of_rules_stand_for_one_another(name: str) -> None:
    call = FUNCTIONS[name][1]
    remap = ckptkit.RemapConfig(root="none", rules=RULES)
    assert call(remap) == call(ckptkit.LoadConfig(root="none", rules=RULES)) == call(rules=RULES)


@pytest.mark.parametrize("name", ["plan", "remap"])
def test_of_a_load_config_in_any_form_the_rules_are_used_and_the_rest_is_named(
    name: str, tmp_path: Path
) -> None:
    config = ckptkit.LoadConfig(root="none", rules=RULES, allow_missing="x", strict=True)
    (tmp_path / "fix.yaml").write_text(config.to_yaml())
    call = FUNCTIONS[name][1]
    expected = call(ckptkit.RemapConfig(root="none", rules=RULES))
    for form in (config, config.to_dict(), tmp_path / "fix.yaml"):
        with pytest.warns(
            UserWarning, match=r"^root and rules of this LoadConfig are used, and allow_missing left"
        ):
            assert call(form) == expected
    with pytest.raises(ckptkit.ConfigError, match="alow_missing: unknown field"):
        call({"rules": RULES, "alow_missing": ["x"]})


def test_a_rule_is_taken_as_the_object_that_it_is() -> None:
    rule = ckptkit.rules.StripPrefix(prefix="net.")
    for config in (
        as_config(ckptkit.RemapConfig, [rule], {}),
        as_config(ckptkit.LoadConfig, [rule], {"strict": False}),
        as_config(ckptkit.LoadConfig, ckptkit.RemapConfig(rules=[rule]), {"strict": False}),
        as_config(ckptkit.RemapConfig, {"rules": [rule]}, {"root": "none"}),
    ):
        assert config.rules[0] is rule
    assert ckptkit.plan(STATE, [rule]).config.rules[0] is rule  # type: ignore[union-attr]


def test_keywords_count_before_the_config_beside_them() -> None:
    config = ckptkit.LoadConfig(strict=True, rules=RULES, allow_missing="x")
    changed = as_config(ckptkit.LoadConfig, config, {"strict": False})
    assert changed == ckptkit.LoadConfig(strict=False, rules=RULES, allow_missing=["x"])
    assert config.strict is True


def test_text_is_a_pattern_to_freeze_or_a_path() -> None:
    assert ckptkit.freeze(model(), "*.bias").frozen == ("0.bias",)
    with pytest.raises(ckptkit.CkptkitError, match=r"bias\.yaml: does not exist"):
        ckptkit.freeze(model(), "bias.yaml")


WAYS = "or the path of a .yaml, .yml, .json, .toml file"
REFUSED: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "nothing": ("remap", None, {}, "no RemapConfig was given; give a RemapConfig, its fields (description, root, rules) "
                f"as a mapping or as keywords, a list for rules, {WAYS}"),
    "nothing_to_freeze": ("freeze", None, {}, "no FreezeConfig was given; give a FreezeConfig, its fields (description, "
                          f"freeze, unfreeze, batch_norm) as a mapping or as keywords, a list for freeze, {WAYS}"),
    "number": ("load", 3, {}, "a value of type int is no LoadConfig; give a LoadConfig, its fields (description, root, "
               "rules, strict, allow_missing, allow_unexpected, on_mismatch, adapt, min_loaded, assign, dtype) as a "
               f"mapping or as keywords, a list for rules, {WAYS}"),
    "rule": ("remap", ckptkit.rules.StripPrefix(prefix="a"), {}, "this is one rule; give a list of rules, [...] around it"),
    "rule_fields": ("check", RULES[0], {}, "this is one rule; give a list of rules, [...] around it"),
    "twice": ("plan", RULES, {"rules": RULES}, "rules was given twice, as a list and by its name; give it once"),
    "more": ("load_hook", ckptkit.LoadConfig(rules=RULES, strict=False, allow_missing=["x"]), {},
             "rules and a root are asked, and this LoadConfig also sets strict, allow_missing; give its rules here, and "
             "the rest to ckptkit.load"),
    "other": ("freeze", ckptkit.RemapConfig(), {}, "a FreezeConfig is asked, not a RemapConfig; give a FreezeConfig, its "
              "fields (description, freeze, unfreeze, batch_norm) as a mapping or as keywords, a list for freeze, "
              f"{WAYS}"),
    "misspelt": ("load", None, {"strct": False}, "strct: unknown field; did you mean 'strict'? Known fields are version, "
                 "description, root, rules, strict, allow_missing, allow_unexpected, on_mismatch, adapt, min_loaded, "
                 "assign, dtype"),
    "misspelt_beside": ("param_groups", {"lr": 1.0}, {"lrs": 2.0}, "lrs: unknown field; did you mean 'lr'? Known fields "
                        "are version, description, lr, weight_decay, no_decay, layer_decay, blocks, groups"),
    "no_suffix": ("remap", "strip_prefix", {}, "strip_prefix: a config file ends in .yaml, .yml, .json or .toml, not in "
                  "''"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_config_is_refused_with_what_to_give(case: str) -> None:
    name, config, fields, message = REFUSED[case]
    with pytest.raises(ckptkit.CkptkitError) as caught:
        FUNCTIONS[name][1](config, **fields)
    assert str(caught.value) == message


def test_a_plan_takes_no_fields_beside_it() -> None:
    with pytest.raises(
        ckptkit.UsageError, match=r"^a plan is made already, so it takes no root; give rules, or the plan"
    ):
        ckptkit.remap(STATE, ckptkit.plan(STATE, RULES), root="none")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ckptkit.RemapConfig, RemapFields),
        (ckptkit.LoadConfig, LoadFields),
        (ckptkit.FreezeConfig, FreezeFields),
        (ckptkit.GroupsConfig, GroupsFields),
    ],
)
def test_checkers_know_exactly_the_fields_that_there_are(kind: type[Config], fields: Any) -> None:
    assert set(fields.__annotations__) == set(kind.model_fields)
