# ruff: noqa: E501 - the words of other libraries stand in one piece
"""The words in which a failure reaches somebody: torch's own, other libraries' templates, and what pasting does to them."""

from __future__ import annotations

import html
import json
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .breaks import Broken

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Facts:
    """What does not fit, by name and shape, and what torch says of it."""

    cls: str
    missing: list[str]
    unexpected: list[str]
    mismatched: list[tuple[str, Shape, Shape]]
    words: str


@dataclass(frozen=True)
class Text:
    """A pasted text with its truth.

    Args:
        name: of the case and of the way in which it was rendered.
        text: as pasted.
        causes: what counts as right in the first place.
        case: the broken pair behind it; None for errors about files.
        told: whether the text shows enough for its cause to be asked.
        repairable: whether it shows enough for the fix to be asked.
        together: the causes that it shows at once.
    """

    name: str
    text: str
    causes: tuple[str, ...]
    case: str | None = None
    told: bool = True
    repairable: bool = False
    together: tuple[str, ...] = ()


def facts(broken: Broken) -> Facts:
    """What torch itself finds, by really loading."""
    try:
        broken.model.load_state_dict(dict(broken.state))
        raise AssertionError(f"{broken.name}: loads as it is")
    except Exception as error:
        if isinstance(error, AssertionError):
            raise
        words = f"{type(error).__name__}: {error}"
    wanted = broken.model.state_dict()
    return Facts(
        type(broken.model).__name__,
        [key for key in wanted if key not in broken.state],
        [key for key in broken.state if key not in wanted],
        [
            (key, tuple(value.shape), tuple(wanted[key].shape))
            for key, value in broken.state.items()
            if key in wanted and torch.is_tensor(wanted[key]) and value.shape != wanted[key].shape
        ],
        words,
    )


# ---- other libraries' words


def mmcv(f: Facts) -> str:
    lines = ["The model and loaded state dict do not match exactly\n"]
    for key, a, b in f.mismatched:
        lines.append(
            f"size mismatch for {key}: copying a param with shape {torch.Size(a)} from checkpoint, the shape in current model "
            f"is {torch.Size(b)}."
        )
    if f.unexpected:
        lines.append(f"unexpected key in source state_dict: {', '.join(f.unexpected)}\n")
    if f.missing:
        lines.append(f"missing keys in source state_dict: {', '.join(f.missing)}\n")
    return "\n".join(lines)


def _grouped(keys: Sequence[str]) -> str:
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(key.rpartition(".")[0], []).append(key.rpartition(".")[2])
    lines = []
    for module, leaves in groups.items():
        leaf = leaves[0] if len(leaves) == 1 else "{" + ", ".join(sorted(leaves)) + "}"
        lines.append(f"  {module}.{leaf}" if module else f"  {leaf}")
    return "\n".join(lines)


def fvcore(f: Facts) -> str:
    lines = [
        f"Skip loading parameter '{key}' to the model due to incompatible shapes: {a} in the checkpoint but {b} in the model! "
        "You might want to double check if this is expected."
        for key, a, b in f.mismatched
    ]
    if f.missing:
        lines.append(
            "Some model parameters or buffers are not found in the checkpoint:\n" + _grouped(f.missing)
        )
    if f.unexpected:
        lines.append(
            "The checkpoint state_dict contains keys that are not used by the model:\n"
            + _grouped(f.unexpected)
        )
    return "\n".join(lines)


def table(f: Facts) -> str:
    """The report of transformers 5, by its own code."""
    from transformers.utils.loading_report import LoadStateDictInfo

    info = LoadStateDictInfo(f.missing, f.unexpected, f.mismatched, [], {}, set())  # type: ignore[arg-type]
    return f"{f.cls} LOAD REPORT from: ./checkpoint\n{info.create_loading_report()}"


def warnings_of_transformers(f: Facts) -> str:
    lines = []
    if f.unexpected:
        lines += [
            f"Some weights of the model checkpoint at ./checkpoint were not used when initializing {f.cls}: {f.unexpected}",
            f"- This IS expected if you are initializing {f.cls} from the checkpoint of a model trained on another task or "
            "with another architecture.",
        ]
    if f.missing:
        lines += [
            f"Some weights of {f.cls} were not initialized from the model checkpoint at ./checkpoint and are newly "
            f"initialized: {f.missing}",
            "You should probably TRAIN this model on a down-stream task to be able to use it for predictions and inference.",
        ]
    if f.mismatched:
        lines.append(
            f"Some weights of {f.cls} were not initialized from the model checkpoint at ./checkpoint and are newly initialized "
            "because the shapes did not match:"
        )
        lines += [
            f"- {key}: found shape {torch.Size(a)} in the checkpoint and {torch.Size(b)} in the model instantiated"
            for key, a, b in f.mismatched
        ]
    return "\n".join(lines)


def incompatible(f: Facts) -> str:
    return f"_IncompatibleKeys(missing_keys={f.missing}, unexpected_keys={f.unexpected})"


def lists_of_a_script(f: Facts) -> str:
    """As people print them."""
    shapes = [f"{key}: {list(a)} vs {list(b)}" for key, a, b in f.mismatched]
    return f"Missing keys: {f.missing}\nUnexpected keys: {f.unexpected}\n" + "\n".join(
        f"size mismatch for {line}" for line in shapes
    )


# ---- what pasting does


def wrapped(f: Facts) -> str:
    """A terminal of 80 columns, which breaks inside keys."""
    return "\n".join(
        piece
        for line in f.words.split("\n")
        for piece in (line[i : i + 80] for i in range(0, max(len(line), 1), 80))
    )


def folded(f: Facts) -> str:
    """A page that breaks lines between words."""
    return "\n".join(textwrap.wrap(f.words, 100))


def escaped(f: Facts) -> str:
    return html.escape(f.words)


def logged(f: Facts) -> str:
    return "\n".join(f"[rank{i % 2}]: {line}" for i, line in enumerate(f.words.split("\n")))


def dated(f: Facts) -> str:
    return "\n".join(
        f"2024-05-01 12:00:0{i % 10},123 - train - ERROR - {line}"
        for i, line in enumerate(f.words.split("\n"))
    )


def quoted(f: Facts) -> str:
    return "\n".join(f"> {line}" for line in f.words.split("\n"))


def in_json(f: Facts) -> str:
    return json.dumps({"level": "error", "message": f.words, "step": 0})


def of_pytest(f: Facts) -> str:
    return "\n".join(f"E       {line}" for line in f.words.split("\n"))


def twice(f: Facts) -> str:
    """Two ranks fail in the same way."""
    one = 'Traceback (most recent call last):\n  File "train.py", line 9, in <module>\n    main()\n' + f.words
    return "\n".join(f"[rank{rank}]: {line}" for rank in (0, 1) for line in one.split("\n"))


def typographic(f: Facts) -> str:
    return re.sub('"([^"]*)"', "\u201c\\1\u201d", f.words)


WHOLE: tuple[Callable[[Facts], str], ...] = (
    mmcv, wrapped, table, escaped, fvcore, logged, warnings_of_transformers, in_json, lists_of_a_script, dated, folded,
    of_pytest, quoted, twice, typographic,
)  # fmt: skip


def missing_only(f: Facts) -> str:
    keys = ", ".join(f'"{key}"' for key in f.missing)
    return (
        f"RuntimeError: Error(s) in loading state_dict for {f.cls}:\n\tMissing key(s) in state_dict: {keys}. "
    )


def unexpected_only(f: Facts) -> str:
    keys = ", ".join(f'"{key}"' for key in f.unexpected)
    return f"\tUnexpected key(s) in state_dict: {keys}. "


def of_vllm(f: Facts) -> str:
    return f"ValueError: Following weights were not initialized from checkpoint: {set(f.missing[:1])}"


def key_error(f: Facts) -> str:
    return f"    param = params_dict[name]\n            ~~~~~~~~~~~^^^^^^\nKeyError: '{f.unexpected[0]}'"


def diffusers_missing(f: Facts) -> str:
    return (
        f"ValueError: Cannot load <class 'pipeline.{f.cls}'> from ./unet because the following keys are missing: \n "
        f"{', '.join(f.missing)}. \n Please make sure to pass `low_cpu_mem_usage=False` and `device_map=None` if you want to "
        "randomly initialize those weights or else make sure your checkpoint file is correct."
    )


def diffusers_shape(f: Facts) -> str:
    key, a, b = f.mismatched[0]
    return (
        f"ValueError: Cannot load ./unet because {key} expected shape {torch.Size(b)}, but got {torch.Size(a)}. If you want to "
        "instead overwrite randomly initialized weights, please make sure to pass both `low_cpu_mem_usage=False` and "
        "`ignore_mismatched_sizes=True`."
    )


def accelerate(f: Facts) -> str:
    key, a, b = f.mismatched[0]
    return (
        f'ValueError: Trying to set a tensor of shape {torch.Size(a)} in "{key.rpartition(".")[2]}" (which has shape '
        f"{torch.Size(b)}), this looks incorrect."
    )


def cut(words: str, share: float) -> str:
    """The beginning of a text, broken off wherever that is."""
    return words[: max(int(len(words) * share), 60)]
