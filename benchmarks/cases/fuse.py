"""Stacking the experts of a mixture of experts: every byte moves, none changes."""

from __future__ import annotations

from ..model import DST, Case, Workshop, copied, ours, peer


def cases(workshop: Workshop) -> list[Case]:
    suffix = ".safetensors"
    source, small = workshop.fixture("moe", suffix), workshop.small("moe", suffix)
    config = workshop.fixture("fuse", ".json")
    return [
        Case(
            "Fuse the experts of a safetensors file",
            copied(source, suffix),
            (
                ours(
                    "ckptkit remap",
                    *("remap", str(source), DST, "--config", str(config)),
                    warm=("remap", str(small), DST, "--config", str(config)),
                    suffix=suffix,
                    most_memory=150,
                    without_torch=True,
                ),
                peer(
                    "load_file + cat + stack + save_file",
                    *("fuse_experts", str(source), DST),
                    warm=("fuse_experts", str(small), DST),
                    suffix=suffix,
                ),
            ),
            same=("ckptkit remap", "load_file + cat + stack + save_file"),
        )
    ]
