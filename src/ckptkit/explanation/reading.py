"""Reading what people paste: torch's errors of every era, warnings of the libraries around it, cut and wrapped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from .parsed import Parsed, Shape, ShapeMismatch

MAX_TEXT = 1 << 20
MAX_KEYS = 5_000
MAX_KEY = 1_000  # characters; what is longer is no key

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LINE_PREFIX = re.compile(
    r"^(?:[ \t]*>[ \t]?|\[?rank ?\d+\]?:[ \t]?|E {3,}|\([\w. ]+ pid=\d+[^)\n]*\)[ \t]?"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,\d]*[ \t]*(?:[-|][ \t]*\w+[ \t]*[-|][ \t]*)*(?:WARNING|ERROR|INFO)?[ \t|:-]*"
    r"|\d{2}/\d{2}/\d{4} \d\d:\d\d:\d\d[ \t]*-[ \t]*\w+[ \t]*-[ \t]*[\w.]+[ \t]*-[ \t]*)+",
    re.MULTILINE,
)
_LOG_INSIDE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| \w+ \| \w+ \| ")
_QUOTES = {ord(c): '"' for c in "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2018\u2019"} | {
    0xFF1A: ": ",
    0xFF0C: ", ",
    0x3002: ".",
    0x00A0: " ",
}
_MISSING = (
    r"missing\s+keys?\s*(?:\(s\))?\s+in\s+(?:source\s+|checkpoint\s+)?state_dict\s*:?"
    r"|missing[_ ]keys?\s*[:=]|\bmissing\s*:\s*(?=\[)|not\s+found\s+in\s+the\s+checkpoint\s*:"
    r"|missing\s+adapter\s+keys[^:\n]*:"
    r"|missing\s+keys\s+in\s+the\s+checkpoint[^:\n]*:|keys\s+are\s+missing\s*:|newly\s+initialized\s*(?:because(?![^:]*shape)[^:]*)?:|missing\s+\d+\s+parameters\s*:"
)
_UNEXPECTED = (
    r"unexpected\s+keys?\s*(?:\(s\))?\s+in\s+(?:source\s+)?state_dict\s*:?|unexpected[_ ]keys?\s*[:=]"
    r"|unexpected\s+key\s*(?=[\"'])|unexpected\s+keys\s+not\s+found\s+in\s+the\s+model\s*:"
    r"|not\s+used\s+when\s+initializing\s+[\w.]+\s*:|keys?\s+that\s+(?:is|are)\s+not\s+used\s+by\s+the\s+model\s*:"
    r"|received\s+\d+\s+parameters\s+not\s+in\s+model\s*:|unexpected\s+running\s+stats\s+buffer\(s\)"
    r"|lora\s+key\s+not\s+loaded\s*:?|\bunexpected\s*:\s*(?=\[)|left\s*over\s+keys\s*:\s*(?:dict_keys\()?"
    r"|unexpected\s+keys\s+found\s+in\s+the\s+model\s*:"
)
_HEADS = re.compile(
    rf"(?P<missing>{_MISSING})|(?P<unexpected>{_UNEXPECTED})"
    r"|(?P<stop>size\s+mismatch\s+for\s|while\s+copying\s+the\s+parameter|RuntimeError:|Error\(s\)\s+in\s+loading"
    r"|You\s+(?:may|should)\s|-\s+This\s+IS|error\s+msgs\s*:)",
    re.IGNORECASE,
)
_KEY = re.compile(r"[\w.\-/<>*{}@:+]+")
_QUOTED = re.compile(r"([\"'])([^\"']*)(\1|$)")
_BETWEEN = re.compile(r"(?:[\s,`*\[\](){}]|\band\b|\.{3,})*")
_SIZE = r"(?:torch\.)?Size\(\[?\s*([\d,\s]*)(?:\]?\)|\]?$)"
_MISMATCHES = (
    re.compile(
        rf"size\s+mismatch\s+for\s+[\"'`]?(?P<key>[\w.\-/]+)[\"'`]?\s*:?\s*(?:copying\s+a\s+param\s+(?:with\s+shape|of)\s+"
        rf"{_SIZE}(?:\s+from\s+checkpoint,?\s+(?:the\s+shape\s+in\s+current\s+model\s+is|where\s+the\s+shape\s+is)\s+{_SIZE})?)?",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?<![\w.\-/])(?P<key>[\w.\-/]{{1,1000}})\s*[:,]\s*copying\s+a\s+param\s+(?:with\s+shape|of)\s+{_SIZE}"
        rf"(?:\s+from\s+checkpoint,?\s+(?:the\s+shape\s+in\s+current\s+model\s+is|where\s+the\s+shape\s+is)\s+{_SIZE})?",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?<![\w.\-/])(?P<key>[\w.\-/]{{1,1000}})\s*:?\s*found\s+shape\s+{_SIZE}\s+in\s+the\s+checkpoint\s+and\s+{_SIZE}\s+in\s+the\s+model",
        re.IGNORECASE,
    ),
)
_SIDES = (  # (the pattern, whether the checkpoint's shape comes first)
    (
        re.compile(
            rf"tensor\s+of\s+shape\s+{_SIZE}\s+in\s+[\"'](?P<key>[\w.\-/]+)[\"']\s+\(which\s+has\s+shape\s+{_SIZE}"
        ),
        True,
    ),
    (
        re.compile(rf"because\s+(?P<key>[\w.\-/]+)\s+expected\s+shape\s+{_SIZE},?\s+but\s+got\s+{_SIZE}"),
        False,
    ),
    (
        re.compile(
            r"parameter\s+[\"'](?P<key>[\w.\-/]+)[\"'][^\n]{0,200}?shapes?:\s*\(([\d,\s]*)\)\s+in\s+the\s+checkpoint\s+but\s+"
            r"\(([\d,\s]*)\)\s+in\s+the\s+model"
        ),
        True,
    ),
)
_COPYING = re.compile(
    rf"while\s+copying\s+the\s+parameter\s+named\s+[\"'`]?(?P<key>[\w.\-/]+)[\"'`]?"
    rf"(?:,?\s+whose\s+dimensions\s+in\s+the\s+model\s+are\s+{_SIZE}(?:\s+and\s+whose\s+dimensions\s+in\s+the\s+checkpoint"
    rf"\s+are\s+{_SIZE})?)?",
    re.IGNORECASE,
)
_BARE = re.compile(r"(?<![\w./\\])\w{1,80}(?:\.\w{1,80}){2,16}?\.(?:weight|bias)\b")
_TABLE = re.compile(
    r"^\s*[|│┃]?\s*(?P<key>[\w.{}\-,* ]+?)\s*[|│┃]\s*(?P<kind>MISSING|UNEXPECTED|MISMATCH)\b(?P<rest>[^\n]*)$",
    re.MULTILINE,
)
_SHAPES = re.compile(_SIZE)


def read_text(text: str) -> Parsed:
    """Find class, keys and shapes in a text of any origin.

    Args:
        text: what was pasted; what is beyond 1 MB is left out.
    """
    clean = cleaned(text[:MAX_TEXT])
    parsed = Parsed(clean, truncated=len(text) > MAX_TEXT)
    match = re.search(r"loading\s+state_dict\s+for\s+(\w[\w.]*)", clean)
    match = match or re.search(
        r"when\s+initializing\s+(\w[\w.]*)|weights\s+of\s+(?!the\b)(\w+)\s+were\s+not", clean
    )
    if match is not None:
        parsed.class_name = next((group for group in match.groups() if group), None)
    _read_lists(clean, parsed)
    _read_shapes(clean, parsed)
    _read_table(clean, parsed)
    for quote in re.finditer(r"KeyError:\s*([\"'])(.+?)\1", clean):
        if _KEY.fullmatch(quote[2]) and quote[2] not in parsed.unexpected:
            parsed.loose.append(quote[2])
    if parsed.empty:
        parsed.loose = _BARE.findall(re.sub(r"(?<=\w)\n(?=[\w.])", "", clean))
    for name in ("missing", "unexpected", "loose"):
        setattr(parsed, name, list(dict.fromkeys(getattr(parsed, name)))[:MAX_KEYS])
    parsed.truncated |= bool(re.search(r"\.\.\.|…", clean)) or not re.search(
        r"[.\]\"'`)}|]\s*`*\s*$", clean.strip() or "."
    )
    return parsed


def cleaned(text: str) -> str:
    """The text without colours, e-mail quotes, and the prefixes of logs and ranks; quotation marks made plain."""
    text = _ANSI.sub("", text.replace("\r", "")).translate(_QUOTES)
    text = text.replace('\\"', '"').replace("\\'", "'").replace("\\t", "\t").replace("\\n", "\n")
    return _LOG_INSIDE.sub("", _LINE_PREFIX.sub("", text))


def _read_lists(text: str, parsed: Parsed) -> None:
    heads = list(_HEADS.finditer(text))
    lists = [head for head in heads if head.lastgroup != "stop"]
    if lists and lists[0].lastgroup == "unexpected":
        # A text whose beginning was cut away starts inside the other list.
        start = text[: lists[0].start()].lstrip("`\n\t ")
        inside = re.match(r"[^\"'\n]*?[\w.][\"']\s*,\s*(?=[\"'])", start)
        if inside is not None:
            parsed.missing += _keys(start[inside.end() :], parsed)
            parsed.truncated = True
    for number, head in enumerate(heads):
        if head.lastgroup == "stop":
            continue
        end = heads[number + 1].start() if number + 1 < len(heads) else len(text)
        found = _keys(text[head.end() : end], parsed)
        parsed.headed |= head.lastgroup == "unexpected"
        (parsed.missing if head.lastgroup == "missing" else parsed.unexpected).extend(found)


def _keys(body: str, parsed: Parsed) -> list[str]:
    """The keys of a list in any notation, up to where it ends."""
    body = body.lstrip(" \t\n`*([{")
    return list(_quoted(body, parsed) if body[:1] in ('"', "'") else _plain(body, parsed))


def _quoted(body: str, parsed: Parsed) -> Iterator[str]:
    at = 0
    while True:
        gap = _BETWEEN.match(body, at)
        at = gap.end() if gap else at
        match = _QUOTED.match(body, at)
        if match is None:
            return
        key = re.sub(r"\s+", "", match[2])
        if not _KEY.fullmatch(key):
            return
        if not match[3]:
            parsed.truncated = True
            parsed.cut.append(key[:MAX_KEY])
            return
        if len(key) <= MAX_KEY:
            yield key
        at = match.end()


def _plain(body: str, parsed: Parsed) -> Iterator[str]:
    """Without quotation marks: separated by commas or lines."""
    block = _BRACES.sub(_spelled_out, re.split(r"\n[ \t]*\n", body)[0])
    parts = block.split(",") if "," in block else block.split("\n")
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        words = re.sub(r"\s*\n\s*", "", part.strip()).split(" ")
        key = words[0].strip("`").rstrip(".")
        if not key or not _KEY.fullmatch(key) or "..." in part or key == "and" or (last and key[-1] == "_"):
            return
        if last and not part.rstrip().endswith((".", "]", ")")) and len(block) >= len(body.rstrip()):
            if key.rpartition(".")[2] not in _LEAVES:
                parsed.truncated = True
                return
        yield key
        if len(words) > 1 or "`" in part:
            return


_BRACES = re.compile(r"([\w.]{1,1000})\.\{(\w+(?:,\s*\w+){0,20})\}")


def _spelled_out(match: re.Match[str]) -> str:
    """``conv.{bias, weight}`` as two lines."""
    return "\n".join(f"{match[1]}.{leaf.strip()}" for leaf in match[2].split(","))


_LEAVES = {
    "weight",
    "bias",
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "attn_mask",
    "position_ids",
    "inv_freq",
}


def _read_shapes(text: str, parsed: Parsed) -> None:
    found: dict[str, ShapeMismatch] = {}
    lower = text.lower()
    for pattern in _MISMATCHES if "mismatch" in lower or "copying" in lower or "found shape" in lower else ():
        for match in pattern.finditer(text):
            source, target = _shape(match.group(2)), _shape(match.group(3))
            found.setdefault(match["key"], ShapeMismatch(match["key"].rstrip("."), source, target))
    for pattern, first in _SIDES if "shape" in lower else ():
        for match in pattern.finditer(text):
            one, other = (
                _shape(group) for n, group in enumerate(match.groups(), 1) if n != pattern.groupindex["key"]
            )
            source, target = (one, other) if first else (other, one)
            found.setdefault(match["key"], ShapeMismatch(match["key"], source, target))
    for match in _COPYING.finditer(text):
        target, source = _shape(match.group(2)), _shape(match.group(3))
        found.setdefault(match["key"], ShapeMismatch(match["key"], source, target))
    parsed.mismatched += list(found.values())


def _shape(text: str | None) -> Shape | None:
    if text is None:
        return None
    return tuple(int(number) for number in re.findall(r"\d+", text)[:16])


def _read_table(text: str, parsed: Parsed) -> None:
    """The report of newer transformers: one row a key, blocks folded as ``{0, 1, 2}`` or ``{0...11}``."""
    for match in _TABLE.finditer(text):
        keys = list(islice(_unfolded(match["key"].strip()[:MAX_KEY]), MAX_KEYS))
        if not all(_KEY.fullmatch(key) for key in keys):
            continue
        if match["kind"] == "MISSING":
            parsed.missing += keys
        elif match["kind"] == "UNEXPECTED":
            parsed.unexpected += keys
        else:
            shapes = [_shape(each) for each in _SHAPES.findall(match["rest"])]
            source, target = [*shapes, None, None][:2]
            parsed.mismatched += [ShapeMismatch(key, source, target) for key in keys]


def _unfolded(key: str) -> Iterator[str]:
    fold = re.search(r"\{([\d,\s.]+)\}", key)
    if fold is None:
        yield key
        return
    numbers: list[int] = []
    for part in fold[1].split(","):
        ends = [int(n) for n in re.findall(r"\d+", part)[:2]]
        if ends:
            numbers += range(ends[0], min(ends[-1], ends[0] + 999) + 1)
    for number in numbers:
        yield from _unfolded(key[: fold.start()] + str(number) + key[fold.end() :])
