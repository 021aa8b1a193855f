"""Writing signature files."""

from __future__ import annotations

import json
from typing import Any

from ..errors import PlanError
from ..files.atomic import AtomicFile
from ..files.copy import write_all
from ..signatures import Signature
from .base import WriteRequest, Written, WrittenFile
from .safetensors_write import check_metadata


def write_signature(request: WriteRequest) -> Written:
    """Write the keys, shapes, dtypes, ties and metadata of the items; no data is read."""
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
    options = request.options
    with AtomicFile(request.target, overwrite=options.overwrite, fsync=options.fsync) as file:
        write_all(file.fd, text, 0)
    options.progress(len(text))
    return Written((WrittenFile(request.target, len(text), sum(i.kind == "tensor" for i in infos.values())),))
