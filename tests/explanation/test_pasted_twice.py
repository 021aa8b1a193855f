"""A text that went through a page or a terminal on its way says the same."""

from __future__ import annotations

import html
import textwrap

import pytest

import ckptkit

SIZES = "\n".join(
    f"\tsize mismatch for model.layers.{i}.{name}: copying a param with shape torch.Size([{16 * (1 + i)}, 1024]) from "
    f"checkpoint, the shape in current model is torch.Size([{32 * (1 + i)}, 1024])."
    for i in range(3)
    for name in ("attn.q_proj.weight", "mlp.up.weight")
)
NAMES = "\n".join(
    f"\t{head} key(s) in state_dict: "
    + ", ".join(f'"{start}encoder.{i}.{leaf}"' for i in range(4) for leaf in ("fc.weight", "norm.weight"))
    + ". "
    for head, start in (("Missing", ""), ("Unexpected", "module."))
)
TEXTS = {
    "sizes": f"RuntimeError: Error(s) in loading state_dict for Net:\n{SIZES}",
    "names": f"RuntimeError: Error(s) in loading state_dict for Net:\n{NAMES}",
    "vocabulary": (
        "RuntimeError: Error(s) in loading state_dict for LlamaForCausalLM:\n\tsize mismatch for model.embed_tokens.weight: "
        "copying a param with shape torch.Size([32000, 4096]) from checkpoint, the shape in current model is "
        "torch.Size([32064, 4096]).\n\tsize mismatch for lm_head.weight: copying a param with shape "
        "torch.Size([32000, 4096]) from checkpoint, the shape in current model is torch.Size([32064, 4096])."
    ),
}


def told(text: str) -> tuple[object, ...]:
    explanation = ckptkit.explain(text)
    assert explanation.findings
    return explanation.parsed.to_json(), [(f.cause, f.keys, f.fix) for f in explanation.findings]


@pytest.mark.parametrize("name", TEXTS)
def test_text_escaped_for_a_page_says_the_same(name: str) -> None:
    assert told(html.escape(TEXTS[name])) == told(TEXTS[name])
    assert told(html.escape(TEXTS[name]).replace("&quot;", "&#34;").replace("[", "&#x5B;")) == told(
        TEXTS[name]
    )


@pytest.mark.parametrize("width", [70, 80, 97, 120])
@pytest.mark.parametrize("name", TEXTS)
def test_text_cut_at_the_width_of_a_terminal_says_the_same(name: str, width: int) -> None:
    lines = [
        line[at : at + width] for line in TEXTS[name].split("\n") for at in range(0, max(len(line), 1), width)
    ]
    assert max(map(len, lines)) == width
    assert told("\n".join(lines)) == told(TEXTS[name])


def test_lines_that_end_of_their_own_are_not_joined() -> None:
    text = textwrap.dedent("""\
        Some weights of Net were not used when initializing Net:
        - encoder.layers.0.attention.self.query.weight_of_a_long_name
        - encoder.layers.1.attention.self.query.weight_of_a_long_name""")
    assert (
        ckptkit.explain(text).parsed.unexpected
        == ckptkit.explain(text.replace("\n", "\n\n\n")).parsed.unexpected
    )


@pytest.mark.parametrize("cut", [False, True])
def test_shapes_of_a_table_are_read_as_tuples_or_sizes(cut: bool) -> None:
    cells = ("(120, 16)", "(132, 16)") if cut else ("torch.Size([120, 16])", "torch.Size([132, 16])")
    text = (
        "BertModel LOAD REPORT from: ./checkpoint\nKey | Status |\n----+--------+\n"
        f"embeddings.word_embeddings.weight | MISMATCH | Reinit due to size mismatch - ckpt: {cells[0]} vs model:{cells[1]}"
    )
    explanation = ckptkit.explain(text)
    (odd,) = explanation.parsed.mismatched
    assert (odd.source_shape, odd.target_shape) == ((120, 16), (132, 16))
    assert explanation.parsed.class_name == "BertModel"
    assert explanation.findings[0].cause == "vocab_resize"
