"""``ckptkit diff``: what differs between two checkpoints."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..comparison.comparing import diff
from .given import add_given, open_given
from .html import add_html, write_html
from .output import print_json, print_text, progress

ABOUT = """\
Compare two checkpoints, across formats and sharding: keys that only one has, shapes and dtypes
that differ, and keys that were renamed, found by equal content and given as rules. --values
compares the values too. The order of keys, ties and metadata are not compared. Exits 0 when
nothing differs, 1 when something does."""
EXAMPLES = (
    "diff before.pt after.safetensors",
    "diff base.safetensors tuned-folder --values",
    "diff run.pt run.pt --root-b ema --values --json",
)


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("a", metavar="A", help="a file, a sharded folder, an index, or a signature")
    parser.add_argument("b", metavar="B", help="what to compare it with")
    parser.add_argument(
        "--values",
        action="store_true",
        help="compare values: largest absolute difference, relative L2, cosine, NaN and Inf counts",
    )
    parser.add_argument(
        "--root",
        metavar="PATH",
        default="auto",
        help="where the weights lie in both: auto, none, or a dotted path",
    )
    parser.add_argument("--root-a", metavar="PATH", help="where they lie in A")
    parser.add_argument("--root-b", metavar="PATH", help="where they lie in B")
    add_given(parser)
    add_html(parser)


def run(arguments: Namespace) -> int:
    """Carry the command out: 0 nothing differs, 1 something does."""
    roots = [arguments.root if root is None else root for root in (arguments.root_a, arguments.root_b)]
    with open_given(arguments, arguments.a, roots[0]) as a, open_given(arguments, arguments.b, roots[1]) as b:
        work = (a.signature.nbytes + b.signature.nbytes) if arguments.values else 0
        with progress(work, "comparing") as advance:
            report = diff(a, b, values=arguments.values, progress=advance)
    write_html(arguments, f"diff {arguments.a} {arguments.b}", lambda: str(report))
    if arguments.json:
        print_json(report.to_json())
    else:
        print_text(str(report))
    return 0 if report.same else 1
