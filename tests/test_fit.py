"""Whether a planned result fits: keys and shapes, ties counted as filled."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ckptkit.fit import fit
from ckptkit.signatures import OBJECT, Signature, TensorInfo

INFOS = st.builds(
    TensorInfo, st.lists(st.integers(0, 3), max_size=2).map(tuple), st.sampled_from(["float32", "int8"])
)
SIGNATURES = st.dictionaries(st.text("ab.", min_size=1, max_size=3), INFOS, max_size=6).map(Signature)


@given(SIGNATURES, SIGNATURES)
def test_every_key_of_both_sides_is_accounted_for_once(planned: Signature, target: Signature) -> None:
    found = fit(planned, target)
    mismatched = [key for key, _, _ in found.mismatched]
    assert sorted([*found.matched, *found.missing, *mismatched]) == sorted(target)
    assert sorted([*found.matched, *found.unexpected, *mismatched]) == sorted(planned)
    assert found.ok == ({k: t.shape for k, t in planned.items()} == {k: t.shape for k, t in target.items()})
    assert found.ok == (not found.lines())


@given(SIGNATURES)
def test_a_signature_fits_itself_in_any_dtype(target: Signature) -> None:
    other = Signature({key: TensorInfo(info.shape, "float16") for key, info in target.items()})
    found = fit(other, target)
    assert found.ok
    assert (found.tensors, found.parameters) == (1.0, 1.0)


def test_a_missing_key_whose_partner_is_there_is_tied_and_not_missing() -> None:
    info = TensorInfo((4, 2), "float32")
    target = Signature(
        {"embed": info, "head": info, "bias": TensorInfo((2,), "float32")}, (("embed", "head"),)
    )
    found = fit(Signature({"embed": info}), target)
    assert (found.missing, found.tied) == (("bias",), (("head", "embed"),))
    assert (found.tensors, found.parameters) == (2 / 3, 0.8)
    assert found.to_json()["tied"] == [{"key": "head", "from": "embed"}]


def test_what_does_not_fit_is_told_block_by_block() -> None:
    here = Signature({**{f"a.{i}.w": TensorInfo((2, 2), "float32") for i in range(3)}, "x": OBJECT})
    there = Signature({**{f"a.{i}.w": TensorInfo((2, 3), "float32") for i in range(3)}, "y": OBJECT})
    assert fit(here, there).lines() == [
        "missing, the target asks for them: 1 key",
        "  y",
        "unexpected, the target does not have them: 1 key",
        "  x",
        "other shapes: 3 keys",
        "  a.{0..2}.w: [2, 2] here, [2, 3] in the target",
    ]
