"""Plans as files: what was done to a checkpoint, kept so that it can be done again or undone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .errors import FormatError, PlanError
from .expr import from_json, infer
from .files.atomic import AtomicFile
from .files.copy import write_all
from .formats.json_text import read_json
from .formats.shard_names import bad_name, folded
from .formats.signature_file import read_signature
from .plans import Dropped, Equal, Layout, Output, Plan, RuleUse, signature_hash
from .signatures import OBJECT, Signature, TensorInfo

Path = str | os.PathLike[str]


def save_plan(plan: Plan, path: Path, *, overwrite: bool = False) -> None:
    """Write a plan as a ``ckptkit.plan`` document.

    Raises:
        WriteError: the file exists, or the system refuses.
    """
    with keeping_plan(plan, path, overwrite=overwrite):
        pass


@contextmanager
def keeping_plan(plan: Plan, path: Path, *, overwrite: bool = False) -> Iterator[AtomicFile]:
    """Write a plan beside its name before something is done, and give it the name afterwards if that went well.

    Raises:
        WriteError: the file exists, or the system refuses.
    """
    text = json.dumps(plan.to_json(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    with AtomicFile(os.fspath(path), overwrite=overwrite, fsync=True) as file:
        write_all(file.fd, text, 0)
        yield file


def load_plan(path: Path) -> Plan:
    """Read a plan.

    The file is input like any other: every expression is checked against the signature in it.

    Raises:
        FormatError: it is no ``ckptkit.plan`` document, or contradicts itself.
    """
    name = os.fspath(path)
    document = read_json(name)
    if not isinstance(document, dict) or document.get("format") != "ckptkit.plan":
        raise FormatError(
            f'{name}: JSON, but no plan ("format": "ckptkit.plan" is missing); write one with: '
            "python -m ckptkit remap SRC DST --save-plan FILE",
            file=name,
        )
    if document.get("version") != 1 or type(document["version"]) is not int:
        raise FormatError(
            f"{name}: a plan of version {str(document.get('version'))[:40]!r}; this ckptkit reads 1",
            file=name,
        )
    try:
        return _plan(document, name)
    except (KeyError, TypeError, ValueError, PlanError, RecursionError) as error:
        reason = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise FormatError(f"{name}: a malformed plan: {reason[:400]}", file=name) from None


def _plan(document: Mapping[str, Any], name: str) -> Plan:
    source = read_signature(document["source"], name)
    if document["source_hash"] != signature_hash(source):
        raise ValueError("source_hash is not that of the signature in it; the file was changed by hand")
    outputs: dict[str, Output] = {}
    for entry in document["outputs"]:
        output = _output(entry, source)
        if output.key in outputs:
            raise ValueError(f"the output {output.key[:120]!r} stands twice")
        outputs[output.key] = output
    rules = tuple(RuleUse(_count(r["index"]), str(r["op"]), _count(r["matched"])) for r in document["rules"])
    dropped = tuple(Dropped(_text(gone["key"]), _count(gone["rule"])) for gone in document["dropped"])
    equal = tuple(
        Equal(_text(e["key"]), from_json(e["one"]), from_json(e["other"])) for e in document.get("equal", [])
    )
    for each in equal:
        if infer(each.one, source) != infer(each.other, source):
            raise ValueError(
                f"equal says that two expressions for {each.key[:120]!r} are one, but their shapes differ"
            )
    restores = read_signature(document["restores"], name) if "restores" in document else None
    if restores is not None and {k: o.info for k, o in outputs.items()} != dict(restores.tensors):
        raise ValueError("restores is not the signature of the outputs")
    return Plan(
        tuple(outputs.values()),
        dropped,
        rules,
        source,
        equal=equal,
        restores=restores,
        layout=_layout(document.get("layout", [])),
        target_layout=_layout(document.get("target_layout", [])),
    )


def _output(entry: Mapping[str, Any], source: Signature) -> Output:
    key, expr = _text(entry["key"]), from_json(entry["expr"])
    declared = TensorInfo(tuple(_count(n) for n in entry["shape"]), _text(entry["dtype"]))
    found = infer(expr, source)
    if found != (OBJECT if found.kind == "object" else declared):
        raise ValueError(
            f"the output {key[:120]!r} is declared as {list(declared.shape)} {declared.dtype}, but its expression gives "
            f"{list(found.shape)} {found.dtype}"
        )
    return Output(key, found, expr, tuple(_count(n) for n in entry["rules"]), entry.get("tie", False) is True)


def _layout(entries: Any) -> Layout:
    found = []
    for entry in entries:
        file, keys = _text(entry["file"]), tuple(_text(key) for key in entry["keys"])
        if bad_name(file) is not None or not file.endswith(".safetensors"):
            raise ValueError(f"the layout names {file[:120]!r}, which is no plain name of a safetensors file")
        found.append((file, keys))
    if len({folded(file) for file, _ in found}) < len(found):
        raise ValueError("the layout names a file twice")
    return tuple(found)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:40]!r} is no number of anything")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"{str(value)[:40]!r} is no text")
    return value
