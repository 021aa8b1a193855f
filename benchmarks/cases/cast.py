"""float32 to bfloat16; the limit reads all and writes half."""

from __future__ import annotations

from ..model import DST, Case, Contestant, Workshop, ours, peer


def cases(workshop: Workshop) -> list[Case]:
    suffix = ".safetensors"
    source, small = workshop.fixture("weights", suffix), workshop.small("weights", suffix)
    half = str(source.stat().st_size // 2)
    script = 'head -c "$3" "$1" > "$2" && tail -c "$3" "$1" > /dev/null && sync "$2"'
    return [
        Case(
            "Cast a safetensors file from float32 to bfloat16",
            Contestant(
                "read all, write half + fsync",
                ("sh", "-c", script, "sh", str(source), DST, half),
                suffix=suffix,
            ),
            (
                ours(
                    "ckptkit remap --cast",
                    *("remap", str(source), DST, "--cast", "bfloat16"),
                    warm=("remap", str(small), DST, "--cast", "bfloat16"),
                    suffix=suffix,
                    most_ratio=3.0,
                    most_memory=150,
                ),
                peer(
                    "safe_open + to + save_file",
                    *("cast_safetensors", str(source), DST),
                    warm=("cast_safetensors", str(small), DST),
                    suffix=suffix,
                ),
            ),
            same=("ckptkit remap --cast", "safe_open + to + save_file"),
        )
    ]
