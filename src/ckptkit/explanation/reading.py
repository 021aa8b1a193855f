"""Reading what people paste: torch's errors of every era, warnings of the libraries around it, cut and wrapped."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .cleaning import cleaned
from .parsed import Parsed, Shape, ShapeMismatch
from .tables import rows

MAX_TEXT = 1 << 20
MAX_KEYS = 5_000
MAX_KEY = 1_000  # characters; what is longer is no key
MAX_PARTS = 64  # nor what has more parts

_MISSING = (
    r"missing\s+keys?\s*(?:\(s\))?\s+in\s+(?:source\s+|checkpoint\s+)?state_dict\s*:?"
    r"|missing[_ ]keys?\s*[:=]|\bmissing\s*:\s*(?=\[)|not\s+found\s+in\s+the\s+checkpoint\s*:"
    r"|missing\s+adapter\s+keys[^:\n]{0,200}:"
    r"|missing\s+keys\s+in\s+the\s+checkpoint[^:\n]{0,200}:|keys\s+are\s+missing\s*:|newly\s+initialized\s*(?:because(?![^:]{0,300}shape)[^:]{0,300})?:|missing\s+\d{1,9}\s+parameters\s*:"
)
_UNEXPECTED = (
    r"unexpected\s+keys?\s*(?:\(s\))?\s+in\s+(?:source\s+)?state_dict\s*:?|unexpected[_ ]keys?\s*[:=]"
    r"|unexpected\s+key\s*(?=[\"'])|unexpected\s+keys\s+not\s+found\s+in\s+the\s+model\s*:"
    r"|not\s+used\s+when\s+initializing\s+[\w.]{1,200}\s*:|keys?\s+that\s+(?:is|are)\s+not\s+used\s+by\s+the\s+model\s*:"
    r"|received\s+\d{1,9}\s+parameters\s+not\s+in\s+model\s*:|unexpected\s+running\s+stats\s+buffer\(s\)"
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
_NAME = r"(?P<key>[\w.\-/]{1,1000})(?![\w.\-/])"
_SIZE = r"(?:torch\.)?Size\(\[?([\d,\s]{0,400})(?:\]?\)|\]?$)"
_MISMATCHES = (
    re.compile(
        rf"size\s+mismatch\s+for\s+[\"'`]?{_NAME}[\"'`]?\s*:?\s*(?:copying\s+a\s+param\s+(?:with\s+shape|of)\s+"
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
            rf"tensor\s+of\s+shape\s+{_SIZE}\s+in\s+[\"']{_NAME}[\"']\s+\(which\s+has\s+shape\s+{_SIZE}"
        ),
        True,
    ),
    (
        re.compile(rf"because\s+{_NAME}\s+expected\s+shape\s+{_SIZE},?\s+but\s+got\s+{_SIZE}"),
        False,
    ),
    (
        re.compile(
            rf"parameter\s+[\"']{_NAME}[\"'][^\n]{{0,200}}?shapes?:\s*\(([\d,\s]{{0,400}})\)\s+in\s+the\s+checkpoint\s+but\s+"
            r"\(([\d,\s]{0,400})\)\s+in\s+the\s+model"
        ),
        True,
    ),
    (
        re.compile(
            rf"shape\s+mismatch\s+for\s+loaded\s+\({_SIZE}\)\s+and\s+expected\s+\(\(([\d,\s]{{0,400}})\)\)\s+tensor\s+"
            rf"for\s+key\s+{_NAME}"
        ),
        True,
    ),
)
_COPYING = re.compile(
    rf"while\s+copying\s+the\s+parameter\s+named\s+[\"'`]?{_NAME}[\"'`]?"
    rf"(?:,?\s+whose\s+dimensions\s+in\s+the\s+model\s+are\s+{_SIZE}(?:\s+and\s+whose\s+dimensions\s+in\s+the\s+checkpoint"
    rf"\s+are\s+{_SIZE})?)?",
    re.IGNORECASE,
)
_BARE = re.compile(r"(?<![\w./\\])\w{1,80}(?:\.\w{1,80}){2,16}?\.(?:weight|bias)\b")
_SHAPES = re.compile(_SIZE)
_TUPLES = re.compile(r"\(((?:\d{1,18},?\s?){0,16})\)")


def read_text(text: str) -> Parsed:
    """Find class, keys and shapes in a text of any origin.

    Args:
        text: what was pasted; what is beyond 1 MB is left out.
    """
    clean = cleaned(text[:MAX_TEXT])
    parsed = Parsed(clean, truncated=len(text) > MAX_TEXT)
    match = re.search(r"loading\s+state_dict\s+for\s+(\w[\w.]{0,199})", clean)
    match = match or re.search(
        r"when\s+initializing\s+(\w[\w.]{0,199})|weights\s+of\s+(?!the\b)(\w{1,200})\s+were\s+not"
        r"|^\W{0,9}(\w{1,200}) LOAD REPORT from",
        clean,
        re.MULTILINE,
    )
    if match is not None:
        parsed.class_name = next((group for group in match.groups() if group), None)
    _read_lists(clean, parsed)
    _read_shapes(clean, parsed)
    _read_tables(clean, parsed)
    seen = set(parsed.unexpected)
    for quote in re.finditer(r"KeyError:\s*([\"'])(.{1,1000}?)\1", clean):
        if _is_key(quote[2]) and quote[2] not in seen:
            parsed.loose.append(quote[2])
    if parsed.empty:
        parsed.loose = _BARE.findall(re.sub(r"(?<=\w)\n(?=[\w.])", "", clean))
    for name in ("missing", "unexpected", "loose"):
        setattr(parsed, name, list(dict.fromkeys(getattr(parsed, name)))[:MAX_KEYS])
    del parsed.mismatched[MAX_KEYS:]
    parsed.truncated |= "..." in clean or "\u2026" in clean or (clean.strip() or ".")[-1] not in ".]\"'`)}|"
    return parsed


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
        key = "".join(match[2].split())
        if not _KEY.fullmatch(key):
            return
        if not match[3]:
            parsed.truncated = True
            parsed.cut.append(key[:MAX_KEY])
            return
        if _is_key(key):
            yield key
        at = match.end()


def _is_key(text: str) -> bool:
    return (
        len(text) <= MAX_KEY
        and text.count(".") < MAX_PARTS
        and not text.startswith("re:")  # which would be an expression in a rule
        and _KEY.fullmatch(text) is not None
    )


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
        if _is_key(key):
            yield key
        if len(words) > 1 or "`" in part:
            return


_BRACES = re.compile(r"(?<![\w.])([\w.]{1,1000})\.\{(\w+(?:,\s*\w+){0,20})\}")


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

    def note(key: str, source: Shape | None, target: Shape | None) -> None:
        if key not in found and _is_key(key):
            found[key] = ShapeMismatch(key.rstrip("."), source, target)

    lower = text.lower()
    for pattern in _MISMATCHES if "mismatch" in lower or "copying" in lower or "found shape" in lower else ():
        for match in pattern.finditer(text):
            note(match["key"], _shape(match.group(2)), _shape(match.group(3)))
    for pattern, first in _SIDES if "shape" in lower else ():
        for match in pattern.finditer(text):
            one, other = (
                _shape(group) for n, group in enumerate(match.groups(), 1) if n != pattern.groupindex["key"]
            )
            note(match["key"], *((one, other) if first else (other, one)))
    for match in _COPYING.finditer(text):
        note(match["key"], _shape(match.group(3)), _shape(match.group(2)))
    parsed.mismatched += list(found.values())


def _shape(text: str | None) -> Shape | None:
    """The sizes; None when there are none, or no tensor has them."""
    numbers = re.findall(r"\d+", text or "")[:16]
    if text is None or any(len(number) > 18 for number in numbers):
        return None
    return tuple(map(int, numbers))


def _read_tables(text: str, parsed: Parsed) -> None:
    for row in rows(text, MAX_KEYS):
        if not all(map(_is_key, row.keys)):
            continue
        if row.kind == "MISSING":
            parsed.missing += row.keys
        elif row.kind == "UNEXPECTED":
            parsed.unexpected += row.keys
        else:
            shapes = [_shape(each) for each in _SHAPES.findall(row.rest) or _TUPLES.findall(row.rest)]
            source, target = [*shapes, None, None][:2]
            parsed.mismatched += [ShapeMismatch(key, source, target) for key in row.keys]
