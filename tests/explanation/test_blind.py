"""The blind set is what it says it is, and its scorer tells a good answer from a harmful one. A few cases run here."""

from __future__ import annotations

import pytest

from ckptkit.findings import Finding, Fix

from .blind import texts as _texts  # noqa: F401 - registers the cases
from .blind.breaks import CASES, CAUSES
from .blind.judging import Trial, judged
from .blind.messages import messages
from .blind.rendering import cut, facts
from .blind.scoring import agreement, checked, figures, scored
from .blind.texts import texts_of

FEW = (
    "a name of one's own",
    "a network under net",
    "attention of old diffusers",
    "symbols of a recogniser",
    "a mask beside the image",
    "two directions",
    "a model with ids of its own",
    "a criterion",
    "into a pruned model",
    "weight norm under its other names",
    "lightning and a criterion",
)
SLUGS = {
    "prefix_strip", "prefix_add", "rename", "nesting", "wrong_object", "head_mismatch", "vocab_resize", "pos_embed",
    "input_channels", "arch_mismatch", "extra_buffers", "missing_buffers", "extra_modules", "partial_model", "tied_weights",
    "fused_split", "layout", "parametrization", "lora_adapter", "quantized", "sharding", "optimizer_state", "shared_memory",
    "weights_only", "pickle_code", "format_version", "file_corrupt", "file_not_checkpoint", "device_map",
}  # fmt: skip


def test_the_set_has_enough_pairs() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", FEW)
def test_every_case_fails_to_load_and_its_truth_fits_the_model(name: str) -> None:
    broken = CASES[name]()
    wanted = {key: value.shape for key, value in broken.model.state_dict().items()}
    assert {key: value.shape for key, value in broken.expected.items()}.items() <= wanted.items()
    if broken.outcome == "equal":
        assert broken.expected.keys() == wanted.keys()
    if broken.outcome == "none":
        assert not broken.expected
    assert broken.causes == CAUSES[name]
    texts = list(texts_of(broken))
    assert len(texts) == 5
    assert len({text.name for text in texts}) == 5
    assert texts == list(texts_of(CASES[name]())), "the same texts on every run"


def test_all_causes_have_texts() -> None:
    pairs = {cause for causes in CAUSES.values() for cause in causes}
    files = {cause for text in messages() for cause in text.causes}
    assert pairs | files == SLUGS
    assert len(pairs) >= 19


def test_the_scorer_tells_right_from_refused_and_from_harm() -> None:
    broken = CASES["a name of one's own"]()
    trial = Trial(broken)
    before = {key: value.clone() for key, value in broken.model.state_dict().items()}
    right = {"rules": [{"op": "strip_prefix", "prefix": "asr_net."}]}
    nothing = {"rules": [{"op": "strip_prefix", "prefix": "other.", "required": False}]}
    one = {**right, "allow_missing": ["classifier.*"]}
    one["rules"] = [*right["rules"], {"op": "drop", "keys": ["classifier.*"]}]
    assert [trial.of(config)[0] for config in (right, nothing, one)] == ["right", "refused", "harm"]
    assert all(value.equal(before[key]) for key, value in broken.model.state_dict().items()), (
        "the model is put back"
    )

    def score(cause: str, confidence: str, fix: dict[str, object]) -> tuple[object, ...]:
        rules = tuple(fix.pop("rules"))  # type: ignore[arg-type,var-annotated]
        finding = Finding(cause, "t", "", confidence=confidence, fix=Fix("a", rules, fix))  # type: ignore[arg-type]
        found = judged("x", [finding], broken.causes, trial, told=True, repairable=True)
        return found.right, found.fixed, bool(found.harm), found.wrong_certain

    assert score("prefix_strip", "certain", dict(right)) == (True, True, False, False)
    assert score("rename", "certain", dict(nothing)) == (False, False, False, True)
    assert score("rename", "likely", dict(one)) == (False, False, True, False)
    assert score("rename", "guess", dict(one)) == (False, False, False, False), (
        "a guess may be tried with open eyes"
    )


def test_what_no_config_can_repair_is_harmed_by_any_load() -> None:
    trial = Trial(CASES["into a pruned model"]())
    rules = [{"op": "rename", "pattern": r"\.weight$", "replacement": ".weight_orig"}]
    assert trial.of({"rules": rules, "allow_missing": ["*"], "allow_unexpected": ["*"]})[0] == "harm"
    assert trial.of({})[0] == "refused"


def test_a_few_cases_are_scored_and_counted() -> None:
    text, objects = [], []
    for name in FEW[:3]:
        trial = Trial(CASES[name]())
        text += [scored(each, trial) for each in texts_of(trial.broken)]
        objects.append(checked(name, trial))
    assert not [score.crashed for score in (*text, *objects) if score.crashed]
    assert figures(text).startswith("n 15  top1 ")
    assert agreement(text, objects).startswith("n 3  same cause ")


def test_a_cut_text_is_the_beginning() -> None:
    f = facts(CASES["a name of one's own"]())
    assert f.words.startswith(cut(f.words, 0.5))
    assert len(cut(f.words, 0.5)) < len(f.words)
