"""``ckptkit verify``: is the whole checkpoint as it was written?"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from contextlib import suppress

from ..formats.shard_names import is_index
from .given import add_given
from .output import print_json, print_text, progress

ABOUT = """\
Read a checkpoint to its last byte: the laws of its format, every checksum, every shard against the
index. --finite also finds NaN and infinities; --hash gives a hash of the content that is equal for
equal state_dicts in every format, sharding and key order. A file is whole or not whatever lies in it
and whatever its root. Exits 0 when the checkpoint is whole, 1 when it is damaged, with what and where,
or when it was not understood, with the reason; 2 when there is nothing that can be read."""
EXAMPLES = (
    "verify model.safetensors",
    "verify run.pt --finite",
    "verify sharded-folder --hash --json",
)


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("checkpoint", metavar="CKPT", help="a file, a sharded folder, or an index")
    parser.add_argument(
        "--finite", action="store_true", help="tensors with NaN or infinities are problems too"
    )
    parser.add_argument("--hash", action="store_true", help="print the hash of the content")
    parser.add_argument(
        "--root",
        metavar="PATH",
        default="auto",
        help="where the weights lie in a nested file: auto, none, or a dotted path",
    )
    add_given(parser)


def run(arguments: Namespace) -> int:
    """Carry the command out: 0 it is whole, 1 it is not."""
    from ..verification.verifying import verify

    passes = 1 + arguments.finite + arguments.hash
    with progress(passes * _size(arguments.checkpoint), "verifying") as advance:
        report = verify(
            arguments.checkpoint,
            root=arguments.root,
            finite=arguments.finite,
            hash=arguments.hash,
            part=arguments.part,
            variant=arguments.variant,
            progress=advance,
        )
    if arguments.json:
        print_json(report.to_json())
    else:
        print_text(str(report))
    return 0 if report.ok else 1


def _size(path: str) -> int:
    """Bytes to read, roughly: for the bar alone."""
    with suppress(OSError, ValueError):
        if is_index(path):
            path = os.path.dirname(path) or "."
        if os.path.isdir(path):
            return sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())
        return os.path.getsize(path)
    return 0
