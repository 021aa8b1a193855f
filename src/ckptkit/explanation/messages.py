"""Errors that name no keys: the file, the pickle, the device, the object that was passed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..code_names import runs_code
from ..findings import Confidence, Finding, Fix
from .wording import short

_FLAGS = re.IGNORECASE
_ENDS = 100_000  # characters
_LINE = 200  # characters
_OPERAND = re.compile(r"Unsupported operand (\d{1,3})(?!\d)")
_SWITCH = re.compile(r"(?i)weights_only|safe_globals|allow_pickle|trust_remote_code")


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
_LOADING = re.compile(r"(?i)pickle|torch[./\\]serialization|torch\.load|checkpoint|\.pth?\b|\.ckpt")
_FETCH = "fetch the file again and compare its size with the one that the source states"

MESSAGES = (
    _message(
        "lora_adapter", r"lora key not loaded|adapter keys|Loading adapter weights|ERROR lora"
        r"|Target modules [\s\S]{0,200}not found",
        "the adapter does not fit: its layers have other names or sizes than the model's",
        "load it into the base model it was trained for, with its own adapter_config.json (target_modules, r)",
        "likely",
    ),
    _message(
        "arch_mismatch", r"ensure that the architectures match",
        "the model is built with another architecture than the checkpoint",
        "build it with the options that are stored beside the weights (python -m ckptkit inspect FILE shows what there is)",
        "likely",
    ),
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
        r"|not a ZIP archive|BadZipFile|invalid UTF-8 in header|invalid JSON in header|buffer is too small"
        r"|PytorchStreamReader failed reading (?:file|zip)|invalid hash value|storage has wrong byte size"
        r"|Memo value not found"
        r"|unpickling stack underflow|(?:^|\n)\s*EOFError:?\s*(?:\n|$)|invalid load key, ['\"]\\x00|Unsupported operand 0\b",
        "the file is damaged or incomplete", _FETCH,
    ),
    _message(
        "format_version",
        r"is a zip archive|maximum supported version for reading|kMaxSupportedFileFormatVersion|Only one file\(not dir\)"
        r"|module name can't contain|unsupported pickle protocol|PytorchStreamReader[^\n]{0,300}version"
        r"|failed locating file (?:constants|data|version)|load persistent id instruction"
        r"|instantiate '(?:Posix|Windows)Path'"
        r"|'ascii' codec can't decode|KeyError: '[FUIB]F?\d\w{0,20}'|does not contain the valid metadata"
        r"|'(?:Untyped|Typed)Storage'"
        r"|legacy \.tar format|require users to upgrade torch|metadata\.get\(['\"]format['\"]\)",
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
        r"parameter group that doesn't match the size|different number of parameter groups"
        r"|must match the size of tensor[\s\S]{0,300}torch/optim/|torch/optim/[\s\S]{0,300}must match the size of tensor",
        "the optimizer's state belongs to another set of parameters: it knows them by their place, not by name",
        "load the weights alone and start the optimizer afresh, or restore the model and what trains as they were",
    ),
    _message(
        "shared_memory", r"Some tensors share memory|share memory, this will lead to duplicate",
        "several keys are one tensor in memory, which safetensors does not write twice",
        "write it with ckptkit.save, which keeps one copy and notes the tied names, or clone what should be apart",
    ),
    _message(
        "device_map", r"deserialize object on (?:a )?(?:CUDA|cuda|MPS|mps|XPU|NPU)|Attempting to ?deserialize"
        r"|restore data location of|Found no NVIDIA driver|invalid device ordinal[\s\S]{0,300}deserialize"
        r"|deserialize[\s\S]{0,300}invalid device ordinal",
        "the tensors were saved on a device that is not here",
        "load to the CPU: torch.load(..., map_location='cpu'), or ckptkit.load, which reads to the CPU first",
    ),
    _message(
        "device_map", r"from a non-meta parameter in the checkpoint to a meta parameter|[Cc]annot copy out of meta tensor"
        r"|[Mm]eta tensors remain|(?:is|are|still) on the meta device",
        "the model's parameters are on the meta device and hold no numbers: a copy into them does nothing",
        "load with ckptkit.load(model, FILE, assign=True), which puts the checkpoint's tensors in their place; or "
        "model.to_empty(device='cpu') before loading",
    ),
    _message(
        "file_corrupt", r"filename 'storages' not found",
        "the file is no whole checkpoint: torch takes it for an archive of its oldest kind, and finds none of its parts",
        "look at its size and first bytes, and fetch it again",
    ),
    _message(
        "sharding", r"mixed torch\.Tensor and DTensor|_flat_param|flat_param\b|ShardedTensor|DP world size|mp_rank_\d+",
        "a plain tensor meets a sharded parameter (FSDP, DTensor), or the reverse",
        "load before sharding, or with ckptkit.load, which gives each rank its part; gather a sharded file first",
    ),
    _message(
        "wrong_object", r"Expected state_dict to be dict-like|state_dict to be dict-like|has no attribute 'state_dict'"
        r"|'(?:[\w.]{0,200}(?:str|Path|Tensor|Dict|dict|tuple|list|int|NoneType|BytesIO))' object has no attribute"
        r" '(?:copy|items|keys|_metadata|load_state_dict|eval|train|to|cuda|cpu|half|float|parameters|modules"
        r"|named_parameters"
        r"|children|state_dict|forward|predict|startswith|endswith|module)'"
        r"|(?:not subscriptable|(?:list|tuple) indices must be integers)[\s\S]{0,300}"
        r"(?:load_state_dict|torch\.load|checkpoint|ckpt)"
        r"|with TorchScript archives",
        "what was passed is no state_dict",
        "pass the dictionary of tensors: load the file first (ckptkit.open(path)), call .state_dict() on a module; a "
        "state_dict is loaded into a model and is none",
    ),
)  # fmt: skip


def message_findings(text: str) -> Iterator[Finding]:
    """Findings from the words of a text."""
    if len(text) > 2 * _ENDS:  # the message stands before or after a long log, not in the middle of it
        text = f"{text[:_ENDS]}\n{text[-_ENDS:]}"
    found = False
    for special in (_weights_only, _text_instead, _pickled_code):
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
    if _no_pickle(text):
        return None
    found = re.findall(r"(?:Unsupported global:? (?:GLOBAL )?|GLOBAL )([\w.]{1,1000})", text)
    names = list(dict.fromkeys(name.rstrip(".") for name in found))
    named, evil = _listed(names), [name for name in names if runs_code(name)]
    advice = "read the weights without running anything: python -m ckptkit convert FILE weights.safetensors; "
    if evil:
        title = f"the file asks for {_listed(evil)}, which can run anything and which no weights need: it may be an attack"
        advice += "open it with nothing that unpickles, and take the weights from a source that you trust"
    else:
        title = "torch refuses to unpickle code: the file holds more than tensors"
        title += f" ({named})" if names else ""
        advice += "what is no tensor is left out there; whoever made the file can save its state_dict() alone"
    evidence = f"not allowed: {named}" if names else "Weights only load failed"
    return Finding("weights_only", title, evidence, (), "certain", Fix(advice))


def _listed(names: Sequence[str]) -> str:
    """A few names, each of them cut where it is long."""
    shown = ", ".join(short(name) for name in names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def _no_pickle(text: str) -> bool:
    """Whether the reader stumbled over something else than code: text, zeros, a cut file, another kind of archive."""
    if re.search(
        r"Ran out of input|TorchScript archive|legacy \.tar|pickle data was truncated|memo value|underflow",
        text,
        _FLAGS,
    ):
        return True
    operand = _OPERAND.search(text)
    return operand is not None and int(operand[1]) not in _UNSAFE_OPCODES


# Opcodes of pickles that torch's restricted reader does not know; any other byte is no pickle's.
_UNSAFE_OPCODES = frozenset(b"iocbPDILNRSUVXdegjlprstu\x82\x83\x84\x90\x91\x92\x93\x96\x97\x98")


def _text_instead(text: str) -> Finding | None:
    """The restricted reader met a byte that begins no pickle."""
    operand = _OPERAND.search(text)
    if operand is None or int(operand[1]) in (0, 60, 118, *_UNSAFE_OPCODES):
        return None
    byte = int(operand[1])
    shown = f"the letter {chr(byte)!r}" if 32 < byte < 127 else f"byte {byte}"
    return Finding(
        "file_not_checkpoint",
        f"the file is no torch checkpoint: {shown} stands where a pickle would begin",
        operand[0],
        (),
        "likely",
        Fix(
            "look at its first bytes: text is a page or a pointer, and a safetensors file needs its own reader; "
            "fetch it again"
        ),
    )


def _pickled_code(text: str) -> Finding | None:
    match = re.search(
        r"Can't get attribute ['\"](\w{1,1000})['\"] on <module ['\"]([\w.]{1,1000})['\"]", text
    )
    module = re.search(r"No module named ['\"]([\w.]{1,1000})['\"]", text)
    if match is None and module is None:
        return None
    if match is not None and (
        match[2] == "torch" or match[2].startswith("torch._") or match[1].startswith("_rebuild")
    ):
        return Finding(
            "format_version",
            f"the file was written by a newer torch: this one has no {short(f'{match[2]}.{match[1]}')}",
            _line_of(text, match),
            (),
            "certain",
            Fix("read it with a newer torch, or convert it: python -m ckptkit convert OLD NEW.safetensors"),
        )
    if match is None and module is not None and not _LOADING.search(text) and "import " in text:
        return None  # an ordinary import failed
    if module is not None and module[1].startswith("numpy._core"):
        return Finding(
            "pickle_code",
            "the file holds numpy objects of numpy 2, and this numpy is older",
            _line_of(text, module),
            (),
            "certain",
            Fix(
                "update numpy, or take the tensors alone: python -m ckptkit convert FILE weights.safetensors"
            ),
        )
    what = f"{match[2]}.{match[1]}" if match else str(module[1] if module else "")
    return Finding(
        "pickle_code",
        f"the file pickles code: it needs {short(what)} of the project that wrote it",
        _line_of(text, match or module),
        (),
        "certain" if match else "likely",
        Fix(
            "take the tensors alone: python -m ckptkit convert FILE weights.safetensors reads them without that code; "
            "where a whole module was pickled, whoever made the file can save its state_dict() instead"
        ),
    )


def _line_of(text: str, match: re.Match[str] | None) -> str:
    """The line of a match, or the match alone where the line tells how to switch torch's checks off."""
    if match is None:
        return ""
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    line = text[start : end if end >= 0 else len(text)].strip()[:_LINE]
    return match[0].strip()[:_LINE] if _SWITCH.search(line) else line
