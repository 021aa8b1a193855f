"""Opening the checkpoints that a command was given, with the options that say which of several is meant."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..checkpoint import Checkpoint
from ..checkpoint import open as open_checkpoint
from ..checkpoint import signature as signature_of
from ..signatures import Signature


def add_given(parser: ArgumentParser, *, part: bool = True) -> None:
    """Add ``--variant``, and ``--part`` for the commands that take a part of a checkpoint only when told."""
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help="which weights of a folder that holds several variants, such as fp16",
    )
    if part:
        parser.add_argument(
            "--part",
            action="store_true",
            help="take a file that is a part of a checkpoint (one shard, one rank) by itself",
        )


def open_given(arguments: Namespace, path: str, root: str = "auto") -> Checkpoint:
    """Open a checkpoint that a command reads.

    Raises:
        PartError: it is a part of a checkpoint, and ``--part`` was not given.
    """
    return open_checkpoint(path, root, part=getattr(arguments, "part", True), variant=arguments.variant)


def signature_given(arguments: Namespace, path: str) -> Signature:
    """The signature of a checkpoint that a result must fit; it is a whole one, unless ``--part`` was given."""
    return signature_of(path, part=arguments.part)
