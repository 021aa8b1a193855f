"""Folding of repeated blocks, sizes and tables."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.errors import UsageError
from ckptkit.sizes import parse_size
from ckptkit.text import fold, folded, human_bytes, human_count, quote_list, quoted, safe, table

KEY = st.lists(st.sampled_from(["a", "b", "0", "1", "2", "3", "10", "01"]), min_size=1, max_size=4).map(
    ".".join
)


def unfold(label: str) -> list[str]:
    """Every key a label stands for."""
    parts = []
    for part in re.split(r"\.(?![^{]*\})", label):
        numbers: list[str] = []
        if part.startswith("{"):
            for run in part[1:-1].split(","):
                low, _, high = run.partition("..")
                numbers += [str(n) for n in range(int(low), int(high or low) + 1)]
        parts.append(numbers or [part])
    return [".".join(choice) for choice in itertools.product(*parts)]


@given(keys=st.lists(KEY, unique=True, max_size=30))
def test_labels_stand_for_exactly_their_keys(keys: list[str]) -> None:
    folds = fold(keys)
    assert sorted(k for f in folds for k in f.keys) == sorted(keys)
    for f in folds:
        assert sorted(unfold(f.label)) == sorted(f.keys)
    assert [f.keys[0] for f in folds] == sorted((f.keys[0] for f in folds), key=keys.index)


def test_only_equal_things_fold_together() -> None:
    assert [f.label for f in fold(["l.0.w", "l.1.w", "l.2.w"], ["x", "x", "y"])] == ["l.{0..1}.w", "l.2.w"]


def test_irregular_keys_fold_in_time() -> None:
    """Each of these is a block of its own; comparing every key with every block would take minutes."""
    keys = [f"l.{i}.{i * 7919 % 100_003}.w" for i in range(20_000)]
    assert len(fold(keys)) == 20_000


def test_a_long_list_is_counted() -> None:
    assert folded([f"k{i}" for i in range(10)], 2) == "k0, k1, and 8 more"


def test_numbers_for_people() -> None:
    assert [human_bytes(n) for n in (0, 999, 1000, 4_900_000_000)] == ["0 B", "999 B", "1.0 kB", "4.9 GB"]
    assert [human_count(n) for n in (950, 22_700_000, 6_740_000_000)] == ["950", "22.7M", "6.74B"]
    assert table([["a", "1"], ["bb", "22"]], right=[1]) == "a    1\nbb  22"


def test_text_cannot_move_a_cursor_or_reorder_characters() -> None:
    assert safe("a\x1b[2J\u202eb\r\té\n") == "a\\x1b[2J\\u202eb\\r\\té\n"


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("1.5 GiB", 3 * 2**29), ("200B", 200), ("7", 7), ("2kb", 2000)]
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1GB", "5XB", "GB", "1e9", "5 potatoes"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size; write a positive number"):
        parse_size(text)


@pytest.mark.parametrize("numbers", [1, 2000, 50_000])
def test_keys_of_any_number_of_numbers_fold(numbers: int) -> None:
    """G3: no recursion by the length of a key; the same in two keys, in their first, in their last number."""
    row = [
        ".".join(["0"] * numbers),
        ".".join(["1"] + ["0"] * (numbers - 1)),
        ".".join(["0"] * (numbers - 1) + ["1"]),
    ]
    assert fold(row[:1])[0].keys == (row[0],)
    zeros = ".0" * (numbers - 1)
    assert [f.label for f in fold(row[:2])] == ["{0..1}" + zeros]
    if numbers > 1:
        assert [f.label for f in fold([row[0], row[2]])] == ["0." * (numbers - 1) + "{0..1}"]


def test_a_comb_of_keys_splits_at_every_number() -> None:
    """G3: each key leaves the others one number later."""
    keys = [".".join("0" * i + "1" * (1200 - i)) for i in range(0, 1200, 4)]
    assert sorted(k for f in fold(keys) for k in f.keys) == sorted(keys)


@pytest.mark.parametrize(
    "value", [16**5000, -(16**5000), "x" * 100_000, ["x" * 1000] * 1000, {"a" * 5000: [16**5000] * 9}, b"x" * 5000],
    ids=["int", "negative", "text", "list", "dict", "bytes"],
)  # fmt: skip
def test_a_quoted_value_is_short_whatever_it_is(value: object) -> None:
    assert len(quoted(value)) < 3000


@pytest.mark.parametrize(
    "value", ["a'b\n", 1 << 100, -7, True, 1.5, None, [1, "a"], {"a": 1}, "x" * 190, "\ud800"]
)
def test_a_short_value_is_quoted_as_python_writes_it(value: object) -> None:
    assert quoted(value) == repr(value)


def test_a_list_of_long_keys_is_short() -> None:
    keys = [f"{i}" + "k" * 100_000 for i in range(9)]
    assert len(folded(keys)) < 2500
    assert len(quote_list(keys)) < 2500
