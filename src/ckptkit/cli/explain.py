"""``ckptkit explain``: from a pasted error to its cause and the config that repairs it."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser, Namespace

from ..errors import UsageError
from .config_out import check_config_name, write_fix
from .guard import refuse_inputs
from .output import print_json, print_note, print_text

ABOUT = """\
Name the cause of a failure to load a checkpoint from the text of the error, and write the rules or the
load settings that repair it. Reads a file, standard input, or the text itself as the argument; cut,
wrapped and quoted text is fine."""
EXAMPLES = (
    "explain error.txt",
    "explain - -o fix.yaml",
    "explain 'RuntimeError: Error(s) in loading state_dict for Net: ...' --json",
)


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help="a file with the text, or the text; standard input without, or with -",
    )
    parser.add_argument(
        "-o", "--output", metavar="CONFIG", help="write the fix as a load config: .yaml or .json"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing CONFIG")


def run(arguments: Namespace) -> int:
    """Carry the command out; 1 when nothing was found."""
    refuse_inputs(arguments.output, arguments, "file")
    check_config_name(arguments.output)
    from ..explanation import explain

    if not arguments.file.strip():
        raise UsageError("the text is empty; give the words of the error, or the file that has them")
    given = _is_text(arguments.file)
    explanation = explain(arguments.file if given else _text(arguments.file))
    if arguments.output is not None and explanation.findings:
        write_fix(arguments.output, explanation.findings, overwrite=arguments.overwrite)
    if arguments.json:
        print_json(explanation.to_json())
    else:
        print_text(str(explanation))
        if explanation.parsed.truncated and explanation.findings:
            print_note(
                "the text is cut; with all of it, or with the checkpoint and the model (ckptkit check), more can be said"
            )
    if given and not explanation.findings:
        print_note("there is no file of this name, so it was read as the text of an error")
    return 0 if explanation.findings else 1


def _is_text(argument: str) -> bool:
    """Whether the words of an error were given, and not the name of a file: no such file, and no name of one."""
    if argument == "-" or os.path.lexists(argument):
        return False
    named = re.search(r"\.\w{1,5}$", argument) is not None
    return "\n" in argument or ": " in argument or (len(argument.split()) > 1 and not named)


def _text(path: str) -> str:
    if path == "-":
        return sys.stdin.buffer.read(1 << 24).decode("utf-8", errors="replace")
    from ..files.regular import open_regular

    with open_regular(path) as file:
        return bytes(file.read(1 << 24)).decode("utf-8", errors="replace")
