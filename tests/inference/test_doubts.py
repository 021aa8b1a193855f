"""What speaks against an answer keeps it from being certain, and what keeps its own name is not moved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ckptkit

from . import generated as g
from .test_answers import by_key, infer


def moved(found: ckptkit.Inference) -> dict[str, str]:
    """The confidence of every key that is read from a key of another name."""
    return {o.key: o.confidence for o in found.outputs if o.expr.reads() != (o.key,)}


def tower(name: str, layers: int = 4, *, cross: bool = False) -> g.Shapes:
    shapes: g.Shapes = {}
    for n in range(layers):
        at = f"{name}.layers.{n}"
        for part in ("self_attn", "cross_attn")[: 1 + cross]:
            for p in "qkvo":
                shapes |= g.linear(f"{at}.{part}.{p}_proj", 16, 16)
        shapes |= g.linear(f"{at}.fc1", 64, 16) | g.linear(f"{at}.fc2", 16, 64) | g.norm(f"{at}.norm", 16)
    return shapes


def test_a_tower_keeps_its_own_keys_though_another_one_fits_better() -> None:
    source = tower("encoder") | tower("decoder", cross=True)
    assert moved(infer(source, tower("decoder"))) == {}
    assert moved(infer(tower("student", 6) | tower("teacher", 12), tower("teacher", 6))) == {}


@pytest.mark.parametrize(("here", "there"), [(0, 7), (2, 5)])
def test_a_part_in_another_layer_does_not_move_the_layers(here: int, there: int) -> None:
    base = tower("m", 8)
    source = base | {f"m.layers.{here}.self_attn.rel_bias.weight": (32, 8)}
    target = base | {f"m.layers.{there}.self_attn.rel_bias.weight": (32, 8)}
    assert set(moved(infer(source, target))) <= {f"m.layers.{there}.self_attn.rel_bias.weight"}


@pytest.mark.parametrize(
    ("mine", "theirs"), [((0, 1, 2), (3, 4, 5)), ((2, 5), (1, 4)), ((1, 2, 3), (2, 3, 4))]
)
def test_equal_blocks_under_other_numbers_are_never_certain(
    mine: tuple[int, ...], theirs: tuple[int, ...]
) -> None:
    source, target = (
        {f"layers.{n}.{p}.weight": (8, 8) for n in side for p in ("up", "down")} for side in (mine, theirs)
    )
    assert set(moved(infer(source, target)).values()) <= {"likely", "guess"}


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("encoder", "decoder"),
        ("text_model", "vision_model"),
        ("generator", "discriminator"),
        ("student", "teacher"),
        ("query_encoder", "document_encoder"),
    ],
)
def test_another_role_is_never_certain(mine: str, theirs: str) -> None:
    found = infer(tower(mine), tower(theirs))
    assert {o.confidence for o in found.outputs} <= {"likely", "guess"}


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("bbox_head", "cls_head"),
        ("conv_in", "conv_out"),
        ("pos_embed", "token_embed"),
        ("start_logits", "end_logits"),
        ("source_embed", "target_embed"),
        ("mlp.gate", "mlp.up"),
        ("embed_tokens", "lm_head"),
        ("classifier", "lm_head"),
        ("head.classifier", "head.regressor"),
        ("attn.rel_pos_h", "attn.rel_pos_w"),
        ("head", "aux_head"),
        ("token_embed", "token_type_embed"),
    ],
)
def test_one_word_in_common_does_not_outweigh_the_one_that_differs(mine: str, theirs: str) -> None:
    stem = {"stem.weight": (11, 3, 3, 3)}
    found = infer(stem | {f"{mine}.weight": (300, 77)}, stem | {f"{theirs}.weight": (300, 77)})
    assert all(o.confidence != "certain" for o in found.outputs if o.key != "stem.weight")


def test_the_norm_after_attention_is_another_one_where_a_block_has_more_of_them() -> None:
    two = ("input_layernorm", "post_attention_layernorm")
    four = (*two, "pre_feedforward_layernorm", "post_feedforward_layernorm")
    source, target = (
        tower("m") | {f"m.layers.{n}.{name}.weight": (16,) for n in range(4) for name in names}
        for names in (two, four)
    )
    for found in (infer(source, target), infer(target, source)):
        known = by_key(found)
        assert known["m.layers.0.post_attention_layernorm.weight"][1] == "likely"
        assert known["m.layers.0.input_layernorm.weight"][1] == "certain"


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [("weight", "bias"), ("running_mean", "running_var"), ("beta", "weight"), ("scale", "bias")],
)
def test_parameters_that_are_different_things_are_not_exchanged(mine: str, theirs: str) -> None:
    assert infer({f"norm.{mine}": (64,)}, {f"norm.{theirs}": (64,)}).outputs == ()


def test_no_one_of_several_towers_that_one_source_fills_is_certain() -> None:
    base = tower("backbone")
    target = {
        f"{side}.{key.split('.', 1)[1]}": shape for side in ("left", "right") for key, shape in base.items()
    }
    found = infer(base, target)
    assert {o.confidence for o in found.outputs} == {"likely"}


def test_the_rules_do_not_depend_on_the_order_of_keys() -> None:
    source = {f"l.{n}.q.weight": (8, 8) for n in (2, 5, 11)} | {"head.weight": (3, 8)}
    target = {"head.weight": (3, 8)}
    there = ckptkit.infer(g.signature(source), g.signature(target), drop_unused=True)
    back = ckptkit.infer(g.signature(dict(reversed(source.items()))), g.signature(target), drop_unused=True)
    assert there.config == back.config


def test_keys_with_parentheses_are_dropped_by_rules_that_match_them() -> None:
    source = {f"f(x).{n}.w": (n + 2, 3) for n in range(4)} | {"head.weight": (3, 8)}
    found = ckptkit.infer(g.signature(source), g.signature({"head.weight": (3, 8)}), drop_unused=True)
    assert [o.key for o in ckptkit.plan(g.signature(source), found.config).outputs] == ["head.weight"]


def test_data_that_every_model_starts_with_prove_nothing() -> None:
    zeros = torch.zeros(40)
    found = ckptkit.infer({"encoder.bias": zeros}, {"head.bias": zeros.clone()}, values=True)
    assert all(o.confidence != "certain" for o in found.outputs)


def test_what_holds_no_numbers_is_compared_by_name(tmp_path: Path) -> None:
    for name, prefix in (("a.pt", ""), ("b.pt", "m.")):
        torch.save(
            {prefix + "a.w": torch.arange(12.0), prefix + "a._extra_state": {"scale": 3}}, tmp_path / name
        )
    found = ckptkit.infer(tmp_path / "a.pt", tmp_path / "b.pt", values=True)
    assert by_key(found)["m.a.w"] == ({"read": "a.w"}, "certain")
    meta = {"a.w": torch.empty(4, 3, device="meta")}
    assert ckptkit.infer(meta, meta, values=True).complete


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("pitch.conv", "duration.conv"),
        ("aux_classifier.4", "classifier.4"),
        ("auxiliary_head.conv_seg", "decode_head.conv_seg"),
        ("rpn_head.conv", "roi_head.conv"),
        ("cls.predictions.transform.dense", "pooler.dense"),
        ("head_dist", "head"),
        ("pos_embed", "temporal_pos_embed"),
        ("first.fc", "second.fc"),
        ("head1", "head2"),
        ("classifier", "classifier2"),
    ],
)
def test_a_word_or_number_that_only_one_name_has_is_a_doubt(mine: str, theirs: str) -> None:
    rest = tower("body")
    found = infer(rest | {f"{mine}.weight": (300, 77)}, rest | {f"{theirs}.weight": (300, 77)})
    assert {o.confidence for o in found.outputs if o.key in rest} == {"certain"}
    assert all(o.confidence != "certain" for o in found.outputs if o.key not in rest)


def test_a_word_that_wraps_all_or_a_whole_tower_is_none() -> None:
    source = {f"bert.{key}": shape for key, shape in tower("encoder").items()} | {"head.weight": (7, 16)}
    found = infer(source, tower("encoder") | {"head.weight": (7, 16)})
    assert {o.confidence for o in found.outputs} == {"certain"}


@pytest.mark.parametrize(
    "names",
    [
        ("first_norm", "second_norm", "third_norm"),
        ("norm_a", "norm_b", "norm_c"),
        ("norm1", "norm2", "norm3"),
    ],
)
def test_names_that_count_in_any_way_are_places_where_one_of_them_is_missing(names: tuple[str, ...]) -> None:
    source, target = (
        {f"layers.{n}.{name}.weight": (8,) for n in range(4) for name in some}
        | {f"layers.{n}.up.weight": (32, 8) for n in range(4)}
        for some in (names, names[:2])
    )
    found = by_key(infer(source, target))
    assert found[f"layers.0.{names[1]}.weight"][1] == "likely"


def test_norms_of_equal_number_in_other_places_are_not_the_same() -> None:
    after = ("post_attention_layernorm", "post_feedforward_layernorm")
    before = ("input_layernorm", "post_attention_layernorm")
    source, target = (
        tower("m") | {f"m.layers.{n}.{name}.weight": (16,) for n in range(4) for name in names}
        for names in (after, before)
    )
    found = by_key(infer(source, target))
    assert found["m.layers.0.post_attention_layernorm.weight"][1] == "likely"


def test_a_head_beside_one_of_several_embeddings_and_a_head_like_token_types_are_answered() -> None:
    rows = {f"embed.{n}.weight": (100, 8) for n in range(4)}
    found = infer(rows, {"embed.3.weight": (100, 8), "lm_head.weight": (100, 8)})
    assert by_key(found)["embed.3.weight"][0] == {"read": "embed.3.weight"}
    types = {"bert.word_embeddings.weight": (999, 64), "bert.token_type_embeddings.weight": (2, 64)}
    assert infer(types, types | {"head.weight": (2, 64)}).missing == ("head.weight",)
