"""Any names in a folder: the recogniser ends, and says what it is in words of its own."""

from __future__ import annotations

import re
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.formats.layouts.finding import find

from ..deadline import deadline

_WORDS = st.sampled_from(
    ["model", "optim", "optimizer", "rank", "rank_0", "shard-00001", "-00001-of-00002", "index", ".", "-", "_", "a", "aaaa",
     "0", "9" * 20, "of", "fp16", ".safetensors", ".bin", ".pt", ".json", "layer_01-model_00-model_states.pt", "mp_rank_00",
     "consolidated.", "!", " ", "\n", "é", "pytorch_model", "last_checkpoint", "modules.json", "latest",
     "adapter_config.json"]
)  # fmt: skip
_NAMES = st.lists(_WORDS, min_size=1, max_size=60).map(lambda words: "".join(words)[:120]).filter(
    lambda name: name not in (".", "..")
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(files=st.lists(_NAMES, max_size=6, unique=True), folders=st.lists(_NAMES, max_size=2, unique=True))
@example(files=["optim" + "a" * 200 + "!"], folders=[])
@example(files=["optimizer" + "._-" * 80 + "!"], folders=[])
def test_whatever_the_names_a_folder_is_recognised_or_refused_by_name(
    files: list[str], folders: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as path:
        for name in folders:
            Path(path, name).mkdir()
        for name in files:
            if name not in folders:
                Path(path, name).write_bytes(b"x")
        with deadline(30):
            with suppress(ckptkit.FormatError):
                find(path)
            with pytest.raises(ckptkit.CkptkitError, match=re.escape(path)):
                ckptkit.open(path)
