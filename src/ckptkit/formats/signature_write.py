"""Writing signature files."""

from __future__ import annotations

import json
from typing import Any

from ..errors import FormatError, PlanError, WriteError
from ..files.atomic import AtomicFile
from ..files.copy import write_all
from ..signatures import Signature
from .base import WriteRequest, Written, WrittenFile
from .json_text import BadJson, parse
from .safetensors_write import check_metadata
from .signature_file import read_signature


def write_signature(request: WriteRequest) -> Written:
    """Write the keys, shapes, dtypes, ties and metadata of the items; no data is read.

    Raises:
        PlanError: a key or a metadata entry is no text.
        WriteError: a shape is none that a signature can have, the target exists, or the system refuses.
    """
    check_metadata(request.metadata)
    infos = {item.key: item.info for item in request.items}
    for key in infos:
        try:
            key.encode()
        except UnicodeEncodeError:
            raise PlanError(
                f"the key {ascii(key)[:120]} holds a lone surrogate, which no file can hold; rename it first",
                key=ascii(key),
            ) from None
    ties: dict[Any, list[str]] = {}
    for item in request.items:
        if item.tie is not None:
            ties.setdefault(item.tie, []).append(item.key)
    signature = Signature(infos, tuple(tuple(g) for g in ties.values() if len(g) > 1), request.metadata)
    text = json.dumps(signature.to_json(), indent=1, ensure_ascii=False).encode() + b"\n"
    try:
        read_signature(parse(text.decode()), request.target)
    except (FormatError, BadJson) as error:
        reason = str(error).removeprefix(f"{request.target}: ")
        raise WriteError(
            f"{request.target}: what is to be written could not be read again: {reason}", file=request.target
        ) from None
    options = request.options
    with AtomicFile(
        request.target, overwrite=options.overwrite, fsync=options.fsync, claim=options.claim
    ) as file:
        write_all(file.fd, text, 0)
    options.progress(len(text))
    tensors = sum(info.kind == "tensor" for info in infos.values())
    return Written((WrittenFile(request.target, len(text), tensors),), notes=file.notes)
