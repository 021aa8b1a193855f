"""Whether a checkpoint of 7 billion parameters fits a model that is built on the meta device."""

from __future__ import annotations

from ..model import PYTHON, Case, Contestant, Workshop, ours


def cases(workshop: Workshop) -> list[Case]:
    folder = workshop.fixture("seven", "")
    command = ("check", str(folder), "--model", "benchmarks.seven:model")
    return [
        Case(
            "Check an index of 7 billion parameters against a model",
            Contestant("python -c 'import torch'", (*PYTHON, "-c", "import torch")),
            (ours("ckptkit check", *command, warm=command, most_seconds=5.0, most_memory=150),),
        )
    ]
