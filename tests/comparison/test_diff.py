"""`diff` over generated state_dicts: laws of sameness and symmetry, renames, and what it does not read."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.comparison.rewrites import as_rules, rewrites

from ..strategies import IN_SAFETENSORS, KEYS, content, state_dicts

FORMATS = ["a.safetensors", "a.pt", "folder", "small-shards"]


def save(state: Any, path: Path) -> Path:
    ckptkit.save(state, path, max_shard_size=40 if path.name.endswith("small-shards") else None)
    return path


@pytest.mark.parametrize("first", FORMATS)
@given(state=state_dicts(dtypes=IN_SAFETENSORS), second=st.sampled_from(FORMATS), values=st.booleans())
def test_a_checkpoint_is_the_same_as_itself_in_every_format(
    first: str, second: str, state: dict[str, Any], values: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, two = save(state, Path(folder, "1" + first)), save(state, Path(folder, "2" + second))
        report = ckptkit.diff(one, two, values=values)
        assert report.same, str(report)
        assert report.notes == ()
        assert len(report.values) == (len(state) if values else 0)
        backwards = dict(reversed(list(state.items())))
        assert ckptkit.diff(backwards, two, values=values).same


@given(one=state_dicts(), two=state_dicts(), values=st.booleans())
def test_the_other_direction_says_the_same_the_other_way_round(
    one: dict[str, Any], two: dict[str, Any], values: bool
) -> None:
    there, back = ckptkit.diff(one, two, values=values), ckptkit.diff(two, one, values=values)
    assert there.same == back.same == (_shown(one, values) == _shown(two, values))
    assert len(there.renamed) == len(back.renamed)
    if not there.renamed:
        assert set(there.added) == set(back.removed) == set(two) - set(one)
        assert set(there.removed) == set(back.added) == set(one) - set(two)
    assert {(s.key, s.a, s.b) for s in there.shape} == {(s.key, s.b, s.a) for s in back.shape}
    assert {(d.key, d.a, d.b) for d in there.dtype} == {(d.key, d.b, d.a) for d in back.dtype}
    assert {(v.key, v.equal) for v in there.values} == {(v.key, v.equal) for v in back.values}


def _shown(state: dict[str, Any], values: bool) -> Any:
    return content(state) if values else {k: (v.dtype, v.shape) for k, v in state.items()}


@given(state=state_dicts(), data=st.data())
def test_renamed_keys_are_found_and_the_offered_rules_rename_them(
    state: dict[str, Any], data: st.DataObject
) -> None:
    moved = data.draw(st.lists(st.sampled_from(sorted(state)), unique=True)) if state else []
    fresh = data.draw(
        st.lists(
            KEYS.filter(lambda k: k and k not in state), min_size=len(moved), max_size=len(moved), unique=True
        )
    )
    names = dict(zip(moved, fresh, strict=True))
    renamed = {names.get(key, key): value for key, value in state.items()}
    report = ckptkit.diff(state, renamed)
    assert {pair[0] for pair in report.renamed} == set(moved)
    assert {pair[1] for pair in report.renamed} == set(fresh)
    before, after = content(state), content(renamed)
    assert all(before[a] == after[b] for a, b in report.renamed)
    assert (report.added, report.removed, report.same) == ((), (), not moved)
    repaired = ckptkit.remap(state, list(report.rules))
    assert content(repaired) == after


def blocks(count: int, *names: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name.format(i): torch.randn(2, 3, generator=generator) for i in range(count) for name in names}


BLOCKS = blocks(
    12, "net.layer.{}.attention.q.weight", "net.layer.{}.attention.k.weight", "net.layer.{}.mlp.weight"
)
FOLDS: list[tuple[str, dict[str, str], list[list[str]]]] = [
    ("a prefix goes", {r"^net\.": ""}, [[r"^net\.", ""]]),
    ("a prefix comes", {"^": "module."}, [["^", "module."]]),
    ("a middle changes", {r"\.layer\.": ".blocks."}, [[r"\.layer\.", ".blocks."]]),
    ("one of two kinds", {"attention": "attn"}, [[r"\.attention\.", ".attn."]]),
    ("a segment goes", {r"\.attention": ""}, [[r"\.attention\.", "."]]),
    ("an end changes", {r"mlp\.weight$": "mlp.w"}, [[r"^net\.layer\.(\d+)\.mlp\.weight$", r"net.layer.\1.mlp.w"]]),
    (
        "two changes at once",
        {r"^net\.layer": "blocks", "attention": "attn"},
        [[r"^net\.layer\.(\d+)\.attention\.", r"blocks.\1.attn."], [r"^net\.layer\.", "blocks."]],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "pairs"), [(c, p) for _, c, p in FOLDS], ids=[name for name, _, _ in FOLDS]
)
def test_renames_of_blocks_fold_into_one_rule(change: dict[str, str], pairs: list[list[str]]) -> None:
    rules = [{"op": "rename", "pattern": a, "replacement": b} for a, b in change.items()]
    report = ckptkit.diff(BLOCKS, ckptkit.remap(BLOCKS, rules))
    (rule,) = report.rules
    assert rule.get("pairs", [[rule.get("pattern"), rule.get("replacement")]]) == pairs
    assert list(ckptkit.remap(BLOCKS, [rule])) == list(ckptkit.remap(BLOCKS, rules))


def test_an_offered_rule_leaves_keys_of_both_alone_and_moves_others_only_where_they_are_missed() -> None:
    pairs = [(f"m.{i}.w", f"n.{i}.w") for i in range(3)]
    old, new = [a for a, _ in pairs], [b for _, b in pairs]
    assert [r.pattern for r in rewrites(pairs, old, new)] == [r"^m\."]
    assert [r.pattern for r in rewrites(pairs, [*old, "m.9.w"], [*new, "n.9.w"])] == [r"^m\."]
    assert r"^m\." not in [r.pattern for r in rewrites(pairs, old, new, ["m.0.b"])]
    assert r"^m\." not in [r.pattern for r in rewrites(pairs, [*old, "m.0.b"], new)]
    assert as_rules(()) == ()


def test_names_decide_between_equal_tensors_and_the_report_says_so() -> None:
    old = {**BLOCKS, **{f"net.layer.{i}.bias": torch.zeros(3) for i in range(12)}}
    new = dict(reversed([(k.replace("layer", "blocks"), v) for k, v in old.items()]))
    report = ckptkit.diff(old, new)
    assert dict(report.renamed) == {key: key.replace("layer", "blocks") for key in old}
    assert "12 of the renamed tensors share their content" in report.notes[0]
    only_zeros = {k: v for k, v in old.items() if k.endswith("bias")}
    shuffled = {k.replace("layer", "x"): v for k, v in reversed(only_zeros.items())}
    assert all(a.split(".")[2] == b.split(".")[2] for a, b in ckptkit.diff(only_zeros, shuffled).renamed)


def test_large_tensors_that_differ_at_their_end_only_are_no_rename() -> None:
    large = torch.zeros(1 << 19)
    other = large.clone()
    other[-1] = 1
    report = ckptkit.diff({"a": large, "b": other}, {"x": other.clone(), "y": large + 0, "z": other + large})
    assert set(report.renamed) == {("a", "y"), ("b", "x")}
    assert ckptkit.diff({"a": large}, {"x": other}).renamed == ()


def test_renames_without_any_system_are_offered_one_by_one() -> None:
    old, new = (
        [f"m.{i}.{i * 7919 % 997}.w" for i in range(300)],
        [f"{i * 6151 % 991}.n{i}" for i in range(300)],
    )
    found = rewrites(list(zip(old, new, strict=True)), old, new)
    assert len(found) == 300
    assert [found[i].apply(old[i]) for i in range(300)] == new


def test_more_keys_of_one_content_than_the_other_side_has_stay_removed() -> None:
    report = ckptkit.diff({"a.w": torch.ones(2), "b.w": torch.ones(2)}, {"c.b.w": torch.ones(2)})
    assert (report.renamed, report.removed) == ((("b.w", "c.b.w"),), ("a.w",))


def test_ties_and_order_are_no_difference_and_ties_are_noted() -> None:
    shared = torch.ones(3)
    report = ckptkit.diff({"a": shared, "b": shared}, {"b": shared.clone(), "a": shared.clone()}, values=True)
    assert report.same
    assert report.notes == ("tied in one of the two only, which is no difference: a = b",)


def test_objects_are_compared_by_presence_and_with_values_by_their_data() -> None:
    a = {"w": torch.ones(1), "x._extra_state": {"scale": torch.ones(2), "n": 1}, "gone": [1]}
    b = {"w": torch.ones(1), "x._extra_state": {"n": 1, "scale": torch.zeros(2)}, "gone": torch.ones(1)}
    structure = ckptkit.diff(a, b)
    assert [(d.key, d.a, d.b) for d in structure.dtype] == [("gone", "object", "float32")]
    assert structure.shape == ()
    found = {v.key: v.equal for v in ckptkit.diff(a, b, values=True).values}
    assert found == {"w": True, "x._extra_state": False}
    odd = {"x": object()}
    assert ckptkit.diff(odd, odd, values=True).same
    assert not ckptkit.diff(odd, {"x": object()}, values=True).same


def test_dtypes_that_differ_are_compared_after_widening_which_is_said() -> None:
    a = {"w": torch.tensor([1.0, 2.0]), "v": torch.tensor([1.0])}
    report = ckptkit.diff(a, {key: value.bfloat16() + 1 for key, value in a.items()}, values=True)
    assert [(v.key, v.max_abs) for v in report.values] == [("w", 1.0), ("v", 1.0)]
    assert report.notes == ("dtypes differ, so their values were compared after widening: w, v",)


def test_a_model_a_signature_and_an_open_checkpoint_can_be_compared(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 3)
    ckptkit.save(model, tmp_path / "m.safetensors")
    with torch.device("meta"):
        meta = torch.nn.Linear(2, 3)
    assert ckptkit.diff(model, tmp_path / "m.safetensors", values=True).same
    assert ckptkit.diff(meta, tmp_path / "m.safetensors").same
    with ckptkit.open(tmp_path / "m.safetensors") as checkpoint:
        assert ckptkit.diff(ckptkit.signature(model), checkpoint).same
        assert checkpoint["bias"].shape == (3,)
    with pytest.raises(
        ckptkit.UsageError, match="is a signature, which has keys, shapes and dtypes but no values"
    ):
        ckptkit.diff(ckptkit.signature(model), model, values=True)
    with pytest.raises(ckptkit.FormatError, match="meta tensor"):
        ckptkit.diff(meta, model, values=True)
    assert ckptkit.diff({f"m.{k}": v for k, v in meta.state_dict().items()}, model).renamed == ()


def test_only_keys_that_could_be_renames_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a = {"both": torch.ones(4), "old": torch.zeros(5), "other": torch.ones(7), "typed": torch.ones(3)}
    b = {"both": torch.zeros(4), "new": torch.zeros(5), "large": torch.ones(8), "half": torch.ones(3).half()}
    read: list[tuple[int, int]] = []
    whole = ckptkit.formats.memory.MemorySource.read

    def noting(self: Any, storage: Any, start: int, stop: int) -> Any:
        read.append((start, stop))
        return whole(self, storage, start, stop)

    monkeypatch.setattr(ckptkit.formats.memory.MemorySource, "read", noting)
    assert ckptkit.diff(a, b).renamed == (("old", "new"),)
    assert {stop - start for start, stop in read} == {20}


def test_comparing_structure_and_finding_renames_imports_no_torch(tmp_path: Path) -> None:
    state = {f"{i}.w": torch.randn(4, 6).T for i in range(3)}
    torch.save(state, tmp_path / "a.pt")
    ckptkit.save({f"m.{key}": value for key, value in state.items()}, tmp_path / "b.safetensors")
    code = (
        "import sys, ckptkit; report = ckptkit.diff(sys.argv[1], sys.argv[2]); "
        "print(len(report.renamed), 'torch' in sys.modules)"
    )
    paths = [str(tmp_path / name) for name in ("a.pt", "b.safetensors")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stdout == "3 False\n"
