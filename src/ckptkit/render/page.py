"""Blocks as one HTML page that needs nothing else: no script, no picture, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from .blocks import Block, Line, Span, Table

MARK = "<!doctype html>\n<!-- written by ckptkit -->\n"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """\
:root { color-scheme: light dark; }
body { font: 14px/1.5 ui-monospace, Menlo, Consolas, monospace; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.1rem; overflow-wrap: anywhere; }
p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; min-height: 1.5em; }
table { border-collapse: collapse; margin: .25rem 0 1rem; }
th { text-align: left; font-weight: normal; color: GrayText; }
th, td { padding: .1rem 1.25rem .1rem 0; vertical-align: top; overflow-wrap: anywhere; }
tr:hover td { background: color-mix(in srgb, CanvasText 7%, transparent); }
.right { text-align: right; white-space: nowrap; }
.title, .number { font-weight: 600; }
.shape { color: #0b7285; } .dtype, .good { color: #2b8a3e; } .dim { color: GrayText; }
.warn { color: #b35c00; } .bad { color: #c92a2a; font-weight: 600; }
@media (prefers-color-scheme: dark) {
  .shape { color: #66d9e8; } .dtype, .good { color: #69db7c; } .warn { color: #ffc078; } .bad { color: #ff8787; }
}
"""


def page(title: str, blocks: Iterable[Block]) -> str:
    """A whole page.

    Args:
        title: its heading; any text.
        blocks: what it shows; text from files is escaped.
    """
    heading = escape(Span(title).text)
    body = "\n".join(_table(block) if isinstance(block, Table) else _line(block) for block in blocks)
    return (
        f'{MARK}<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>\n{_STYLE}</style></head>\n<body><h1>{heading}</h1>\n{body}\n</body></html>\n"
    )


def _span(span: Span) -> str:
    text = escape(span.text)
    return f'<span class="{span.style}">{text}</span>' if span.style else text


def _line(line: Line) -> str:
    indent = f' style="padding-left: {line.indent}ch"' if line.indent else ""
    return f"<p{indent}>{''.join(map(_span, line.spans))}</p>"


def _table(table: Table) -> str:
    right = [
        'class="right"' if i in table.right else "" for i in range(len(table.rows[0]) if table.rows else 0)
    ]
    rows = [
        "<tr>"
        + "".join(f"<td {side}>{_span(cell)}</td>" for cell, side in zip(row, right, strict=True))
        + "</tr>"
        for row in table.rows
    ]
    head = ""
    if table.header:
        cells = zip(table.header, right or [""] * len(table.header), strict=True)
        head = (
            "<thead><tr>"
            + "".join(f"<th {side}>{escape(Span(title).text)}</th>" for title, side in cells)
            + "</tr></thead>"
        )
    indent = f' style="margin-left: {table.indent}ch"' if table.indent else ""
    return f"<table{indent}>{head}<tbody>\n" + "\n".join(rows) + "\n</tbody></table>"
