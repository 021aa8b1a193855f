"""``ckptkit diff`` as a user runs it: words, documents, exit codes."""

from __future__ import annotations

import json

import pytest
import torch

import ckptkit

from .conftest import Shell, state

SAME = """\
A: model.safetensors
B: run.pt
same structure (values were not compared; --values, or values=True, does)
note: run.pt: root: state_dict, the only weights (9 tensors)
"""

DIFFERENT = """\
A: model.safetensors
B: other.pt
different: 2 added, 1 removed, 5 renamed, 1 of another shape, 1 of another dtype, 2 with other values
added (in B only): 2
  module.layers.2.attention.key.weight
  module.norm.weight
removed (in A only): 1
  module.layers.2.attn.k.weight
renamed (equal content under another key): 5
  module.layers.{0..2}.attn.q.weight -> module.layers.{0..2}.attention.query.weight  x3
  module.layers.{0..1}.attn.k.weight -> module.layers.{0..1}.attention.key.weight  x2
rules that do so, for a remap of A:
  - op: rename
    pairs:
    - ['\\.attn\\.q\\.', '.attention.query.']
    - ['\\.attn\\.k\\.', '.attention.key.']
shape differs: 1
  module.step  [] -> [1]
dtype differs: 1
  module.head.weight  float32 -> float16
values differ: 2 of 2
                       max abs     rel L2    cosine  NaN A|B  Inf A|B
  module.embed.weight      nan        nan       nan      0|1        -
  module.head.weight         1  0.0899843  0.999061        -        -
note: dtypes differ, so their values were compared after widening: module.head.weight
"""

DOCUMENT = {
    "format": "ckptkit.diff",
    "version": 1,
    "compared": "values",
    "same": False,
    "added": ["module.layers.2.attention.key.weight", "module.norm.weight"],
    "removed": ["module.layers.2.attn.k.weight"],
    "renamed": [
        {"a": "module.layers.0.attn.q.weight", "b": "module.layers.0.attention.query.weight"},
        {"a": "module.layers.0.attn.k.weight", "b": "module.layers.0.attention.key.weight"},
        {"a": "module.layers.1.attn.q.weight", "b": "module.layers.1.attention.query.weight"},
        {"a": "module.layers.1.attn.k.weight", "b": "module.layers.1.attention.key.weight"},
        {"a": "module.layers.2.attn.q.weight", "b": "module.layers.2.attention.query.weight"},
    ],
    "shape": [{"key": "module.step", "a": [], "b": [1]}],
    "dtype": [{"key": "module.head.weight", "a": "float32", "b": "float16"}],
    "values": [
        {
            "key": "module.embed.weight",
            "equal": False,
            "max_abs": "nan",
            "rel_l2": "nan",
            "cosine": "nan",
            "nan": [0, 1],
            "inf": [0, 0],
        },
        {
            "key": "module.head.weight",
            "equal": False,
            "max_abs": 1.0,
            "rel_l2": 0.0899842541331695,
            "cosine": 0.9990614732798577,
            "nan": [0, 0],
            "inf": [0, 0],
        },
    ],
    "rules": [
        {
            "op": "rename",
            "pairs": [["\\.attn\\.q\\.", ".attention.query."], ["\\.attn\\.k\\.", ".attention.key."]],
        }
    ],
    "notes": ["dtypes differ, so their values were compared after widening: module.head.weight"],
}


def distinct() -> dict[str, torch.Tensor]:
    """`state`, in which no two tensors hold the same numbers."""
    return {
        key: value + place if "attn" in key else value.clone()
        for place, (key, value) in enumerate(state().items())
    }


def other() -> dict[str, torch.Tensor]:
    """What became of it in some other project."""
    tensors = {
        key.replace("attn.q", "attention.query").replace("attn.k", "attention.key"): value
        for key, value in distinct().items()
    }
    tensors["module.layers.2.attention.key.weight"] += 0.5
    tensors["module.embed.weight"][0, 0] = float("nan")
    tensors["module.step"] = tensors["module.step"].reshape(1)
    tensors["module.head.weight"] = tensors["module.head.weight"].half() + 1
    return {**tensors, "module.norm.weight": torch.ones(3)}


@pytest.fixture
def pair(shell: Shell) -> Shell:
    ckptkit.save(distinct(), shell.folder / "model.safetensors", overwrite=True)
    torch.save(other(), shell.folder / "other.pt")
    return shell


def test_the_same_structure_across_formats_exits_0_and_claims_no_more(shell: Shell) -> None:
    ran = shell("diff", "model.safetensors", "run.pt")
    assert (ran.code, ran.out, ran.err) == (0, SAME, "")
    assert "identical" not in ran.out
    ran = shell("diff", "model.safetensors", "run.pt", "--values")
    assert ran.code == 0
    assert "identical: same structure, and every value is equal" in ran.out


def test_differences_exit_1_and_are_shown_folded_with_the_worst_values_first(pair: Shell) -> None:
    ran = pair("diff", "model.safetensors", "other.pt", "--values")
    assert (ran.code, ran.out) == (1, DIFFERENT)


def test_the_document_is_the_contract_to_the_letter(pair: Shell) -> None:
    ran = pair("diff", "model.safetensors", "other.pt", "--values", "--json")
    assert ran.code == 1
    assert ran.document == DOCUMENT
    assert list(ran.document) == list(DOCUMENT)


def test_a_signature_is_enough_for_structure_and_refused_for_values(shell: Shell) -> None:
    assert shell("convert", "model.safetensors", "sig.json").code == 0
    assert shell("diff", "sig.json", "run.pt").code == 0
    ran = shell("diff", "run.pt", "sig.json", "--values", "--json")
    assert ran.code == 2
    assert ran.document["format"] == "ckptkit.error"
    assert ran.document["file"] == "sig.json"
    assert "is a signature, which has keys, shapes and dtypes but no values" in ran.document["message"]


def test_bad_input_exits_2_in_one_line(shell: Shell) -> None:
    (shell.folder / "cut.safetensors").write_bytes((shell.folder / "model.safetensors").read_bytes()[:-3])
    for words in (
        ["run.pt"],
        ["run.pt", "none.pt"],
        ["run.pt", "cut.safetensors"],
        ["run.pt", "run.pt", "--root", "x"],
    ):
        ran = shell("diff", *words)
        assert ran.code == 2
        assert ran.out == ""
        assert ran.err.startswith("error: ")
        assert ran.err.count("\n") == 1


def test_each_side_can_have_its_own_root(shell: Shell) -> None:
    torch.save({"model": state(), "ema": {k: v + 1 for k, v in state().items()}}, shell.folder / "two.pt")
    words = ["diff", "two.pt", "two.pt", "--root-a", "model", "--root-b", "ema", "--values", "--json"]
    ran = shell(*words)
    assert ran.code == 1
    assert {v["max_abs"] for v in ran.document["values"]} == {1.0}
    assert shell("diff", "two.pt", "two.pt", "--root", "ema", "--values").code == 0


def test_the_offered_rules_make_a_remap_that_leaves_no_rename(pair: Shell) -> None:
    rules = pair("diff", "model.safetensors", "other.pt", "--json").document["rules"]
    (pair.folder / "rules.json").write_text(json.dumps({"version": 1, "rules": rules}))
    assert pair("remap", "model.safetensors", "out.pt", "--config", "rules.json").code == 0
    assert pair("diff", "out.pt", "other.pt", "--json").document["renamed"] == []
