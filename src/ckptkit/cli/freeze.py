"""``ckptkit freeze``: what of a model a freeze would keep, and what would train."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ..errors import ConfigError, Problem, UsageError
from .output import print_json, print_text

if TYPE_CHECKING:
    from ..config.freeze import FreezeConfig

ABOUT = (
    "Shows what a freeze leaves to train, as a table by module: tries the patterns on a model built for that, and writes "
    "nothing. In a training script, ckptkit.freeze(model, config) does the same to the model at hand."
)
EXAMPLES = (
    "freeze --model my_project.nets:build --config freeze.yaml",
    "freeze --model my_project.nets:build --freeze 'backbone.*' --unfreeze 'backbone.layer4.*'",
)


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--model",
        metavar="MODULE:FACTORY",
        help="a class or function that builds the model; or FILE.py:FACTORY",
    )
    parser.add_argument("--config", metavar="FILE", help="a FreezeConfig: freeze, unfreeze, batch_norm")
    parser.add_argument(
        "--freeze",
        action="append",
        default=[],
        metavar="PATTERN",
        help="freeze the keys that a glob, or re:EXPR, matches; repeatable",
    )
    parser.add_argument(
        "--unfreeze",
        action="append",
        default=[],
        metavar="PATTERN",
        help="take these keys out of --freeze again, wherever it is written; repeatable",
    )


def run(arguments: Namespace) -> int:
    """Carry the command out."""
    if arguments.model is None:
        raise UsageError("freeze needs --model MODULE:FACTORY, to know the keys")
    config = _config(arguments)
    from ..modules.freezing import freeze
    from .model import build_model

    model = build_model(arguments.model)
    report = freeze(model, config)
    if arguments.json:
        print_json(report.to_json())
    else:
        print_text(str(report))
    return 0


def _config(arguments: Namespace) -> FreezeConfig:
    from ..config.freeze import FreezeConfig

    short = [*arguments.freeze, *arguments.unfreeze]
    if arguments.config is not None:
        if short:
            raise UsageError("give the patterns in --config or as --freeze and --unfreeze, not both")
        return FreezeConfig.from_file(arguments.config)
    if not arguments.freeze:
        raise UsageError("freeze needs --freeze PATTERN or --config FILE, to know what to freeze")
    try:
        return FreezeConfig(freeze=arguments.freeze, unfreeze=arguments.unfreeze)
    except ConfigError as error:
        raise _in_options_words(error, arguments) from None


def _in_options_words(error: ConfigError, arguments: Namespace) -> ConfigError:
    """The error with the options that were written, in the place of numbers that nobody wrote."""
    problems = []
    for problem in error.problems:
        field, _, number = problem.location.partition(".")
        pattern = getattr(arguments, field)[int(number)]
        problems.append(Problem(shlex.join([f"--{field}", pattern]), problem.message))
    return ConfigError("\n".join(f"{p.location}: {p.message}" for p in problems), problems=problems)
