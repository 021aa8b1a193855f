"""What `inspect` shows, from signatures alone."""

from __future__ import annotations

from typing import Any

from ckptkit.formats.base import Source
from ckptkit.render.plain import plain
from ckptkit.render.signature_view import header, keys_table, stats_table, ties, totals
from ckptkit.signatures import OBJECT, Root, Signature, TensorInfo

F32, BF16 = "float32", "bfloat16"


class Made(Source):
    format = "torch zip"
    path = "run.pt"
    files = ("run.pt",)
    surroundings = ("epoch", "optimizer\x1b[2J")
    companions = ("/models/m/config.json", "/models/m/1_Pooling/")

    def __init__(self, signature: Signature) -> None:
        self.signature = signature

    view = read = tensor = None  # type: ignore[assignment]


Made.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def test_the_header_names_format_root_other_roots_and_what_lies_beside() -> None:
    roots = (Root("state_dict", "weights", 7, chosen=True), Root("ema", "ema", 1), Root("", "weights", 0))
    metadata = {"format": "pt"}
    assert plain(header(Made(Signature({}, (), metadata, "state_dict", roots)))) == (
        "run.pt: torch zip\n"
        "root: state_dict\n"
        "roots:\n"
        "  state_dict   weights  7 tensors  opened\n"
        "  ema          ema       1 tensor\n"
        "  (top level)  weights  0 tensors\n"
        "beside the root: epoch, optimizer\\x1b[2J\n"
        "metadata: format=pt\n"
        "files beside the weights: config.json, 1_Pooling/\n"
    )


def test_long_metadata_gets_lines_of_its_own_and_says_how_much_is_not_shown() -> None:
    shown = plain(header(Made(Signature({}, (), {"a": "x" * 1000, "b": "1\n2"}))))
    assert f"  a={'x' * 300}... (1000 characters; --json has them all)\n  b=1\\n2\n" in shown


def test_blocks_share_a_row_only_with_equal_shape_and_dtype() -> None:
    tensors = {f"layers.{i}.w": TensorInfo((4, 4), F32 if i < 3 else BF16) for i in range(4)}
    tensors["norm._extra_state"] = OBJECT
    assert plain([keys_table(Signature(tensors))]) == (
        "layers.{0..2}.w    [4, 4]  float32   x3\n"
        "layers.3.w         [4, 4]  bfloat16\n"
        "norm._extra_state          object\n"
    )


def test_ties_share_a_line_only_when_their_block_numbers_agree() -> None:
    same = [(f"a.{i}.w", f"b.{i}.w") for i in range(3)]
    assert plain(ties(same)).splitlines()[1:] == ["  a.{0..2}.w = b.{0..2}.w  x3"]
    crossed = [("a.0.w", "b.1.w"), ("a.1.w", "b.0.w")]
    assert plain(ties(crossed)).splitlines()[1:] == ["  a.0.w = b.1.w", "  a.1.w = b.0.w"]
    assert ties([]) == []


def test_totals_count_tied_tensors_once_and_objects_apart() -> None:
    tensors = {
        "a": TensorInfo((1000, 2), F32),
        "b": TensorInfo((1000, 2), F32),
        "n": TensorInfo((), "int64"),
        "s": OBJECT,
    }
    assert plain(totals(Signature(tensors, (("a", "b"),)))) == (
        "3 tensors, 2K parameters (2,001), 8.0 kB (tied ones counted once), and 1 object that is no tensor\n"
        "  float32  2 tensors  2K parameters (2,000)  8.0 kB\n"
        "  int64     1 tensor            1 parameter     8 B\n"
    )
    assert plain(totals(Signature({}))) == "0 tensors, 0 parameters, 0 B\n"


def test_the_table_of_figures_has_a_dash_where_there_are_none() -> None:
    figures: dict[str, Any] = {
        "min": -1.5,
        "max": 2**63,
        "mean": None,
        "std": float("nan"),
        "nan": 0,
        "inf": 2,
    }
    signature = Signature({"a": TensorInfo((2,), F32), "s": OBJECT})
    assert plain([stats_table(signature, {"a": figures, "s": None})]) == (
        "key  shape  dtype     min                  max  mean  std  nan  inf\n"
        "a    [2]    float32  -1.5  9223372036854775808     -  nan    0    2\n"
        "s           object      -                    -     -    -    -    -\n"
    )
