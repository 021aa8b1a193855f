"""Plain text keeps everything, aligns what is wide, and lets nothing through that acts on a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ckptkit.render.blocks import Line, Span, Table, line
from ckptkit.render.plain import plain, width

TEXT = st.text(max_size=12)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=6), st.integers(0, 4))
def test_a_table_has_one_line_per_row_with_every_cell_whole(
    rows: list[tuple[str, str, str]], indent: int
) -> None:
    text = plain([Table([[Span(cell) for cell in row] for row in rows], indent=indent)])
    lines = text.split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(rows)
    for shown, row in zip(lines, rows, strict=True):
        assert all(Span(cell).text.strip() in shown for cell in row)


@given(st.text())
def test_nothing_that_acts_on_a_terminal_gets_through(text: str) -> None:
    shown = plain([line(text), Table([[Span(text)]], header=(text,))])
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert shown.count("\n") == 3


def test_columns_are_aligned_by_what_characters_take_on_the_screen() -> None:
    rows = [[Span("模型.weight"), Span("[1]"), Span("7")], [Span("é"), Span("[10, 10]"), Span("12345")]]
    assert plain([Table(rows, ("key", "shape", "n"), frozenset({2}))]) == (
        "key          shape         n\n模型.weight  [1]           7\né            [10, 10]  12345\n"
    )
    assert width("e\u0301") == 1


def test_an_empty_table_is_no_line_and_an_empty_line_is_one() -> None:
    assert plain([Table([]), Line()]) == "\n"
