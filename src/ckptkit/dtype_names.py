"""dtypes as people write them: torch's names, its short ones, NumPy's, safetensors' and those of papers."""

from __future__ import annotations

import difflib
import re
from typing import Any

from .dtypes import DTYPES, FROM_SAFETENSORS, Kind
from .text import clipped, quoted

# What a tensor can be cast to; torch packs float4 in pairs and cannot convert to it.
CASTABLE = tuple(d.name for d in DTYPES.values() if d.torch and d.name != "float4_e2m1fn_x2")

# In small letters, beside the names themselves and safetensors' own.
_SHORT = {
    "float64": "fp64 double",
    "float32": "fp32 float single",
    "float16": "fp16 half",
    "bfloat16": "bfloat",
    # Where only eight bits are said, the format of weights is meant; e5m2 is for gradients.
    "float8_e4m3fn": "fp8 float8 float8_e4m3 fp8_e4m3 fp8_e4m3fn e4m3 e4m3fn",
    "float8_e5m2": "fp8_e5m2 e5m2",
    "float8_e4m3fnuz": "fp8_e4m3fnuz e4m3fnuz",
    "float8_e5m2fnuz": "fp8_e5m2fnuz e5m2fnuz",
    "float8_e8m0fnu": "fp8_e8m0 fp8_e8m0fnu e8m0",
    "int64": "long longlong int_",
    "int32": "int intc",
    "int16": "short",
    "int8": "char",
    "uint64": "ulong ulonglong",
    "uint32": "uintc",
    "uint16": "ushort",
    "bool": "bool_ boolean",
    "complex32": "chalf",
    "complex64": "cfloat csingle",
    "complex128": "cdouble c128",
}
_UNCLEAR = {
    "i8": "int8, and int64 to NumPy",
    "u8": "uint8, and uint64 to NumPy",
    "f8": "float8_e4m3fn, and float64 to NumPy",
    "i4": "an integer of four bits, and int32 to NumPy",
    "f4": "a number of four bits, and float32 to NumPy",
    "byte": "uint8 to torch, and int8 to NumPy",
    "uint": "uint32 to some, and uint64 to NumPy",
}
_SPELLINGS = {
    spelling: name
    for name in CASTABLE
    for spelling in (
        name,
        *_SHORT.get(name, "").split(),
        *(code.lower() for code, dtype in FROM_SAFETENSORS.items() if dtype.name == name),
    )
    if spelling not in _UNCLEAR
}
_NUMPY_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
# By the first letters; of two that fit, the first counts.
_FAMILIES: tuple[tuple[str, Kind], ...] = (
    ("bo", "bool"), ("sh", "int"), ("ch", "int"), ("u", "uint"), ("c", "complex"), ("i", "int"),
    ("l", "int"), ("f", "float"), ("d", "float"), ("h", "float"), ("b", "float"), ("e", "float"), ("s", "float"),
)  # fmt: skip


def as_name(value: Any) -> Any:
    """The name of a dtype of torch or NumPy that is given itself; anything else as it is."""
    kind = type(value)
    if (kind.__module__, kind.__name__) == ("torch", "dtype"):
        return str(value)
    if kind.__module__.startswith("numpy") and hasattr(value, "kind") and hasattr(value, "itemsize"):
        return str(value)
    if isinstance(value, type) and value.__module__ == "numpy":
        return value.__name__
    return value


def named_dtype(text: str) -> str:
    """The name, as torch has it without ``torch.``, of a dtype that tensors can be cast to.

    Args:
        text: in any of the spellings: ``bfloat16``, ``bf16``, ``BF16``, ``torch.bfloat16``, ``half``, ``<f4``.
            ``float`` and ``int`` have torch's meaning (32 bits), ``fp8`` is ``float8_e4m3fn``.

    Raises:
        ValueError: there is none, or two could be meant; suggests the nearest of the same family only.
    """
    exact = FROM_SAFETENSORS.get(text)
    if exact is not None and exact.name in CASTABLE:
        return exact.name
    word = re.sub(r"^(?:torch|numpy|np)\.", "", text.strip()).lower()
    if word in _SPELLINGS:
        return _SPELLINGS[word]
    numpy = re.fullmatch(r"[<=|]([fiuc])([0-9]{1,2})", word)
    name = f"{_NUMPY_KINDS[numpy[1]]}{int(numpy[2]) * 8}" if numpy else "bool" if word == "|b1" else ""
    if name in CASTABLE:
        return name
    if word in _UNCLEAR:
        raise ValueError(
            f"the dtype {quoted(text)} can be {_UNCLEAR[word]}; write the name of the one you mean"
        )
    family = family_of(word)
    near = [spelling for spelling, name in _SPELLINGS.items() if DTYPES[name].kind == family]
    close = difflib.get_close_matches(clipped(word), near, 1, 0.5)
    hint = f"did you mean {_SPELLINGS[close[0]]!r}? K" if close else "k"
    raise ValueError(
        f"unknown dtype {quoted(text)}; {hint}nown are {', '.join(CASTABLE)}, and short names such as fp32, half and bf16"
    )


def family_of(word: str) -> Kind | None:
    """What kind of numbers the first letters of a word, in small letters, speak of; None when they say nothing."""
    return next((kind for start, kind in _FAMILIES if word.startswith(start)), None)
