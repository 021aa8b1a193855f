"""The dtypes of tensors by name, without torch: widths, kinds, and their names in safetensors.

Names are torch's without the prefix. A dtype that torch lacks (safetensors' ``F6_E2M3`` and
``F6_E3M2``) keeps its format's name: it can be inspected and copied as bytes, never opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["float", "int", "uint", "bool", "complex", "other"]


@dataclass(frozen=True, slots=True)
class DType:
    """One dtype.

    Args:
        name: torch's name without ``torch.``, or the format's name.
        bits: width of one element in bits.
        kind: the family.
        safetensors: its code in a safetensors header, None when that format cannot hold it.
        torch: whether torch has it.
    """

    name: str
    bits: int
    kind: Kind
    safetensors: str | None
    torch: bool = True

    @property
    def align(self) -> int:
        """Bytes that an address of its elements must be a multiple of."""
        return max(1, (self.bits if self.kind != "complex" else self.bits // 2) // 8)


_ALL = (
    DType("float64", 64, "float", "F64"),
    DType("float32", 32, "float", "F32"),
    DType("float16", 16, "float", "F16"),
    DType("bfloat16", 16, "float", "BF16"),
    DType("float8_e4m3fn", 8, "float", "F8_E4M3"),
    DType("float8_e5m2", 8, "float", "F8_E5M2"),
    DType("float8_e4m3fnuz", 8, "float", "F8_E4M3FNUZ"),
    DType("float8_e5m2fnuz", 8, "float", "F8_E5M2FNUZ"),
    DType("float8_e8m0fnu", 8, "float", "F8_E8M0"),
    # One torch element packs two 4-bit numbers; safetensors counts the numbers.
    DType("float4_e2m1fn_x2", 8, "other", "F4"),
    DType("int64", 64, "int", "I64"),
    DType("int32", 32, "int", "I32"),
    DType("int16", 16, "int", "I16"),
    DType("int8", 8, "int", "I8"),
    DType("uint64", 64, "uint", "U64"),
    DType("uint32", 32, "uint", "U32"),
    DType("uint16", 16, "uint", "U16"),
    DType("uint8", 8, "uint", "U8"),
    DType("bool", 8, "bool", "BOOL"),
    DType("complex32", 32, "complex", None),
    DType("complex64", 64, "complex", "C64"),
    DType("complex128", 128, "complex", None),
    DType("F6_E2M3", 6, "other", "F6_E2M3", torch=False),
    DType("F6_E3M2", 6, "other", "F6_E3M2", torch=False),
    DType("F4", 4, "other", "F4", torch=False),
)

DTYPES: dict[str, DType] = {d.name: d for d in _ALL}
FROM_SAFETENSORS: dict[str, DType] = {d.safetensors: d for d in reversed(_ALL) if d.safetensors is not None}


# Bytes of one element of the dtypes whose numbers mean nothing without a quantiser, which stands elsewhere.
QUANTISED = {"qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1}

# torch's dtypes that no checkpoint format holds, by bits: a model may have them, and a signature names them.
_BYTE_WIDE = ("qint8", "quint8", "bits1x8", "bits2x4", "bits4x2", "bits8", *(f"int{n}" for n in range(1, 8)))
_ONLY_NAMED = {"qint32": 32, "bits16": 16, "quint4x2": 4, "quint2x4": 2}
_ONLY_NAMED |= dict.fromkeys((*_BYTE_WIDE, *(f"uint{n}" for n in range(1, 8))), 8)


def is_known(dtype: str) -> bool:
    """Whether a dtype of this name exists, in torch or in a format."""
    return dtype in DTYPES or dtype in _ONLY_NAMED


def nbytes(dtype: str, numel: int) -> int:
    """Bytes that `numel` elements of the named dtype (`is_known`) take, rounded up to whole bytes."""
    known = DTYPES.get(dtype)
    return ((known.bits if known is not None else _ONLY_NAMED[dtype]) * numel + 7) // 8


def is_floating(dtype: str) -> bool:
    """Whether the named dtype is a floating-point one (complex is not)."""
    d = DTYPES.get(dtype)
    return d is not None and d.kind == "float"
