"""Filling a module from a file whose keys carry a prefix; the limit is the best of what one writes today."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

from ..model import Case, Contestant, Workshop, peer

SMALL = 1 << 20
MB = 1e6


def cases(workshop: Workshop) -> list[Case]:
    plain = ("load_safetensors", "load_file + load_state_dict")
    loaders = [plain]
    if find_spec("accelerate") is not None:
        loaders.append(("load_accelerate", "accelerate's load_checkpoint_in_model"))
    mapped = ("load_torch_mapped", "torch.load(mmap=True) + load_state_dict")
    return [
        one(workshop, ".safetensors", loaders),
        one(workshop, ".pt", [mapped, ("load_torch", "torch.load + load_state_dict")]),
    ]


def one(workshop: Workshop, suffix: str, peers: list[tuple[str, str]]) -> Case:
    size = workshop.size
    source, small = workshop.fixture("weights", suffix), workshop.fixture("weights", suffix, SMALL)

    def contestant(job: str, name: str) -> Contestant:
        made = peer(name, job, str(source), str(size), warm=(job, str(small), str(SMALL)))
        return replace(made, anonymous=True)

    largest = 4 * 4 * 1024 * 1024
    mine = replace(
        contestant("load_ckptkit", "ckptkit.load"), most_ratio=1.1, most_memory=(size + largest) / MB + 100
    )
    best, *others = (contestant(*each) for each in peers)
    return Case(f"Load a {suffix} file into a module, a prefix stripped", best, (mine, *others))
