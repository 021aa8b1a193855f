"""What is printed can be pasted: it is the text that `-o` writes, whatever was found."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.__main__ import main
from ckptkit.composing import composed

LAYERS = [
    f"encoder.layers.{i}.{part}.{leaf}"
    for i in range(3)
    for part in ("attn.q_proj", "mlp.fc1", "norm")
    for leaf in ("weight", "bias")
]


def lists(missing: list[str], unexpected: list[str], *shapes: tuple[str, str, str]) -> str:
    lines = ["RuntimeError: Error(s) in loading state_dict for Net:"]
    for head, keys in (("Missing", missing), ("Unexpected", unexpected)):
        if keys:
            lines.append(f"\t{head} key(s) in state_dict: " + ", ".join(f'"{key}"' for key in keys) + ". ")
    lines += [
        f"\tsize mismatch for {key}: copying a param with shape torch.Size([{a}]) from checkpoint, the shape in current "
        f"model is torch.Size([{b}])."
        for key, a, b in shapes
    ]
    return "\n".join(lines)


def with_all(change: str, by: str) -> list[str]:
    return [re.sub(change, by, key) for key in LAYERS]


TEXTS = {
    "a wrapper": lists(LAYERS, with_all("^", "module.")),
    "a wrapper in the model": lists(with_all("^", "module."), LAYERS),
    "a wrapper inside": lists(LAYERS, with_all(r"(layers\.\d)", r"\1._checkpoint_wrapped_module")),
    "gamma and beta": lists([k for k in LAYERS if "norm" in k], [k.replace("weight", "gamma").replace("bias", "beta") for k in LAYERS if "norm" in k]),  # noqa: E501
    "a segment": lists(LAYERS, with_all("attn", "self_attention")),
    "norms alone": lists(["a.LayerNorm.weight", "a.LayerNorm.bias"], []),
    "weight norm": lists(["a.parametrizations.weight.original0", "a.parametrizations.weight.original1"], ["a.weight_g", "a.weight_v"]),  # noqa: E501
    "spectral norm": lists(["a.parametrizations.weight.original", "a.parametrizations.weight.0._u", "a.parametrizations.weight.0._v"], ["a.weight_orig", "a.weight_u", "a.weight_v"]),  # noqa: E501
    "a training file": lists(LAYERS, ["state_dict", "epoch", "optimizer"]),
    "parts of a run": lists(LAYERS, ["first", "second"]),
    "a loss": lists([], ["criterion.weight", "criterion.bias"]),
    "a wrapper and a loss": lists(LAYERS, [*with_all("^", "module."), "module.criterion.weight"]),
    "buffers": lists([], ["h.0.attn.masked_bias", "h.1.attn.masked_bias"]),
    "buffers of the model": lists(["a.position_ids"], []),
    "a head": lists(["head.weight", "head.bias"], []),
    "another head": lists(["classifier.weight"], ["fc_out.weight"]),
    "classes": lists([], [], ("head.weight", "10, 4", "7, 4"), ("head.bias", "10", "7")),
    "positions": lists([], [], ("pos_embed", "1, 17, 8", "1, 37, 8")),
    "words": lists([], [], ("wte.weight", "120, 8", "128, 8")),
    "channels": lists([], [], ("conv1.weight", "8, 3, 7, 7", "8, 1, 7, 7")),
    "transposed": lists([], [], ("a.c_fc.weight", "4, 8", "8, 4")),
    "flat": lists([], [], ("a.weight", "4, 8, 1, 1", "4, 8")),
    "tied": lists(["lm_head.weight"], []),
    "adapters": lists(["x.lora_A.weight"] * 2, ["x.lora_A_0.weight"] * 2),
    "pruned": lists(["a.weight", "b.weight"], [f"{m}.weight_{p}" for m in "ab" for p in ("orig", "mask")]),
    "pruned without the other list": lists([], ["a.weight_mask"]),
    "a spectral norm alone": lists(["a.weight_orig", "a.weight_u"], []),
    "quantised": lists(["a.weight"], ["a.qweight", "a.scales"]),
    "an optimizer": lists(LAYERS, ["state", "param_groups"]),
    "experts": lists(["e.experts.w1"], [f"e.experts.{i}.w1" for i in range(3)]),
    "deeper": lists([f"layers.{i}.weight" for i in (2, 3)], []),
    "statistics": lists(["a.bn.running_mean", "a.bn.running_var"], []),
    "a pointer": "_pickle.UnpicklingError: invalid load key, 'v'.",
    "a damaged file": "RuntimeError: PytorchStreamReader failed finding central directory",
    "a device": "RuntimeError: Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False.",
    "code": "AttributeError: Can't get attribute 'Net' on <module '__main__'>",
    "odd names": lists([f"a b.{i}.weight" for i in range(3)], [f"module.a b.{i}.weight" for i in range(3)]),
}  # fmt: skip
BLOCK = re.compile(r"(?:^ {5}.*\n?)+", re.MULTILINE)


def blocks(printed: str) -> list[str]:
    """The configs that stand in a printed explanation, moved out."""
    return [textwrap.dedent(block) for block in BLOCK.findall(printed)]


def read(text: str, folder: Path) -> ckptkit.LoadConfig:
    (folder / "pasted.yaml").write_text(text)
    return ckptkit.LoadConfig.from_file(folder / "pasted.yaml")


@pytest.mark.parametrize("name", TEXTS)
def test_every_printed_fix_is_a_config_and_the_last_is_what_the_file_has(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("error.txt").write_text(TEXTS[name])
    explanation = ckptkit.explain(TEXTS[name])
    assert explanation.findings, name
    offered = [f.fix for f in explanation.findings if f.fix is not None and f.fix.offers]
    used, together = composed(explanation.findings)
    if together is not None and len(used) > 1:
        offered.append(together)
    assert main(["explain", "error.txt"]) == 0
    printed = blocks(capsys.readouterr().out)
    assert len(printed) == len(offered)
    for text, fix in zip(printed, offered, strict=True):
        assert read(text, tmp_path) == ckptkit.LoadConfig.parse(fix.config())
    if together is None:
        assert main(["explain", "error.txt", "-o", "fix.yaml"]) == 2
        assert not Path("fix.yaml").exists()
        return
    assert main(["explain", "error.txt", "-o", "fix.yaml"]) == 0
    lines = Path("fix.yaml").read_text().split("\n")
    start = next(
        i for i, line in enumerate(lines) if i and not line.startswith((" ", "description:", "version:"))
    )
    assert "\n".join(lines[start:]) in printed, "the file has another text than the screen"
    assert read("\n".join(lines[start:]), tmp_path) == ckptkit.LoadConfig.from_file("fix.yaml").model_copy(
        update={"description": None}
    )


WORDS = st.text("ab_ .:#'\"{}[]&*!|>%@`,?\\-0é\u2028", min_size=1, max_size=12)


@given(st.lists(WORDS, min_size=1, max_size=4, unique=True), WORDS)
def test_whatever_stands_in_a_fix_it_is_printed_so_that_it_reads_back(
    keys: list[str], replacement: str
) -> None:
    from ckptkit.config.documents import _yaml
    from ckptkit.explanation.explaining_text import Explanation
    from ckptkit.findings import Finding, Fix

    rule = {"op": "rename", "pattern": re.escape(keys[0]), "replacement": replacement, "required": False}
    fix = Fix("as it says", (rule, {"op": "drop", "keys": keys}), {"allow_missing": keys})
    (printed,) = blocks(
        f"{Explanation(ckptkit.explain('').parsed, (Finding('rename', 'a title', '', fix=fix),))}\n"
    )
    assert _yaml(printed) == fix.config()


def test_what_is_printed_repairs_what_it_was_printed_for(tmp_path: Path) -> None:
    import torch

    source = {f"layers.{i}.LayerNorm.{leaf}": torch.ones(2) for i in range(3) for leaf in ("gamma", "beta")}
    target = {k.replace("gamma", "weight").replace("beta", "bias"): v for k, v in source.items()}
    explanation = ckptkit.explain(lists(list(target), list(source)))
    config = read(blocks(f"{explanation}\n")[0], tmp_path)
    assert ckptkit.check(ckptkit.signature(target), source, config).ok
    assert "\\\\." not in str(explanation)
    assert "required: false" in str(explanation)


UNFINISHED = re.compile(
    r"(?i)(?:[\s,:;(\[{-]|\b(?:a|an|the|of|to|in|on|at|by|for|from|with|and|or|nor|but|as|against|than|that|which|its"
    r"|their|into|where|when|if))$"
)


@pytest.mark.parametrize("name", TEXTS)
def test_every_title_and_advice_ends_where_its_sentence_ends(name: str) -> None:
    for finding in ckptkit.explain(TEXTS[name]).findings:
        for text in (finding.title, finding.fix.advice if finding.fix is not None else "none"):
            assert not UNFINISHED.search(text), text
            assert text.count("(") == text.count(")"), text
            assert "  " not in text, text
