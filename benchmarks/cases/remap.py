"""Renaming every key: strip the prefix that training wrappers leave."""

from __future__ import annotations

from ..fixtures import PREFIX
from ..model import DST, Case, Workshop, copied, ours, peer

LARGE = 10**9  # what the targets are for: below, the start of Python is most of the time


def cases(workshop: Workshop) -> list[Case]:
    return [safetensors(workshop), torch_zip(workshop)]


def safetensors(workshop: Workshop) -> Case:
    suffix = ".safetensors"
    source, small = workshop.fixture("weights", suffix), workshop.small("weights", suffix)
    strip = ("--strip-prefix", PREFIX)
    return Case(
        "Rename all keys of a safetensors file",
        copied(source, suffix),
        (
            ours(
                "ckptkit remap",
                *("remap", str(source), DST, *strip),
                warm=("remap", str(small), DST, *strip),
                suffix=suffix,
                most_ratio=1.3 if workshop.size >= LARGE else None,
                most_memory=150,
            ),
            peer(
                "load_file + save_file",
                *("rename_safetensors", str(source), DST),
                warm=("rename_safetensors", str(small), DST),
                suffix=suffix,
            ),
        ),
        same=("ckptkit remap", "load_file + save_file"),
    )


def torch_zip(workshop: Workshop) -> Case:
    suffix = ".pt"
    source, small = workshop.fixture("weights", suffix), workshop.small("weights", suffix)
    strip = ("--strip-prefix", PREFIX)
    return Case(
        "Rename all keys of a .pt file",
        copied(source, suffix),
        (
            ours(
                "ckptkit remap",
                *("remap", str(source), DST, *strip),
                warm=("remap", str(small), DST, *strip),
                suffix=suffix,
                most_ratio=1.6 if workshop.size >= LARGE else None,
                most_memory=150,
            ),
            peer(
                "torch.load + torch.save",
                *("rename_pt", str(source), DST),
                warm=("rename_pt", str(small), DST),
                suffix=suffix,
            ),
            peer(
                "torch.load(mmap=True) + torch.save",
                *("rename_pt_mapped", str(source), DST),
                warm=("rename_pt_mapped", str(small), DST),
                suffix=suffix,
            ),
        ),
        same=("ckptkit remap", "torch.load + torch.save"),
    )
