"""Run as a program: mutated models, scripts, exports and arrays are opened, read and verified; prints what went wrong.

The archives around the damage are sound, so that the readers of their contents meet it. An audit hook notes whatever is
executed, imported, opened for writing or looked up outside ckptkit.

``python fuzzing.py KIND FIRST COUNT SECONDS FOLDER`` reads the valid file on the standard input.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import random
import resource
import signal
import sys
import time
import zipfile
from collections import Counter
from typing import Any

FORBIDDEN = (
    "exec",
    "compile",
    "os.system",
    "os.exec",
    "subprocess",
    "socket",
    "ctypes",
    "pickle.find_class",
    "shutil",
)
WORDS = (
    b"_modules", b"_parameters", b"_buffers", b"_non_persistent_buffers_set", b"data", b"__torch__", b"shape", b"numpy",
    b"posix\nsystem\n", b"builtins\neval\n", b"torch.nn.modules.linear\nLinear\n", b"config", b"as_int", b"-1", b"9" * 30,
)  # fmt: skip
MOST = 400 << 20  # bytes of memory beyond those after the imports


def mutated(blob: bytes, rng: random.Random) -> bytes:
    """The file with one to four damages in the contents of its entries."""
    if not blob.startswith(b"PK"):
        return damaged(blob, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(blob)) as old, zipfile.ZipFile(out, "w") as new:
        names = [name for name in old.namelist() if name.endswith((".pkl", ".py", ".json", ".npy"))]
        hit = rng.choice(names)
        for name in old.namelist():
            new.writestr(name, damaged(old.read(name), rng) if name == hit else old.read(name))
    return out.getvalue()


def damaged(held: bytes, rng: random.Random) -> bytes:
    """A content with one to four bytes, words or stretches changed, doubled, swapped or lost."""
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(held) + 1), rng.choice((1, 1, 2, 5, 40))
        kind = rng.randrange(7)
        if kind == 0:
            held = held[:at] + bytes([rng.randrange(256)]) + held[at + 1 :]
        elif kind == 1:
            held = held[:at] + held[at + size :]
        elif kind == 2:
            held = held[: at + size] + held[at:]
        elif kind == 3:  # another memo slot, so that objects hold each other
            at = held.find(b"h", at)
            held = held[: at + 1] + bytes([rng.randrange(64)]) + held[at + 2 :] if at >= 0 else held
        elif kind == 4:
            held = held[:at] + rng.choice(WORDS) + held[at:]
        elif kind == 5:
            other = rng.randrange(len(held) + 1)
            held = held[:at] + held[other : other + size] + held[at + size :]
        else:
            held = (
                held[:at]
                + rng.choice((b"}b", b"]", b"N", b"(", b"t", b"R", b"\x81", b"0", b".", b"e", b"u"))
                + held[at:]
            )
    return held


def attempt(path: str) -> str:
    """``ok``, ``error``, or what went wrong."""
    import ckptkit

    try:
        for root in ("auto", "none"):
            with ckptkit.open(path, root) as checkpoint:
                for key, info in checkpoint.signature.tensors.items():
                    if info.kind == "tensor":
                        storage = checkpoint.source.view(key).storage
                        for _ in checkpoint.source.read(storage, 0, min(64, storage.nbytes)):
                            pass
        ckptkit.verify(path)
    except ckptkit.CkptkitError as error:
        return "error" if "\n" not in str(error) else f"a message of several lines: {error}"
    except BaseException as error:
        return f"foreign: {error!r}"[:300]
    return "ok"


def main() -> None:
    """Seeds from FIRST, until COUNT or SECONDS are used up."""
    kind, first, count, seconds, folder = (
        sys.argv[1],
        *map(int, sys.argv[2:4]),
        float(sys.argv[4]),
        sys.argv[5],
    )
    blob = sys.stdin.buffer.read()
    path = os.path.join(folder, "mutated.pt")
    with open(path, "wb") as file:
        file.write(blob)
    assert attempt(path) == "ok", attempt(path)  # everything is imported now
    for codec in (
        "unicode_escape",
        "raw_unicode_escape",
        "cp437",
    ):  # Python's own, which it imports when it needs them
        codecs.lookup(codec)
    broken: list[str] = []

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith(FORBIDDEN) or event == "import":
            broken.append(f"{event} {str(args)[:100]}")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    wrong: list[Any] = []
    end = time.monotonic() + seconds
    sys.addaudithook(audit)
    for seed in range(first, first + count):
        if time.monotonic() > end:
            break
        with open(path, "wb") as file:
            file.write(mutated(blob, random.Random(f"{kind} {seed}")))
        del broken[:]
        signal.setitimer(signal.ITIMER_REAL, 20)  # its default action ends the process
        outcome = attempt(path)
        signal.setitimer(signal.ITIMER_REAL, 0)
        outcomes[outcome if outcome in ("ok", "error") else "wrong"] += 1
        if broken or outcome not in ("ok", "error"):
            wrong.append([seed, outcome, broken[:3]])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"outcomes": outcomes, "wrong": wrong, "memory": grown > MOST and grown}))


if __name__ == "__main__":
    main()
