"""About 450 bad, hostile and odd inputs, each read in a sandbox: G1 to G19, G27, G28.

The corpus lives in a folder that is shared by several projects; without it these tests are skipped, and the project's
own cases (`test_mutations.py`, `tests/formats/`) stand alone.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from . import pieces
from .corpus import available, generate, sandboxed
from .sandbox import MOST

pytestmark = pytest.mark.skipif(not available(), reason="the shared corpus is not here")

# Large on purpose: their keys are listed, their bytes are not read.
LARGE = {"ok/sparse_5gib.safetensors", "ok/million_keys.safetensors"}
# Refused by name, as the corpus allows: there is nothing that a strided tensor could hold.
REFUSED = {"ok/meta.pt", "ok/sparse.pt", "ok/quantized.pt"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def outcomes(corpus: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    manifest = generate(corpus / "bad", *(["--million"] if "CKPTKIT_FULL" in os.environ else []))
    cases = [(action, str(corpus / "bad" / each["file"])) for each in manifest for action in actions(each)]
    done = iter(sandboxed(cases, corpus / "work"))
    return [(each, next(done)) for each in manifest for _ in actions(each)]


def actions(case: dict[str, Any]) -> list[str]:
    if case["file"].startswith("config/"):
        return ["config"]
    return ["keys"] if case["file"] in LARGE else ["read", "verify"]


def test_every_case_ends_in_an_answer_or_one_error(outcomes: list[Any]) -> None:
    # G3, G4, G5: no other exception, no crash, no hang.
    wrong = [(case["file"], done) for case, done in outcomes if done["outcome"] not in ("ok", "error")]
    assert not wrong
    counts = Counter((case["expect"], done["outcome"]) for case, done in outcomes)
    print("\ncases", len(outcomes), dict(counts), "violations", len(wrong))
    assert len(outcomes) > 400


def test_nothing_is_run_imported_connected_or_written(outcomes: list[Any]) -> None:
    # G1, G2
    assert not [
        (case["file"], done["broken"], done["left"])
        for case, done in outcomes
        if done["broken"] or done["left"]
    ]


def test_what_is_bad_is_refused(outcomes: list[Any]) -> None:
    accepted = [
        case["file"]
        for case, done in outcomes
        if case["expect"] == "clean-error"
        and done["outcome"] != "error"
        # An intact file without a state_dict is whole, and says that it cannot be opened.
        and not (done["action"] == "verify" and (not done["value"]["ok"] or done["value"]["refused"]))
    ]
    assert not accepted


def test_verify_calls_whole_what_must_work(outcomes: list[Any]) -> None:
    # G11
    whole = [
        (case["file"], done)
        for case, done in outcomes
        if done["action"] == "verify" and case["expect"] == "must-work"
    ]
    assert len(whole) > 40
    # Sparse and quantised tensors are refused by name: nobody looks into them, and nothing calls them damaged.
    unread = {"sparse.pt", "quantized.pt"}
    found = [(file, done["value"]["outcome"]) for file, done in whole if not done["value"]["ok"]]
    assert {(os.path.basename(file), outcome) for file, outcome in found} == {
        (name, "not understood") for name in unread
    }


def test_a_refusal_costs_little_memory(outcomes: list[Any]) -> None:
    # G6
    assert not [
        (c["file"], d["memory"]) for c, d in outcomes if d["outcome"] == "error" and d["memory"] > MOST
    ]


def test_no_message_advises_to_turn_safety_off(outcomes: list[Any]) -> None:
    # G2
    words = ("weights_only=False", "allow_pickle=True", "trust_remote_code")
    assert not [case["file"] for case, done in outcomes if any(w in done.get("message", "") for w in words)]


def test_what_must_work_gives_the_values_that_the_formats_own_libraries_give(
    corpus: Path, outcomes: list[Any]
) -> None:
    # G7, G19
    compared = 0
    for case, done in outcomes:
        if case["expect"] != "must-work" or done["action"] != "read" or case["file"] in REFUSED:
            continue
        assert done["outcome"] == "ok", (case["file"], done)
        expected = reference(corpus / "bad" / case["file"])
        if expected is not None and expected.keys() == done["value"].keys():
            assert done["value"] == expected, case["file"]
            compared += 1
    assert compared > 30


def reference(path: Path) -> dict[str, Any] | None:
    """The same summary by torch or safetensors; None where they cannot read it or a root must be chosen."""
    if (path / ".metadata").exists():
        return {ascii(key): summary(value) for key, value in pieces.load(str(path / ".metadata")).items()}
    if path.is_dir():
        return None
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, "pt") as file:
                return {ascii(key): summary(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception:
        return None
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        return None
    return {ascii(key): summary(value) for key, value in state.items()}


def summary(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return "object"
    if value.numel() * value.element_size() > 1 << 28:
        return "large"
    plain = value.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    raw = bytes(plain.reshape(-1).view(torch.uint8).numpy()) if value.numel() else b""
    return [str(value.dtype), list(value.shape), hashlib.sha256(raw).hexdigest()]
