"""``ckptkit inspect``: what is in a checkpoint."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace

from ..checkpoint import Checkpoint
from ..checkpoint import open as open_checkpoint
from ..errors import UsageError
from ..patterns import nearest, select
from ..signatures import Signature
from ..stats import Stats
from ..text import quote_list
from .output import print_json, print_note, print_text


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "checkpoint", metavar="CKPT", help="a file, a sharded folder, an index, or a signature"
    )
    parser.add_argument(
        "--root", default="auto", help="where the weights lie in a nested file: auto, none, or a path"
    )
    parser.add_argument("--key", action="append", metavar="PATTERN", help="only these keys (repeatable)")
    parser.add_argument(
        "--stats", action="store_true", help="min, max, mean, standard deviation, NaN and Inf counts"
    )


def run(arguments: Namespace) -> int:
    """Carry the command out."""
    with open_checkpoint(arguments.checkpoint, arguments.root) as checkpoint:
        signature = _selected(checkpoint.signature, arguments.key)
        stats = None
        if arguments.stats:
            from ..stats import tensor_stats

            stats = {
                k: tensor_stats(checkpoint, k) for k, t in signature.tensors.items() if t.kind == "tensor"
            }
        if arguments.json:
            document = signature.to_json()
            document["file"] = checkpoint.source.path
            document["file_format"] = checkpoint.source.format
            document["notes"] = list(checkpoint.source.notes)
            for entry in document["tensors"]:
                if stats is not None and entry["key"] in stats:
                    entry["stats"] = stats[entry["key"]].to_json()
            print_json(document)
            return 0
        _show(checkpoint, signature, stats)
    return 0


def _show(checkpoint: Checkpoint, signature: Signature, stats: dict[str, Stats] | None) -> None:
    from ..render.screen import is_terminal, print_table
    from ..render.signature import header_lines, rows, total_lines

    for line in header_lines(checkpoint.source, signature):
        print_text(line)
    table = rows(signature, stats)
    if table:
        if is_terminal():
            print_table(table)
        else:
            from ..text import table as plain

            print_text(plain(table))
    for line in total_lines(signature):
        print_text(line)
    for note in checkpoint.source.notes:
        print_note(f"{note}")


def _selected(signature: Signature, patterns: list[str] | None) -> Signature:
    if not patterns:
        return signature
    found = select(patterns, signature)
    if found.unmatched:
        wanted = found.unmatched[0]
        close = nearest(wanted, signature)
        hint = f"the nearest keys are {quote_list(close)}" if close else "there are no keys at all"
        raise UsageError(f"--key {wanted!r} matches no key; {hint}")
    chosen = set(found.keys)
    tied = tuple(g for group in signature.tied if len(g := tuple(k for k in group if k in chosen)) > 1)
    return replace(signature, tensors={k: signature[k] for k in found.keys}, tied=tied)
