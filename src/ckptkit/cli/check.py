"""``ckptkit check``: whether a checkpoint would load, and if not, why."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .config_out import check_config_name, write_fix
from .given import add_given, open_given, signature_given
from .guard import refuse_inputs
from .html import add_html, write_html
from .output import print_json, print_note, print_text

if TYPE_CHECKING:
    from ..config.load import LoadConfig

ABOUT = (
    "Says whether a checkpoint would load into a model or in the place of another checkpoint: which keys are missing, "
    "unexpected or of another shape, and the cause where there is one. Reads names, shapes and dtypes; changes nothing."
)
EXAMPLES = (
    "check run.pt --model my_project.nets:build",
    "check run.pt --like model.safetensors --config load.yaml",
    "check run.pt --model my_project.nets:build -o fix.yaml",
)


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "checkpoint", metavar="CKPT", help="a file, a sharded folder, an index, or a signature"
    )
    parser.add_argument(
        "--model",
        metavar="MODULE:FACTORY",
        help="a class or function that builds the model; or FILE.py:FACTORY",
    )
    parser.add_argument("--like", metavar="CKPT", help="a checkpoint in whose place it should load")
    parser.add_argument(
        "--config", metavar="FILE", help="a LoadConfig: root, rules, what may be missing, ..."
    )
    parser.add_argument("--root", metavar="PATH", help="where the weights lie: auto, none, or a dotted path")
    parser.add_argument(
        "-o", "--output", metavar="CONFIG", help="write the fix as a load config: .yaml or .json"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing CONFIG")
    add_given(parser)
    add_html(parser)


def run(arguments: Namespace) -> int:
    """Carry the command out: 0 it fits, 1 it does not."""
    if (arguments.model is None) == (arguments.like is None):
        raise UsageError(
            "check needs --model MODULE:FACTORY or --like CKPT, one of them, to know what must fit"
        )
    refuse_inputs(arguments.output, arguments, "checkpoint", "like", "config")
    check_config_name(arguments.output)
    from ..modules.checking import check
    from .model import stdout_to_stderr

    config = _config(arguments)
    with open_given(arguments, arguments.checkpoint, config.root) as checkpoint:
        target = _target(arguments)
        # A model's own hooks run here, and may print.
        with stdout_to_stderr():
            report = check(target, checkpoint, config)
    write_html(arguments, f"check {arguments.checkpoint}", lambda: str(report))
    if arguments.json:
        print_json(report.to_json())
    else:
        print_text(str(report))
    if arguments.output is not None:
        if report.ok:
            print_note("it fits, so that nothing was written")
        elif report.fix is None:
            print_note("no config repairs this, so that nothing was written")
        else:
            write_fix(
                arguments.output,
                report.findings,
                overwrite=arguments.overwrite,
                before=report.config,
                checkpoint=arguments.checkpoint,
            )
    return 0 if report.ok else 1


def _target(arguments: Namespace) -> Any:
    if arguments.model is not None:
        from .model import build_model

        return build_model(arguments.model)
    return signature_given(arguments, arguments.like)


def _config(arguments: Namespace) -> LoadConfig:
    from ..config.load import LoadConfig

    config = LoadConfig.from_file(arguments.config) if arguments.config is not None else LoadConfig()
    return config if arguments.root is None else config.model_copy(update={"root": arguments.root})
