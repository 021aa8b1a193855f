"""What a file turned out to be, as the same findings that its error in other tools would get."""

from __future__ import annotations

import re

from ..errors import CkptkitError
from ..findings import Finding, Fix

_FETCH = "fetch the file again and compare its size with the one that the source states"

# Our own words for bad files; tests hold the two together.
_KINDS = (
    ("file_not_checkpoint", r"is a Git LFS pointer", "a Git LFS pointer stands where the weights should be",
     "fetch the real file: git lfs pull, or download it by its own link"),
    ("file_not_checkpoint", r"is an HTML page", "a web page was saved in the place of the file",
     "download it again, logged in if need be, and look at its first bytes"),
    ("file_not_checkpoint", r"is (?:an? )?(?:GGUF|ONNX|HDF5|NumPy|gzip|xz|bzip2|Zstandard|7z|RAR|tar|text)\b|is JSON text",
     "the file is of another kind than torch or safetensors", "convert or unpack it with its own tools first"),
    ("wrong_object", r"TorchScript archive", "a TorchScript program was given, not a state_dict",
     "save the state_dict() of the module it was made from"),
    ("wrong_object", r"optimizer's state|no dictionary of tensors was found",
     "the file holds no model's weights: another part of a training run, such as its optimizer",
     "give the file, or the part of it, that holds the model"),
    ("pickle_code", r"whole model pickled|not on the allow-list|a pickle that torch did not write",
     "the file pickles code beside or instead of tensors", "save model.state_dict() where the model's code lives"),
    ("file_corrupt",
     r"no end record|damaged|is cut|was cut|ends at byte|CRC|an empty file|a file of zeros|short by|truncated|malformed"
     r"|not a (?:valid safetensors file|sound)",
     "the file is damaged or incomplete", _FETCH),
)  # fmt: skip


def file_finding(error: CkptkitError) -> Finding | None:
    """The finding behind an error about a file; None for another error."""
    if error.file is None:
        return None
    for cause, pattern, title, advice in _KINDS:
        match = re.search(pattern, error.message)
        if match is not None:
            return Finding(cause, title, error.message[:200], (), "certain", Fix(advice))
    return None
