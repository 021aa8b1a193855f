"""Differential fuzzing: ``python -m reliability.fuzz READER FIRST COUNT [SECONDS]``; one JSON line at the end.

Each batch of mutated files is read by ckptkit in a forked process with a deadline, then those that it accepted are
read by the format's own library in another one, since that may crash. A violation is a foreign exception, a crash, a
hang, other values than the reference has, or a file that the reference calls malformed and ckptkit accepts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .mutations import write
from .pieces import METADATA, load

BATCH = 100
DEADLINE = 5


def ours(path: str) -> list[Any]:
    """``ok`` with the values, ``error``, or ``foreign`` with words."""
    import ckptkit

    from .test_corpus import summary

    try:
        with ckptkit.open(path) as checkpoint:
            if checkpoint.source.format == "signature":
                known = checkpoint.signature.tensors.items()
                return ["ok", {ascii(k): [v.dtype, list(v.shape)] for k, v in known}, None]
            return ["ok", {ascii(k): summary(v) for k, v in checkpoint.items()}, checkpoint.signature.root]
    except ckptkit.CkptkitError as error:
        return ["error", str(error)[:300]]
    except BaseException as error:
        return ["foreign", repr(error)[:300]]


def reference(path: str) -> list[Any]:
    """The same by torch, safetensors or json."""
    import torch

    from .test_corpus import summary

    try:
        if path.endswith(".json"):
            document = json.loads(Path(path).read_bytes())
            if "tensors" in document:
                return ["ok", {ascii(v["key"]): [v["dtype"], v["shape"]] for v in document["tensors"]}]
            shards = {
                name: _safetensors(os.path.join(os.path.dirname(path), name))
                for name in document["weight_map"].values()
            }
            return ["ok", {ascii(k): shards[name][ascii(k)] for k, name in document["weight_map"].items()}]
        if path.endswith(".safetensors"):
            return ["ok", _safetensors(path)]
        if path.endswith(METADATA):
            return ["ok", _flat(load(path), summary)]
        return ["ok", _flat(torch.load(path, weights_only=True, map_location="cpu"), summary)]
    except BaseException as error:
        return ["error", f"{type(error).__name__}: {error}"[-300:]]


def _safetensors(path: str) -> dict[str, Any]:
    from safetensors import safe_open

    from .test_corpus import summary

    with safe_open(path, "pt") as file:
        return {ascii(k): summary(file.get_tensor(k)) for k in file.keys()}  # noqa: SIM118


def _flat(tree: Any, summary: Callable[[Any], Any]) -> Any:
    return {"": tree} if not isinstance(tree, dict) else {
        str(k): {ascii(n): summary(v) for n, v in value.items()} if isinstance(value, dict) else None
        for k, value in tree.items()
    } | {"\0top": {ascii(k): summary(v) for k, v in tree.items()}}  # fmt: skip


def forked(work: Callable[[str], Any], paths: list[str]) -> list[Any]:
    """The result of each path; None where the process died, which is told by signal and restarts behind it."""
    results: list[Any] = []
    while len(results) < len(paths):
        end, start = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(end)
            warnings.simplefilter("ignore")
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            for path in paths[len(results) :]:
                signal.setitimer(signal.ITIMER_REAL, DEADLINE)
                os.write(start, json.dumps(work(path)).encode() + b"\n")
            os._exit(0)
        os.close(start)
        with os.fdopen(end) as stream:
            results += [json.loads(line) for line in stream if line.endswith("\n")]
        _, status = os.waitpid(pid, 0)
        if len(results) < len(paths):
            results.append(["died", os.WTERMSIG(status) if os.WIFSIGNALED(status) else status])
    return results


def judge(mine: list[Any], theirs: list[Any]) -> str | None:
    """What is wrong with a file that both have read."""
    if mine[0] in ("foreign", "died"):
        return f"{mine[0]}: {mine[1]}"
    if mine[0] == "error" or theirs[0] == "died":
        return None
    if theirs[0] == "error":
        # An unknown global is refused by torch as unsafe; here it is an inert value outside the root.
        unsafe = (
            "Unsupported global" in theirs[1]
            or "Unsupported class" in theirs[1]
            or "weights_only" in theirs[1]
        )
        return None if unsafe else f"accepted, and refused by the reference: {theirs[1]}"
    values, root = mine[1], mine[2]
    expected = theirs[1]
    if "\0top" in expected:
        found = expected.get(root, "nested deeper") if root is not None else expected["\0top"]
        expected = found if isinstance(found, dict) else None
    if expected is not None and values != expected:
        keys = [k for k in {*values, *expected} if values.get(k) != expected.get(k)]
        return f"other values than the reference: {sorted(keys)[:3]}"
    return None


def fuzz(reader: str, first: int, count: int, seconds: float) -> dict[str, Any]:
    """Seeds from `first`, until `count` or the time is used up."""
    folder = Path(tempfile.mkdtemp(prefix="ckptkit-fuzz-"))
    found: list[Any] = []
    outcomes: Counter[str] = Counter()
    end, seed = time.monotonic() + seconds, first
    try:
        while seed < first + count and time.monotonic() < end:
            seeds = range(seed, min(seed + BATCH, first + count))
            paths = [str(write(folder, reader, each)) for each in seeds]
            mine = forked(ours, paths)
            accepted = [i for i, result in enumerate(mine) if result[0] == "ok"]
            theirs: dict[int, Any] = dict(
                zip(accepted, forked(reference, [paths[i] for i in accepted]), strict=True)
            )
            for i, result in enumerate(mine):
                outcomes[result[0]] += 1
                wrong = judge(result, theirs.get(i, ["none"]))
                if wrong is not None:
                    found.append([seeds[i], wrong])
            for path in paths:
                shutil.rmtree(os.path.dirname(path))
            seed = seeds[-1] + 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "reader": reader,
        "cases": sum(outcomes.values()),
        "outcomes": dict(outcomes),
        "violations": found,
    }


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    limit = float(sys.argv[4]) if len(sys.argv) > 4 else 1e9
    print(json.dumps(fuzz(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), limit)))
