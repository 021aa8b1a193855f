"""Looking into a file of 300 tensors; the limit is a Python that does nothing."""

from __future__ import annotations

from ..model import PYTHON, Case, Contestant, Workshop, ours, peer


def cases(workshop: Workshop) -> list[Case]:
    return [
        one(workshop, ".safetensors", "safe_open, a loop that prints", "list_safetensors"),
        one(workshop, ".pt", "torch.load(mmap=True), a loop that prints", "list_pt"),
    ]


def one(workshop: Workshop, suffix: str, theirs: str, job: str) -> Case:
    source, small = workshop.fixture("headers", suffix, 0), workshop.small("weights", suffix)
    return Case(
        f"Inspect a {suffix} file of 300 tensors",
        Contestant("python -c pass", (*PYTHON, "-c", "pass")),
        (
            ours(
                "ckptkit inspect",
                *("inspect", str(source)),
                warm=("inspect", str(small)),
                most_seconds=0.25,
                without_torch=True,
            ),
            peer(theirs, job, str(source), warm=(job, str(small))),
        ),
    )
