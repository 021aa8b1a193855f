"""What structure decides: parts, towers, orders and places that no single name tells."""

from __future__ import annotations

import random

import ckptkit

from . import generated as g
from .test_answers import by_key, infer


def origins(found: ckptkit.Inference) -> dict[str, tuple[str, ...]]:
    return {o.key: o.expr.reads() for o in found.outputs}


def test_parametrized_weights_and_their_older_hooks_are_one_thing() -> None:
    old: g.Shapes = {}
    new: g.Shapes = {}
    for n, width in enumerate((8, 16)):
        old |= {
            f"conv.{n}.weight_g": (width, 1, 1),
            f"conv.{n}.weight_v": (width, 4, 3),
            f"conv.{n}.bias": (width,),
        }
        at = f"body.conv.{n}.parametrizations.weight"
        new |= {
            f"{at}.original0": (width, 1, 1),
            f"{at}.original1": (width, 4, 3),
            f"body.conv.{n}.bias": (width,),
        }
    for source, target in ((old, new), (new, old)):
        found = infer(source, target)
        assert found.complete
        pairs = {key: reads for key, (reads,) in origins(found).items()}
        assert all(shape == source[pairs[key]] for key, shape in target.items())
        assert len(found.config.rules) <= 3


def test_a_stack_runs_over_any_number_of_its_keys() -> None:
    source: g.Shapes = {"norm.weight": (8,)}
    target: g.Shapes = {"norm.weight": (8,)}
    for n in range(4):
        for e in range(5):
            source[f"experts.{e}.layer.{n}.up.weight"] = (12, 8)
        target[f"layer.{n}.experts.up.weight"] = (5, 12, 8)
    found = infer(source, target)
    assert origins(found)["layer.1.experts.up.weight"] == tuple(
        f"experts.{e}.layer.1.up.weight" for e in range(5)
    )
    assert any(rule.op == "stack" for rule in found.config.rules)


def test_parts_are_joined_in_the_order_that_the_name_of_the_whole_spells() -> None:
    source: g.Shapes = {}
    target: g.Shapes = {}
    for n in range(2):
        source |= {f"layer.{n}.{part}.weight": (8, 8) for part in ("key", "value", "query")}
        source[f"layer.{n}.out.weight"] = (8, 24)
        target |= {f"layer.{n}.kqv.weight": (24, 8), f"layer.{n}.out.weight": (8, 24)}
    found = infer(source, target)
    assert origins(found)["layer.0.kqv.weight"] == tuple(
        f"layer.0.{part}.weight" for part in ("key", "query", "value")
    )
    assert by_key(found)["layer.0.kqv.weight"][1] != "certain"


def test_the_copy_for_a_moving_average_stays_aside_even_where_it_comes_first() -> None:
    tower = g.residual()
    source = {f"{name}.{key}": shape for name in ("encoder_k", "encoder_q") for key, shape in tower.items()}
    found = infer(source, tower)
    assert found.complete
    assert {reads[0].split(".")[0] for reads in origins(found).values()} == {"encoder_q"}


def test_two_towers_that_one_source_fills_are_a_few_rules_not_one_per_key() -> None:
    base = g.transformer(6)
    target = {f"{tower}.{key}": shape for tower in ("left", "right", "third") for key, shape in base.items()}
    found = infer(base, target)
    assert found.complete
    assert len(found.config.rules) <= 4


def test_a_norm_follows_its_convolution() -> None:
    source: g.Shapes = {}
    target: g.Shapes = {}
    mapping: dict[str, str] = {}
    for n, width in enumerate((8, 16, 16, 32)):
        before = (4, 8, 16, 16)[n]
        source |= {f"c{n}.weight": (width, before, 3, 3)} | g.norm(f"b{n}", width)
        target |= {f"stage.{n}.0.weight": (width, before, 3, 3)} | g.norm(f"stage.{n}.1", width)
        mapping |= {f"stage.{n}.1.weight": f"b{n}.weight"}
    found = origins(infer(source, target))
    for key, origin in mapping.items():
        assert found.get(key, (origin,)) == (origin,)


def test_what_only_its_place_tells_apart_is_never_certain() -> None:
    """Equal shapes under unrelated names: one order fits both, but nothing proves it."""
    rng = random.Random(5)
    words = ["".join(rng.choices("bdfgklmnprstvz", k=6)) for _ in range(12)]
    source = {f"{word}.weight": (8, 8) for word in words[:6]}
    target = {f"{word}.weight": (8, 8) for word in words[6:]}
    assert all(o.confidence != "certain" for o in infer(source, target).outputs)


def test_a_few_guesses_among_hundreds_of_keys_are_no_mapping() -> None:
    source = {f"s{n}.weight": (7 + n, 3) for n in range(150)} | {"final.norm5.weight": (500,)}
    target = {f"t{n}.weight": (5, 300 + n) for n in range(150)} | {"neck.post_norm.weight": (500,)}
    found = infer(source, target)
    assert all(o.confidence != "guess" for o in found.outputs)


def test_where_nothing_is_found_the_rules_leave_no_target_key_in_another_shape() -> None:
    source = {"head.weight": (3, 5), "body.weight": (9, 2)}
    target = {"head.weight": (7, 5), "other.conv.weight": (4, 4, 3, 3)}
    found = infer(source, target)
    assert found.outputs == ()
    plan = ckptkit.plan(g.signature(source), found.config)
    assert not {o.key for o in plan.outputs} & set(target)


def test_keys_that_no_module_has_are_matched_by_their_name_alone() -> None:
    """Thousands of parts, numbers of thousands of digits: neither an error nor a wait."""
    odd: g.Shapes = {
        ".".join(["0"] * 1500): (3,),
        ".".join(["a"] * 20_000): (3,),
        ".".join(f"l{i % 7}.{i % 2}" for i in range(1000)) + ".weight": (3,),
        "layer" + "9" * 5000 + ".weight": (3,),
        "x" * 100_000: (3,),
    }
    base = g.transformer(2)
    found = infer({f"module.{k}": s for k, s in base.items()} | odd, base | odd)
    assert found.complete
    assert all(by_key(found)[key] == ({"read": key}, "certain") for key in odd)
    other = {key + "1": shape for key, shape in odd.items()}
    assert set(infer(odd, other).missing) == set(other)


def test_ordinal_words_count_and_letters_of_projections_are_read_inside_names() -> None:
    source: g.Shapes = {}
    target: g.Shapes = {}
    nets = {"wq_net": "q_proj", "wk_net": "k_proj", "wv_net": "v_proj", "wo_net": "out_proj"}
    for n in range(3):
        for mine, theirs in (("first_sub_layer", "self_attn"), ("second_sub_layer", "encoder_attn")):
            source |= {f"dec.layers.{n}.{mine}.{net}.weight": (8, 8) for net in nets}
            target |= {f"decoder.layers.{n}.{theirs}.{p}.weight": (8, 8) for p in nets.values()}
    found = origins(infer(source, target))
    assert found["decoder.layers.1.self_attn.k_proj.weight"] == (
        "dec.layers.1.first_sub_layer.wk_net.weight",
    )
    assert found["decoder.layers.2.encoder_attn.out_proj.weight"] == (
        "dec.layers.2.second_sub_layer.wo_net.weight",
    )


def test_a_norm_in_a_sequence_goes_where_the_convolution_before_it_goes() -> None:
    def conv_norm(conv: str, norm: str, *shape: int) -> g.Shapes:
        leaves = ("weight", "bias", "running_mean", "running_var")
        return {f"{conv}.weight": shape} | {f"{norm}.{leaf}": shape[:1] for leaf in leaves}

    def stages(names: tuple[str, ...]) -> g.Shapes:
        shapes: g.Shapes = {}
        for name, width in zip(names, (8, 16), strict=True):
            for n, k in ((n, k) for n in range(2) for k in (1, 2)):
                inputs = 8 if (n, k) == (0, 1) else width
                at = f"{name}.{n}"
                shapes |= conv_norm(f"{at}.conv{k}", f"{at}.bn{k}", width, inputs, 3, 3)
        return shapes

    source: g.Shapes = {}
    for trunk in ("backbone", "backbone_momentum"):
        source |= conv_norm(f"{trunk}.0", f"{trunk}.1", 8, 3, 7, 7)
        source |= stages((f"{trunk}.4", f"{trunk}.5"))
    target = conv_norm("conv1", "bn1", 8, 3, 7, 7) | stages(("layer1", "layer2"))
    found = origins(infer(source, target))
    assert found["conv1.weight"] == ("backbone.0.weight",)
    assert found["bn1.running_mean"] == ("backbone.1.running_mean",)
    assert found["layer2.1.bn2.bias"] == ("backbone.5.1.bn2.bias",)


def test_items_of_a_list_are_no_towers_of_which_the_first_is_taken() -> None:
    source: g.Shapes = {}
    target: g.Shapes = {}
    attentions = {"encoder": ("self_attn",), "decoder": ("self_attn", "src_attn")}
    for side, n in ((side, n) for side in attentions for n in range(3)):
        mine, theirs = f"{side}.layers.{n}", f"transformer.{side}.layers.{n}"
        for name in attentions[side]:
            for k in range(4):
                source |= g.linear(f"{mine}.{name}.linears.{k}", 8, 8)
            at = f"{theirs}.{name.replace('src', 'multihead')}"
            target |= {f"{at}.in_proj_weight": (24, 8), f"{at}.in_proj_bias": (24,)}
            target |= g.linear(f"{at}.out_proj", 8, 8)
        source |= g.linear(f"{mine}.feed_forward.w_1", 32, 8) | g.linear(f"{mine}.feed_forward.w_2", 8, 32)
        target |= g.linear(f"{theirs}.linear1", 32, 8) | g.linear(f"{theirs}.linear2", 8, 32)
    found = origins(infer(source, target))
    assert found["transformer.encoder.layers.0.linear1.weight"] == (
        "encoder.layers.0.feed_forward.w_1.weight",
    )
    assert not any(".linears.0" in key for reads in found.values() for key in reads)


def tower(at: str, *, cross: bool) -> g.Shapes:
    shapes = g.norm(f"{at}.embeddings.norm", 8)
    for n in range(3):
        for attention in ("attention", "crossattention")[: 1 + cross]:
            for part in ("query", "key", "value", "out"):
                shapes |= g.linear(f"{at}.layer.{n}.{attention}.{part}", 8, 8)
        shapes |= g.linear(f"{at}.layer.{n}.up", 32, 8) | g.linear(f"{at}.layer.{n}.down", 8, 32)
    return shapes


def test_a_tower_that_holds_the_source_and_more_is_a_copy_of_it_as_the_plain_one_is() -> None:
    source = {key.removeprefix("x."): shape for key, shape in tower("x", cross=False).items()}
    target = tower("encoder.bert", cross=False) | tower("decoder.bert", cross=True)
    found = infer(source, target)
    assert {key for key in target if "crossattention" in key} == set(found.missing)
    assert all(key.endswith(reads) for key, (reads,) in origins(found).items())
    assert {o.confidence for o in found.outputs if o.key.startswith("decoder")} == {"likely"}


def test_a_source_that_is_called_like_one_tower_fills_no_other() -> None:
    target = tower("encoder", cross=False) | tower("decoder", cross=True)
    for prefix in ("", "model."):
        source = {prefix + key: shape for key, shape in tower("encoder", cross=False).items()}
        found = infer(source, target)
        assert {o.key for o in found.outputs} == set(tower("encoder", cross=False))
        assert {o.confidence for o in found.outputs} == {"certain"}


def test_norms_before_their_convolutions_stay_with_those_of_their_number() -> None:
    source: g.Shapes = {"stem.weight": (16, 3, 3, 3)}
    target: g.Shapes = {"net.0.weight": (16, 3, 3, 3)}
    for k in range(4):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            source[f"bn{k + 1}.{leaf}"] = target[f"net.{1 + 3 * k}.{leaf}"] = (16,)
        source[f"conv{k + 1}.weight"] = target[f"net.{3 + 3 * k}.weight"] = (16, 16, 3, 3)
    found = origins(infer(source, target))
    assert all(found[f"net.{1 + 3 * k}.running_mean"] == (f"bn{k + 1}.running_mean",) for k in range(4))
