"""``ckptkit infer``: find the rules that turn one checkpoint's keys into another's."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from ..errors import UsageError
from .config_out import check_config_name, write_config
from .given import add_given, open_given, signature_given
from .guard import refuse_inputs, refuse_twice
from .html import add_html, write_html
from .output import print_json, print_note, print_text

ABOUT = (
    "Finds the rules that turn the keys of one checkpoint into those of another or of a model, from names and shapes "
    "alone, and says how far each answer is to be trusted and what to verify. Exit code 1: a target key has no source."
)
EXAMPLES = (
    "infer run.pt model.safetensors -o recipe.yaml",
    "infer run.pt --model my_project.nets:build --drop-unused",
)


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", metavar="SRC", help="a file, a sharded folder, an index, or a signature")
    parser.add_argument("target", metavar="TARGET", nargs="?", help="the checkpoint whose keys are wanted")
    parser.add_argument("--like", metavar="CKPT", help="the same as TARGET")
    parser.add_argument(
        "--model",
        metavar="MODULE:FACTORY",
        help="a class or function that builds the model; or FILE.py:FACTORY",
    )
    parser.add_argument(
        "--root", metavar="PATH", help="where the weights lie in SRC: auto, none, a dotted path"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the rules as a config: .yaml or .json")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    parser.add_argument(
        "--values", action="store_true", help="compare data where names and shapes do not decide"
    )
    parser.add_argument(
        "--drop-unused", action="store_true", help="end the rules with a drop of what the target lacks"
    )
    add_given(parser)
    add_html(parser)


def run(arguments: Namespace) -> int:
    """Carry the command out: 0 every target key has a source, 1 some have none."""
    given = [a for a in (arguments.target, arguments.like, arguments.model) if a is not None]
    if len(given) != 1:
        raise UsageError(
            "infer needs one of TARGET, --like CKPT and --model MODULE:FACTORY, to know what to reach"
        )
    if arguments.values and arguments.model is not None:
        raise UsageError("--values compares data with data; a model that is only built has none")
    refuse_inputs(arguments.output, arguments, "source", "target", "like")
    refuse_twice(arguments, "output", "html")
    check_config_name(arguments.output)
    from ..inference.inferring import infer

    with open_given(arguments, arguments.source, arguments.root or "auto") as checkpoint:
        if arguments.values:
            target = arguments.target if arguments.target is not None else arguments.like
            found = infer(checkpoint, target, drop_unused=arguments.drop_unused, values=True)
        else:
            found = infer(checkpoint.signature, _target(arguments), drop_unused=arguments.drop_unused)
    if arguments.output is not None:
        write_config(arguments.output, found.config.to_dict(), overwrite=arguments.overwrite)
        print_note(f"wrote {arguments.output}")
    write_html(arguments, f"infer {arguments.source}", lambda: str(found))
    if arguments.json:
        print_json(found.to_json())
    else:
        print_text(str(found))
    return 0 if found.complete else 1


def _target(arguments: Namespace) -> Any:
    if arguments.model is not None:
        from ..checkpoint import signature
        from .model import build_model

        return signature(build_model(arguments.model))
    return signature_given(arguments, arguments.target if arguments.target is not None else arguments.like)
