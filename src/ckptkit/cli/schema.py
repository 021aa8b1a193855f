"""``ckptkit schema``: the JSON Schema of a config, for editors."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .output import print_json, print_raw

ABOUT = """\
Print the JSON Schema of a config file, for completion and checks in an editor."""
EXAMPLES = ("schema remap > remap.schema.json",)


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "name", metavar="NAME", help="which config, e.g. remap; an unknown name lists them all"
    )


def run(arguments: Namespace) -> int:
    """Carry the command out."""
    import json

    from ..config.schemas import CONFIGS, json_schema
    from ..errors import UsageError

    if arguments.name not in CONFIGS:
        raise UsageError(f"there is no config {arguments.name!r}; known are {', '.join(CONFIGS)}")
    schema = json_schema(arguments.name)
    if arguments.json:
        print_json(schema)
    else:
        print_raw(json.dumps(schema, indent=2))
    return 0
