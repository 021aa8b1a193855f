"""The same failure as text and as objects: one cause, and what `check` composes loads what should be loaded."""

from __future__ import annotations

import pytest

import ckptkit

from .blind import texts as _texts  # noqa: F401 - registers the cases
from .blind.breaks import CASES
from .blind.judging import Trial
from .blind.rendering import facts

# No pair that fails: torch fills one name of a tied tensor under the other one, and only a text can be without it.
FITTING = {"an output that is the embedding"}


@pytest.mark.parametrize("name", [name for name in CASES if name not in FITTING])
def test_text_and_objects_get_one_cause_and_the_composed_fix_does_no_harm(name: str) -> None:
    broken = CASES[name]()
    trial = Trial(broken)
    words = facts(broken).words
    trial.put_back()
    told = ckptkit.explain(words).findings
    report = ckptkit.check(broken.model, dict(broken.state))
    trial.put_back()
    assert report.findings, "check says nothing"
    first = report.findings[0]
    assert (bool(told) and first.cause == told[0].cause) or first.cause in broken.causes
    if report.fix is not None:
        verdict, why = trial.of(report.fix.to_dict())
        assert verdict != "harm" or first.confidence == "guess", why
        assert verdict == "right" or broken.outcome == "none" or broken.fix_from == "nobody", why
