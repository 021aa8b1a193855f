"""Many small tensors: 100000 keys through 20 rules, where names cost more than bytes."""

from __future__ import annotations

from ..model import DST, Case, Workshop, copied, ours, peer


def cases(workshop: Workshop) -> list[Case]:
    suffix = ".safetensors"
    source, small = workshop.fixture("keys", suffix, 1 << 24), workshop.small("keys", suffix)
    rules = ("--config", str(workshop.fixture("rules", ".json", 0)))
    return [
        Case(
            "Rename 100000 keys with 20 rules",
            copied(source, suffix),
            (
                ours(
                    "ckptkit remap --config",
                    *("remap", str(source), DST, *rules),
                    warm=("remap", str(small), DST, *rules),
                    suffix=suffix,
                ),
                peer(
                    "load_file, a loop of re.sub, save_file",
                    *("many_renames", str(source), DST),
                    warm=("many_renames", str(small), DST),
                    suffix=suffix,
                ),
            ),
            same=("ckptkit remap --config", "load_file, a loop of re.sub, save_file"),
        )
    ]
