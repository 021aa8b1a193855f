"""``inspect``: what a checkpoint holds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from .. import checkpoint
from ..errors import KeyNotFoundError
from ..patterns import nearest, select
from ..render import signature_view as view
from ..render.blocks import Block, Line, line
from ..signatures import Signature
from ..text import quote_list
from .given import add_given, open_given
from .html import add_html, write_html
from .output import print_json, print_note, progress, show

ABOUT = """\
Show the keys of a checkpoint with their shapes and dtypes, which are tied, and, in a nested
training checkpoint, where the weights lie. Repeated blocks share a row. No values are read
unless --stats asks for them."""
EXAMPLES = (
    "inspect model.safetensors",
    "inspect run.pt --key 'encoder.*' --stats",
    "inspect model-folder --json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "ckpt", metavar="CKPT", help="a file, a sharded folder, an index file, or a signature"
    )
    parser.add_argument(
        "--root", metavar="PATH", default="auto", help="where the weights lie: auto, none, or a dotted path"
    )
    parser.add_argument(
        "--key",
        action="append",
        metavar="PATTERN",
        help="only the keys that a glob, or re:EXPR, matches; may be given several times",
    )
    parser.add_argument(
        "--stats",
        action="store_true",
        help="read the values: min, max, mean and standard deviation of the finite ones, counts of NaN and Inf",
    )
    add_given(parser, part=False)
    add_html(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    with open_given(arguments, arguments.ckpt, arguments.root) as ckpt:
        every = ckpt.signature
        signature = _selected(every, arguments.key) if arguments.key else every
        stats = _stats(ckpt, signature) if arguments.stats else None
        write_html(arguments, f"inspect {arguments.ckpt}", lambda: _blocks(ckpt, signature, stats))
        if arguments.json:
            print_json(_document(ckpt, signature, stats))
        else:
            show(_blocks(ckpt, signature, stats))
            for note in ckpt.source.notes:
                print_note(note)
    return 0


def _selected(signature: Signature, patterns: Sequence[str]) -> Signature:
    """The part of a signature that patterns select.

    Raises:
        KeyNotFoundError: a pattern matches nothing; names the nearest keys.
    """
    found = select(patterns, signature)
    if found.unmatched:
        wanted = found.unmatched[0]
        close = nearest(wanted, signature)
        hint = f"the nearest keys are {quote_list(close)}" if close else "the checkpoint has no keys at all"
        raise KeyNotFoundError(f"--key {wanted!r} matches no key; {hint}", key=wanted)
    chosen = set(found.keys)
    tied = (tuple(key for key in group if key in chosen) for group in signature.tied)
    return Signature(
        {key: signature[key] for key in found.keys},
        tuple(group for group in tied if len(group) > 1),
        signature.metadata,
        signature.root,
        signature.roots,
    )


def _stats(ckpt: checkpoint.Checkpoint, signature: Signature) -> dict[str, Any]:
    from ..stats import measure

    with progress(sum(info.nbytes for info in signature.tensors.values()), "reading") as advance:
        return {
            key: None if each is None else each.to_json()
            for key, each in measure(ckpt.source, signature, advance)
        }


def _document(
    ckpt: checkpoint.Checkpoint, signature: Signature, stats: dict[str, Any] | None
) -> dict[str, Any]:
    source = ckpt.source
    document = signature.to_json()
    document |= {"file": source.path, "file_format": source.format, "notes": list(source.notes)}
    if stats is not None:
        for entry in document["tensors"]:
            entry["stats"] = stats[entry["key"]]
    return document


def _blocks(ckpt: checkpoint.Checkpoint, signature: Signature, stats: dict[str, Any] | None) -> list[Block]:
    blocks: list[Block] = [*view.header(ckpt.source), Line()]
    if stats is None:
        blocks.append(view.keys_table(signature))
    else:
        blocks.append(view.stats_table(signature, stats))
    if not signature:
        blocks.append(line("no keys"))
    blocks.append(Line())
    blocks.extend(view.ties(signature.tied))
    blocks.extend(view.totals(signature))
    if len(signature) < len(ckpt.signature):
        blocks.append(line(f"{len(signature)} of {len(ckpt.signature)} keys are shown"))
    return blocks
