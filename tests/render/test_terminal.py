"""On a terminal: colours, and nothing cut off however narrow it is."""

from __future__ import annotations

import io
import re

import pytest

from ckptkit.render.blocks import Span, Table, line
from ckptkit.render.terminal import progress_bar, show

KEY = "model.layers.{0..31}.self_attn.q_proj.weight"
ROWS = [[Span(KEY, "key"), Span("[4096, 4096]", "shape"), Span("bfloat16", "dtype"), Span("x32", "number")]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def letters(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m|\s", "", text)


@pytest.mark.parametrize("columns", [12, 20, 40, 80, 200])
def test_a_table_wraps_and_is_never_cut(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    show([Table(ROWS)], stream)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert all(len(each) <= columns for each in shown.splitlines())
    assert sorted(letters(shown)) == sorted(letters("".join(cell.text for cell in ROWS[0])))


def test_colours_are_used_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    show([Table(ROWS)], stream)
    assert "\x1b[36m" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    show([Table(ROWS), line(Span("error: ", "bad"), "x")], stream)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", stream.getvalue())


def test_text_that_looks_like_markup_or_escapes_is_shown_as_it_is() -> None:
    stream = Terminal()
    show([line("[red]a[/red] :smile: \x1b[2J"), Table([[Span("[bold]k")]])], stream)
    assert "[red]a[/red] :smile: \\x1b[2J" in stream.getvalue()
    assert "[bold]k" in stream.getvalue()


def test_the_progress_bar_gives_the_cursor_back_when_it_is_interrupted() -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), progress_bar(stream, 100, "writing") as advance:
        advance(50)
        raise KeyboardInterrupt
    assert stream.getvalue().rfind("\x1b[?25h") > stream.getvalue().rfind("\x1b[?25l") >= 0
