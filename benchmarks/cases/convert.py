"""From one format to the other."""

from __future__ import annotations

from ..model import DST, Case, Workshop, copied, ours, peer


def cases(workshop: Workshop) -> list[Case]:
    return [
        one_way(workshop, ".pt", ".safetensors", "torch.load(mmap=True) + save_file", "pt_to_safetensors"),
        one_way(workshop, ".safetensors", ".pt", "load_file + torch.save", "safetensors_to_pt"),
    ]


def one_way(workshop: Workshop, suffix: str, target: str, theirs: str, job: str) -> Case:
    source, small = workshop.fixture("weights", suffix), workshop.small("weights", suffix)
    return Case(
        f"Convert {suffix} to {target}",
        copied(source, target),
        (
            ours(
                "ckptkit convert",
                *("convert", str(source), DST),
                warm=("convert", str(small), DST),
                suffix=target,
                most_memory=150,
            ),
            peer(theirs, job, str(source), DST, warm=(job, str(small), DST), suffix=target),
        ),
        same=("ckptkit convert", theirs),
    )
