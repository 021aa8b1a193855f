"""The same bad model files given to the formats' own libraries: the table of ``docs/reliability.md``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .corpus import available, generate, sandboxed

READERS = ("read", "torch", "safetensors", "huggingface_hub")
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")

pytestmark = [
    pytest.mark.skipif(not available(), reason="the shared corpus is not here"),
    pytest.mark.skipif("CKPTKIT_FULL" not in os.environ, reason="make reliability runs it"),
]


def test_bad_model_files_that_other_readers_accept_are_refused(tmp_path: Path) -> None:
    manifest = generate(tmp_path / "bad")
    files = [
        case
        for case in manifest
        if case["file"].endswith(SUFFIXES) and case["file"].startswith(("st/", "pt/"))
    ]
    bad = {case["file"] for case in files if case["expect"] == "clean-error"}
    for reader in READERS:
        own = [
            case["file"]
            for case in files
            if reader in ("read", "huggingface_hub")
            or (reader == "safetensors") == case["file"].endswith(".safetensors")
        ]
        done = sandboxed([(reader, str(tmp_path / "bad" / name)) for name in own], tmp_path / reader)
        outcomes = dict(zip(own, done, strict=True))
        accepted = [name for name, one in outcomes.items() if name in bad and one["outcome"] == "ok"]
        died = [name for name, one in outcomes.items() if one["outcome"] not in ("ok", "error", "foreign")]
        costly = [name for name, one in outcomes.items() if one.get("memory", 0) > 200 << 20]
        print(
            f"\n{reader}: files {len(own)}, bad {len(bad & set(own))}, bad accepted {len(accepted)}, "
            f"died or hung {len(died)}, over 200 MB {len(costly)}\n  {accepted} {died} {costly}"
        )
        if reader == "read":
            assert not accepted + died + costly
