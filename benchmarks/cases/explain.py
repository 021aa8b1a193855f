"""From a pasted error to its cause; the limit is a Python that does nothing."""

from __future__ import annotations

from ..model import PYTHON, Case, Contestant, Workshop, ours


def cases(workshop: Workshop) -> list[Case]:
    text = workshop.fixture("error", ".txt")
    return [
        Case(
            "Explain an error of 600 keys",
            Contestant("python -c pass", (*PYTHON, "-c", "pass")),
            (
                ours(
                    "ckptkit explain",
                    *("explain", str(text)),
                    warm=("explain", str(text)),
                    most_seconds=0.3,
                    without_torch=True,
                ),
            ),
        )
    ]
