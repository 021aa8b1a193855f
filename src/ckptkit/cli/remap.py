"""``ckptkit remap``: rename, keep, drop, cast and copy keys of a checkpoint."""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .output import print_note

if TYPE_CHECKING:
    from ..config import RemapConfig


class RuleFlag(Action):
    """Collects the short forms of rules in one list, in the order written."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        rules: list[dict[str, Any]] = list(getattr(namespace, "rules", None) or [])
        value = values[0]
        if self.dest == "rename":
            rules.append({"op": "rename", "pattern": values[0], "replacement": values[1]})
        elif self.dest in ("keep", "drop"):
            # Several in a row mean one rule: the second keep would else drop what the first one kept.
            if rules and rules[-1]["op"] == self.dest:
                rules[-1] = {"op": self.dest, "keys": [*rules[-1]["keys"], value]}
            else:
                rules.append({"op": self.dest, "keys": [value]})
        elif self.dest == "cast":
            rules.append({"op": "cast", "dtype": value})
        else:
            rules.append({"op": self.dest, "prefix": value})
        namespace.rules = rules


ABOUT = """\
Rename, keep, drop, cast and copy the keys of a checkpoint by rules, and write the result. Everything
is decided before the first byte is written: two keys that end on one name, or a rule that touches
nothing, stop it. DST appears complete or not at all; SRC is never changed without --in-place."""
EXAMPLES = (
    "remap run.pt fixed.pt --strip-prefix module. --dry-run",
    r"remap a.safetensors b.safetensors --rename '^layers\.(\d+)\.' 'blocks.\1.' --drop '*.mask'",
    "remap model.pt model.safetensors --config rules.yaml --like reference.safetensors",
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
    rules = parser.add_argument_group("rules, applied in the order written")
    for flag, metavar, words in (
        ("--strip-prefix", ("P",), "remove a prefix from the keys that carry it"),
        ("--add-prefix", ("P",), "put a prefix before every key"),
        ("--rename", ("PATTERN", "REPLACEMENT"), "rewrite keys as re.sub does"),
        ("--drop", ("PATTERN",), "drop the keys a pattern selects"),
        ("--keep", ("PATTERN",), "keep only the keys a pattern selects"),
        ("--cast", ("DTYPE",), "change the dtype of floating tensors"),
    ):
        shown = metavar if len(metavar) > 1 else metavar[0]
        rules.add_argument(flag, action=RuleFlag, nargs=len(metavar), metavar=shown, help=words)
    parser.add_argument("--dry-run", action="store_true", help="show what would happen, and write nothing")
    parser.add_argument("--in-place", action="store_true", help="replace SRC itself, atomically")
    parser.set_defaults(rules=[])
    add_write_arguments(parser)


def add_write_arguments(parser: ArgumentParser) -> None:
    """The arguments that remap and convert share."""
    parser.add_argument("--root", metavar="PATH", help="where the weights lie: auto, none, or a dotted path")
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
    config = _config(arguments)
    if arguments.in_place and arguments.target is not None:
        raise UsageError("--in-place replaces SRC, so it takes no DST; give one of them")
    if arguments.target is None and not arguments.in_place and not arguments.dry_run:
        raise UsageError(
            "where to? give DST, or --in-place to replace SRC, or --dry-run to see what would happen"
        )
    from .write import carry_out

    return carry_out(arguments, config)


def _config(arguments: Namespace) -> RemapConfig:
    from ..config import RemapConfig

    written: Sequence[Any] = RemapConfig.parse({"rules": arguments.rules}).rules
    root, rules = "auto", list(written)
    if arguments.config is not None:
        root, given = read_config(arguments.config)
        rules = [*given, *written]
    return RemapConfig(root=arguments.root or root, rules=rules)


def read_config(path: str) -> tuple[str, list[Any]]:
    """Root and rules of a RemapConfig, or of a LoadConfig, whose other fields are named and left aside."""
    from ..config import CONFIGS, RemapConfig
    from ..config.documents import read_document

    document = read_document(path)
    load_config = CONFIGS.get("load")
    if load_config is not None:
        own = set(load_config.model_fields) - set(RemapConfig.model_fields)
        aside = [name for name in document if name in own]
        if aside:
            parsed = load_config.parse(document, file=path)
            print_note(
                f"{path} is a load config; remap uses its root and rules, and leaves aside {', '.join(aside)}"
            )
            return parsed.root, list(parsed.rules)  # type: ignore[attr-defined]
    config = RemapConfig.parse(document, file=path)
    return config.root, list(config.rules)
