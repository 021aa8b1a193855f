"""Errors that name no keys: the file, the pickle, the device, the object that was passed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..findings import Confidence, Finding, Fix

_FLAGS = re.IGNORECASE
_ENDS = 100_000  # characters


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of message: its cause, how it reads, what it means and what to do."""

    cause: str
    pattern: re.Pattern[str]
    title: str
    advice: str
    confidence: Confidence = "certain"


def _message(
    cause: str, pattern: str, title: str, advice: str, confidence: Confidence = "certain"
) -> Message:
    return Message(cause, re.compile(pattern, _FLAGS), title, advice, confidence)


_POINTER = "the file is a Git LFS pointer: a few lines of text that stand for the weights"
_PAGE = "the file is a web page, not a checkpoint: the download gave a login, quota or error page"
_FETCH = "fetch the file again and compare its size with the one that the source states"

MESSAGES = (
    _message(
        "file_not_checkpoint", r"invalid load key, ['\"]v['\"]|Unsupported operand 118|git-lfs\.github\.com",
        _POINTER, "fetch the real file: git lfs pull, or download it by its own link",
    ),
    _message(
        "file_not_checkpoint", r"invalid load key, ['\"]<['\"]|Unsupported operand 60|<!doctype html|<html",
        _PAGE, "download it with a tool that follows confirmation pages, and look at its first bytes before loading",
    ),
    _message(
        "file_corrupt", r"invalid load key, ['\"]\\x00['\"]",
        "the file begins with zero bytes: it was reserved on the disk and never filled", _FETCH,
    ),
    _message(
        "file_not_checkpoint", r"invalid load key|magic_number[\s\S]{0,400}UnpicklingError",
        "the file is no torch checkpoint: its first byte starts no pickle",
        "look at its first bytes: text is a Git LFS pointer or a web page; then fetch the real file", "likely",
    ),
    _message(
        "file_corrupt",
        r"failed finding central directory|unexpected EOF|file might be corrupted|Ran out of input|pickle data was truncated"
        r"|MetadataIncompleteBuffer|InvalidHeaderDeserialization|HeaderToo(?:Large|Small)|header too (?:large|small)"
        r"|invalid header (?:length|deserialization)|incomplete metadata|file not fully covered|Invalid magic number"
        r"|not a ZIP archive|BadZipFile|invalid UTF-8 in header|invalid JSON in header|buffer is too small",
        "the file is damaged or incomplete", _FETCH,
    ),
    _message(
        "format_version",
        r"is a zip archive|maximum supported version for reading|kMaxSupportedFileFormatVersion|Only one file\(not dir\)"
        r"|module name can't contain|unsupported pickle protocol|PytorchStreamReader[^\n]*version",
        "the file's format, or the names in it, are of another torch version than the one that reads it",
        "read it with a newer torch, or convert it: python -m ckptkit convert OLD NEW.safetensors",
    ),
    _message(
        "prefix_strip", r"Missing key in checkpoint state_dict",
        "a distributed checkpoint lacks a key of the model: usually one side was saved or built inside a wrapper",
        "compare the names: python -m ckptkit check CHECKPOINT --model MODULE:FACTORY; _orig_mod. (torch.compile) and "
        "_checkpoint_wrapped_module. (activation checkpointing) are stripped by a rename", "guess",
    ),
    _message(
        "optimizer_state",
        r"parameter group that doesn't match the size|different number of parameter groups",
        "the optimizer's state belongs to another set of parameters: it knows them by their place, not by name",
        "load the weights alone and start the optimizer afresh, or restore the model and what trains as they were",
    ),
    _message(
        "shared_memory", r"Some tensors share memory|share memory, this will lead to duplicate",
        "several keys are one tensor in memory, which safetensors does not write twice",
        "write it with ckptkit.save, which keeps one copy and notes the tied names, or clone what should be apart",
    ),
    _message(
        "device_map", r"deserialize object on (?:a )?(?:CUDA|cuda|MPS|mps|XPU|NPU)|Attempting to ?deserialize",
        "the tensors were saved on a device that is not here",
        "load to the CPU: torch.load(..., map_location='cpu'), or ckptkit.load, which reads to the CPU first",
    ),
    _message(
        "sharding", r"mixed torch\.Tensor and DTensor|_flat_param|flat_param\b|ShardedTensor",
        "a plain tensor meets a sharded parameter (FSDP, DTensor), or the reverse",
        "load before sharding, or with ckptkit.load, which gives each rank its part; gather a sharded file first",
    ),
    _message(
        "wrong_object", r"Expected state_dict to be dict-like|state_dict to be dict-like|has no attribute 'state_dict'"
        r"|'(?:str|PosixPath|Tensor|OrderedDict|dict)' object has no attribute"
        r" '(?:copy|items|keys|_metadata|load_state_dict|eval)'",
        "what was passed is no state_dict",
        "pass the dictionary of tensors: load the file first (ckptkit.open(path)), call .state_dict() on a module",
    ),
)  # fmt: skip


def message_findings(text: str) -> Iterator[Finding]:
    """Findings from the words of a text."""
    if len(text) > 2 * _ENDS:  # the message stands before or after a long log, not in the middle of it
        text = f"{text[:_ENDS]}\n{text[-_ENDS:]}"
    found = False
    for special in (_weights_only, _pickled_code):
        finding = special(text)
        if finding is not None:
            found = True
            yield finding
    for message in MESSAGES:
        match = message.pattern.search(text)
        if match is None or (found and message.cause == "file_corrupt"):
            continue
        found = True
        yield Finding(
            message.cause,
            message.title,
            _line_of(text, match),
            (),
            message.confidence,
            Fix(message.advice),
        )


def _weights_only(text: str) -> Finding | None:
    if not re.search(
        r"Weights only load failed|Unsupported global|WeightsUnpickler error|`weights_only` argument", text
    ):
        return None
    if re.search(r"Unsupported operand (?:118|60)\b", text):
        return None  # text, not a pickle
    names = re.findall(r"(?:Unsupported global:? (?:GLOBAL )?|GLOBAL )([\w.]+)", text)
    named = ", ".join(dict.fromkeys(name.rstrip(".") for name in names))
    return Finding(
        "weights_only",
        "torch refuses to unpickle code: the file holds more than tensors" + (f" ({named})" if named else ""),
        f"not allowed: {named}" if named else "Weights only load failed",
        (),
        "certain",
        Fix(
            "read the weights without running anything: python -m ckptkit convert FILE weights.safetensors; or allow "
            f"exactly {named or 'the named globals'} with add_safe_globals if you know where they come from"
        ),
    )


def _pickled_code(text: str) -> Finding | None:
    match = re.search(r"Can't get attribute ['\"](\w+)['\"] on <module ['\"]([\w.]+)['\"]", text)
    module = re.search(r"No module named ['\"]([\w.]+)['\"]", text)
    if match is None and module is None:
        return None
    what = f"{match[2]}.{match[1]}" if match else str(module[1] if module else "")
    return Finding(
        "pickle_code",
        f"the file pickles code: it needs {what} of the project that wrote it",
        _line_of(text, match or module),
        (),
        "certain" if match else "likely",
        Fix(
            "take the tensors alone: python -m ckptkit convert FILE weights.safetensors reads them without that code; "
            "where a whole module was pickled, load it in its project and save its state_dict()"
        ),
    )


def _line_of(text: str, match: re.Match[str] | None) -> str:
    if match is None:
        return ""
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return text[start : end if end >= 0 else len(text)].strip()[:200]


Special = Callable[[str], Finding | None]
