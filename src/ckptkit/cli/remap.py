"""``ckptkit remap``: rules, or a saved plan, carried out on a checkpoint, or undone."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from ..errors import ConfigError, PlanError, UsageError
from .flags import add_short_forms, in_options_words
from .given import add_given
from .html import add_html
from .output import print_note

ABOUT = """\
Rename, keep, drop, cast, split and join the tensors of a checkpoint by rules, and write the result.
Everything is decided before the first byte is written: two keys that end on one name, or a rule that
touches nothing, stop it. DST appears complete or not at all; SRC is never changed without --in-place.
What --save-plan keeps, --plan carries out again, and --plan with --invert undoes."""
EXAMPLES = (
    "remap run.pt fixed.pt --strip-prefix module. --dry-run",
    r"remap a.safetensors b.safetensors --rename '^layers\.(\d+)\.' 'blocks.\1.' --drop '*.mask'",
    "remap model.pt model.safetensors --config rules.yaml --like reference.safetensors",
    "remap tuned.safetensors original.safetensors --plan rules.plan.json --invert",
)


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", metavar="SRC", help="a file, a sharded folder, or an index")
    parser.add_argument(
        "target",
        metavar="DST",
        nargs="?",
        help="its suffix names the format; a folder without one is sharded",
    )
    parser.add_argument("--config", metavar="FILE", help="rules as YAML, JSON or TOML; they come first")
    add_short_forms(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would happen, and write nothing")
    parser.add_argument("--in-place", action="store_true", help="replace SRC itself, atomically")
    parser.add_argument("--plan", metavar="FILE", help="carry out a saved plan instead of rules")
    parser.add_argument("--save-plan", metavar="FILE", help="keep the plan that was carried out, as JSON")
    parser.add_argument(
        "--invert",
        action="store_true",
        help="the way back: undo --plan, or the rules as they apply to --like, the original",
    )
    add_html(parser)
    add_write_arguments(parser)


def add_write_arguments(parser: ArgumentParser) -> None:
    """The arguments that remap and convert share."""
    parser.add_argument("--root", metavar="PATH", help="where the weights lie: auto, none, or a dotted path")
    add_given(parser)
    parser.add_argument("--root-only", action="store_true", help="leave out what surrounds the root")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing DST")
    parser.add_argument("--max-shard-size", metavar="SIZE", help="bytes per shard of a folder, e.g. 5GB")
    parser.add_argument("--no-fsync", action="store_true", help="do not wait until the output is on the disk")
    parser.add_argument(
        "--like", metavar="CKPT", help="the result must fit this checkpoint, or nothing is written"
    )
    parser.add_argument(
        "--model", metavar="MODULE:FACTORY", help="the result must fit this model, or nothing is written"
    )


def run(arguments: Namespace) -> int:
    """Carry the command out."""
    if arguments.in_place and arguments.target is not None:
        raise UsageError("--in-place replaces SRC, so it takes no DST; give one of them")
    if arguments.target is None and not arguments.in_place and not arguments.dry_run:
        raise UsageError(
            "where to? give DST, or --in-place to replace SRC, or --dry-run to see what would happen"
        )
    from ..config import RemapConfig
    from .write import carry_out, plan_from_file, undo

    if arguments.plan is not None:
        if arguments.config is not None or arguments.flags:
            raise UsageError("--plan is a plan already, so it takes no rules beside it; give one of them")
        return carry_out(arguments, plan_from_file(arguments.plan, arguments.invert))
    root, before = read_config(arguments.config) if arguments.config is not None else ("auto", [])
    try:
        after = RemapConfig.parse({"rules": [flag.rule for flag in arguments.flags]}).rules
    except ConfigError as error:
        raise in_options_words(error, arguments.flags) from None
    config = RemapConfig(root=arguments.root or root, rules=[*before, *after])
    try:
        return carry_out(arguments, undo(arguments, config) if arguments.invert else config)
    except PlanError as error:
        raise in_options_words(error, arguments.flags, len(before)) from None


def read_config(path: str) -> tuple[str, list[Any]]:
    """Root and rules of a RemapConfig, or of a LoadConfig, whose other fields are named and left aside."""
    from ..config.giving import rules_in

    config, aside = rules_in(path)
    if aside:
        print_note(
            f"{path} is a load config; remap uses its root and rules, and leaves aside {', '.join(aside)}"
        )
    return config.root, list(config.rules)
