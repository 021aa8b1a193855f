"""Every call that the public contract shows can be made, with these names and defaults."""

from __future__ import annotations

import ast
import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ckptkit

# As the contract writes them: name, arguments, defaults. `...` stands for what the page does not show.
CALLS = """
ckptkit.open(path, root="auto")
ckptkit.signature(obj)
ckptkit.plan(source, config, target=None)
ckptkit.remap(source, config)
ckptkit.save(state, path, *, max_shard_size=None, metadata=None, overwrite=False)
ckptkit.check(target, source, config=None)
ckptkit.load(model, source, config=None)
ckptkit.load_hook(config)
ckptkit.diff(a, b, values=False)
ckptkit.verify(path)
ckptkit.infer(source, target)
ckptkit.explain(error_text)
ckptkit.explaining()
ckptkit.freeze(model, config)
ckptkit.unfreeze(model)
ckptkit.param_groups(model, config)
"""
CONTRACT = Path(os.environ.get("CKPTKIT_SHARED", Path(__file__).parents[2] / "shared")) / "CONTRACT.md"
CALL = re.compile(r"ckptkit\.(\w+)(\(.*?\))(?=\s|;|:|$)", re.MULTILINE)


def shown(text: str) -> dict[str, inspect.Signature]:
    """The functions of a text, each as a signature."""
    found = {}
    for name, arguments in CALL.findall(text):
        function: Any = ast.parse(f"def {name}{arguments}: ...").body[0]
        given = function.args
        values = [inspect.Parameter.empty] * (len(given.args) - len(given.defaults))
        defaults = [*values, *(ast.literal_eval(value) for value in given.defaults)]
        parameters = [
            inspect.Parameter(arg.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
            for arg, default in zip(given.args, defaults, strict=True)
        ]
        parameters += [
            inspect.Parameter(arg.arg, inspect.Parameter.KEYWORD_ONLY, default=ast.literal_eval(value))
            for arg, value in zip(given.kwonlyargs, given.kw_defaults, strict=True)
        ]
        found[name] = inspect.Signature(parameters)
    return found


def problems(name: str, wanted: inspect.Signature) -> list[str]:
    """What of a shown call cannot be written."""
    own = list(inspect.signature(getattr(ckptkit, name)).parameters.values())
    by_name = {parameter.name: parameter for parameter in own}
    wrong = []
    for place, (asked, parameter) in enumerate(wanted.parameters.items()):
        if parameter.default is inspect.Parameter.empty:  # by its place; the page's word for it is free
            here = own[place] if place < len(own) else None
            if here is None or here.kind not in (here.POSITIONAL_ONLY, here.POSITIONAL_OR_KEYWORD):
                wrong.append(f"{name} takes no {asked} in place {place}")
            continue
        here = by_name.get(asked)
        if here is None or here.default != parameter.default:
            wrong.append(f"{name}: {asked}={parameter.default!r} is {here}")
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD and own.index(here) != place:
            wrong.append(f"{name}: {asked} stands in another place")
    required = [
        p.name for p in own if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(required) > len([p for p in wanted.parameters.values() if p.default is p.empty]):
        wrong.append(f"{name} asks for more: {required}")
    return wrong


@pytest.mark.parametrize("name", shown(CALLS))
def test_a_call_of_the_contract_can_be_written(name: str) -> None:
    assert not problems(name, shown(CALLS)[name])


@pytest.mark.skipif(not CONTRACT.exists(), reason="the contract is not here")
def test_the_page_shows_no_call_that_cannot_be_written() -> None:
    block = re.search(
        r"^## Python\n\n```python\n(.*?)^```", CONTRACT.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert block is not None
    calls = shown(block[1])
    assert set(calls) == set(shown(CALLS))
    assert not [line for name, wanted in calls.items() for line in problems(name, wanted)]


def test_the_comparison_sees_a_missing_argument_a_wrong_default_and_another_place() -> None:
    wanted = shown("ckptkit.open(path, roots=1) x\nckptkit.diff(a, values=True)\nckptkit.verify() y")
    assert problems("open", wanted["open"]) == ["open: roots=1 is None"]
    assert problems("diff", wanted["diff"]) == [
        "diff: values=True is values: 'bool' = False", "diff asks for more: ['a', 'b']"
    ]  # fmt: skip
    assert problems("verify", wanted["verify"]) == ["verify asks for more: ['path']"]


def test_every_public_name_is_there_and_listed() -> None:
    names = ["rules", "Rule", "Finding", "Fix", "Written", "Mismatch", *shown(CALLS)]
    assert set(names) <= set(ckptkit.__all__) <= set(dir(ckptkit))
    assert all(getattr(ckptkit, name) is not None for name in ckptkit.__all__)
    assert issubclass(ckptkit.rules.Rename, ckptkit.Rule)
    with pytest.raises(AttributeError, match=r"^module 'ckptkit' has no attribute 'Rnme'$"):
        _ = ckptkit.Rnme  # type: ignore[attr-defined]


RULES = [{"op": "strip_prefix", "prefix": "module."}]
OLD = {"module.weight": torch.ones(2, 2), "module.bias": torch.ones(2)}


@pytest.mark.parametrize(
    "target",
    [nn.Linear(2, 2), ckptkit.signature(nn.Linear(2, 2)), nn.Linear(2, 2).state_dict()],
    ids=["model", "signature", "map"],
)
def test_a_plan_with_a_target_is_given_where_its_result_fits(target: Any) -> None:
    assert [output.key for output in ckptkit.plan(OLD, RULES, target).outputs] == ["weight", "bias"]


def test_a_plan_whose_result_does_not_fit_is_an_error_with_the_cause() -> None:
    wanted = {"backbone.weight": torch.ones(2, 2), "backbone.bias": torch.ones(2)}
    with pytest.raises(ckptkit.IncompatibleKeysError) as caught:
        ckptkit.plan(OLD, RULES, target=wanted)
    assert str(caught.value).startswith("The checkpoint does not fit the target: 0 tensors filled")
    assert caught.value.findings
