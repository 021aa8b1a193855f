"""Documents of JSON: read step by step, and counted before they are built."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.formats import json_text
from ckptkit.formats.json_text import BadJson, parse, read_text

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab-0["{\\é', max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab-0[{", max_size=2), inner),
)


@given(PLAIN, st.integers(0, 9), st.integers(1, 7), st.booleans())
def test_a_document_is_read_as_json_reads_it_whatever_the_steps(
    value: Any, start: int, step: int, escaped: bool
) -> None:
    raw = json.dumps(value, ensure_ascii=escaped).encode()
    file = b"#" * start + raw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "STEP", step)
        text = read_text(lambda at, count: file[at : at + count], start, len(raw))
    assert parse(text, start) == value


@given(st.text("ab\\[{é", max_size=4), st.binary(min_size=1, max_size=3), st.integers(1, 7))
def test_the_place_of_what_is_no_text_is_told(before: str, junk: bytes, step: int) -> None:
    raw = before.encode() + junk
    place = None
    if 0 in junk:
        place = raw.index(0)
    try:
        raw[:place].decode()
    except UnicodeDecodeError as error:
        place = error.start if place is None else min(place, error.start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "STEP", step)
        if place is None:
            assert read_text(lambda at, count: raw[at : at + count], 0, len(raw)) == raw.decode()
            return
        with pytest.raises(BadJson) as caught:
            read_text(lambda at, count: raw[at : at + count], 0, len(raw))
    # A zero in the same step is found before what is no UTF-8.
    assert caught.value.offset is not None and raw[caught.value.offset] in (0, raw[place])


@given(PLAIN, st.integers(1, 7))
def test_lists_and_objects_are_counted_outside_of_strings(value: Any, step: int) -> None:
    def containers(node: Any) -> int:
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        return isinstance(node, dict | list) + sum(containers(each) for each in inner)

    text = json.dumps(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "STEP", step)
        assert json_text._containers(text, len(text)) == containers(value)


@pytest.mark.parametrize("unit", ["[]", "{}", "[[]]"])
def test_more_lists_than_a_document_of_its_length_has_are_refused_before_they_are_built(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G6: eighty bytes of memory for three of text are never spent."""
    monkeypatch.setattr(json_text, "MIN_CONTAINERS", 1000)
    monkeypatch.setattr(json_text.json, "loads", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(BadJson, match="more than 1[0-9]+ lists and objects in [0-9]+ characters"):
        parse("[" + ",".join([unit] * 1500) + "]")


def test_brackets_in_strings_are_no_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "MIN_CONTAINERS", 1000)
    value = {"a": '[{"\\' * 5000}
    assert parse(json.dumps(value)) == value
