"""Generated state_dicts: odd names, every dtype, 0-d and empty shapes, ties, views of one storage."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
NARROW = [
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
    torch.float4_e2m1fn_x2,
]
INTEGERS = [
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint64,
    torch.uint32,
    torch.uint16,
    torch.uint8,
    torch.bool,
]
IN_SAFETENSORS = [*FLOATS, *NARROW, *INTEGERS, torch.complex64]
IN_TORCH = [*IN_SAFETENSORS, torch.complex32, torch.complex128]

SEGMENTS = st.sampled_from(
    ["layers", "0", "1", "12", "attn", "weight", "bias", "q_proj", "é", "模型", "a b", "-", "\t", "_orig_mod"]
)
# Names that begin like the metadata key, hold quotes and backslashes, or look like paths.
ODD = st.sampled_from(
    ["", ".", "..", "../x", "/abs", 'q"', "back\\slash", "__metadata", "\u202eltr", "\U0001f600", "nul\x00"]
)
KEYS = st.one_of(st.lists(SEGMENTS, min_size=1, max_size=4).map(".".join), ODD)
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def tensors(dtypes: list[torch.dtype]) -> st.SearchStrategy[torch.Tensor]:
    """Tensors of arbitrary bytes: NaN payloads, -0.0 and denormals included."""

    @st.composite
    def build(draw: Any) -> torch.Tensor:
        dtype = draw(st.sampled_from(dtypes))
        # torch packs two 4-bit numbers into one element of the last dimension, so there must be one.
        shape = draw(SHAPES.filter(len) if dtype is torch.float4_e2m1fn_x2 else SHAPES)
        width = torch.empty(0, dtype=dtype).element_size()
        count = 1
        for size in shape:
            count *= size
        raw = draw(st.binary(min_size=count * width, max_size=count * width))
        if dtype is torch.bool:
            raw = bytes(byte & 1 for byte in raw)
        flat = (
            torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8)
        )
        return flat.view(dtype).reshape(shape)

    return build()


@st.composite
def state_dicts(
    draw: Any, dtypes: list[torch.dtype] = IN_SAFETENSORS, views: bool = True
) -> dict[str, torch.Tensor]:
    """State_dicts with up to eight entries, some tied, some looking into one storage."""
    state: dict[str, torch.Tensor] = {}
    for key in draw(st.lists(KEYS, max_size=5, unique=True)):
        state[key] = draw(tensors(dtypes))
    names = draw(st.lists(KEYS.filter(lambda k: k not in state), max_size=3, unique=True))
    for name in names:
        if not state:
            break
        partner = state[draw(st.sampled_from(sorted(state)))]
        kind = draw(st.sampled_from(["tie", "transpose", "part"])) if views else "tie"
        if kind == "tie" or partner.dim() == 0 or 0 in partner.shape:
            state[name] = partner
        elif kind == "transpose" and partner.dim() >= 2:
            state[name] = partner.transpose(0, 1)
        elif partner.dim() > 1 or partner.dtype is not torch.float4_e2m1fn_x2:
            state[name] = partner[1:]
    return state


def bits(tensor: torch.Tensor) -> bytes:
    """The exact bytes of a tensor in row-major order."""
    flat = tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)
    return bytes(flat.tolist())


def content(state: Any) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Keys with dtype, shape and bytes, to compare state_dicts exactly."""
    return {key: (str(value.dtype), tuple(value.shape), bits(value)) for key, value in state.items()}
