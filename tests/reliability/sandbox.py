"""Untrusted cases, each in a forked process of its own that may do nothing but read.

``python -m reliability.sandbox FOLDER < cases.json`` writes one JSON line for each case ``[action, path]``. The parent
imports everything once; a child has an empty folder, a deadline, limits on what it allocates and writes, and a hook
on what Python audits: running programs, connections, imports of what is not loaded yet, files opened for writing.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .others import by_huggingface_hub, by_safetensors, by_torch

DEADLINE = 5  # seconds: G5
MOST = 200 << 20  # bytes beyond the process after its imports: G6
HARD = 1500 << 20  # where a child is stopped for good
_FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.",
              "shutil.", "ctypes.dlopen", "webbrowser.", "urllib.", "ftplib.", "os.remove", "os.rename", "os.rmdir",
              "os.mkdir", "os.chmod", "os.link", "os.symlink", "os.truncate", "pickle.find_class")  # fmt: skip
_OURS = ("ckptkit", "torch", "encodings", "safetensors", "numpy")


def read(path: str) -> Any:
    """Open, and touch every tensor; the keys with dtype, shape and a hash of their values."""
    import torch

    import ckptkit
    from ckptkit.formats.tensor_bytes import flat_bytes

    found: dict[str, Any] = {}
    with ckptkit.open(path) as checkpoint:
        for key, info in checkpoint.signature.tensors.items():
            if info.kind != "tensor":
                found[ascii(key)] = "object"
                checkpoint[key]
            elif info.nbytes > 1 << 28:
                found[ascii(key)] = "large"
            else:
                tensor = checkpoint[key].resolve_conj().resolve_neg()
                raw = (
                    bytes(flat_bytes(tensor.contiguous()).view(torch.uint8).numpy())
                    if tensor.numel()
                    else b""
                )
                found[ascii(key)] = [str(tensor.dtype), list(tensor.shape), hashlib.sha256(raw).hexdigest()]
        json.dumps(checkpoint.signature.to_json())
    return found


def keys(path: str) -> Any:
    """How many keys there are; for files that are large on purpose."""
    import ckptkit

    return len(ckptkit.signature(path))


def verify(path: str) -> Any:
    """The whole file: its outcome, and whether it says that it holds no state_dict."""
    import ckptkit

    report = ckptkit.verify(path)
    refused = any("the file is whole, but" in note for note in report.notes)
    return {"ok": report.ok, "outcome": report.outcome, "refused": refused}


def config(path: str) -> Any:
    """A config read, planned on a few keys and thrown away."""
    import ckptkit

    loaded = ckptkit.RemapConfig.from_file(path)
    signature = ckptkit.Signature(
        {k: ckptkit.TensorInfo((1,), "float32") for k in ("a.w", "b.w", "a" * 40 + "!")}
    )
    return len(ckptkit.plan(signature, loaded).outputs)


ACTIONS: dict[str, Callable[[str], Any]] = {
    "read": read,
    "keys": keys,
    "verify": verify,
    "config": config,
    "torch": by_torch,
    "safetensors": by_safetensors,
    "huggingface_hub": by_huggingface_hub,
}


def attempt(action: str, path: str) -> dict[str, Any]:
    """What came of one case."""
    import ckptkit

    try:
        return {"outcome": "ok", "value": ACTIONS[action](path)}
    except ckptkit.CkptkitError as error:
        words = str(error)
        return {
            "outcome": "error",
            "type": type(error).__name__,
            "message": words[:2000],
            "lines": words.count("\n") + 1,
        }
    except BaseException as error:
        return {"outcome": "foreign", "message": repr(error)[:500], "trace": traceback.format_exc()[-1500:]}


def child(action: str, path: str, folder: Path, out: int) -> None:
    """Carry one case out under the limits; never returns."""
    folder.mkdir()
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + HARD + (8 << 30), size + HARD + (8 << 30)))
    before = resident()
    signal.setitimer(
        signal.ITIMER_REAL, DEADLINE * (10 if action == "keys" else 1)
    )  # its default action ends the process
    broken: list[str] = []
    imported: list[str] = []

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            broken.append(f"{event} {str(args)[:200]}")
        elif event == "import" and args[0] not in sys.modules and args[0].split(".")[0] not in _OURS:
            imported.append(args[0].split(".")[0])
            if imported[-1] not in sys.stdlib_module_names:
                broken.append(f"import {args[0]}")
        elif (
            event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            broken.append(f"open for writing {args[0]!r}")

    sys.addaudithook(audit)
    result = attempt(action, path)
    signal.setitimer(signal.ITIMER_REAL, 0)
    result["memory"] = max(0, peak() - before)
    result["broken"], result["imported"] = broken, imported
    result["left"] = os.listdir(folder)
    os.write(out, json.dumps(result).encode())
    os._exit(0)


def resident() -> int:
    return _status("VmRSS")


def peak() -> int:
    return _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def run(action: str, path: str, folder: Path) -> dict[str, Any]:
    """One case in a child; how it ended when it did not answer."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(ours)
            child(action, path, folder, theirs)
        finally:
            os._exit(70)
    os.close(theirs)
    with os.fdopen(ours, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(pid, 0)
    if answer:
        return dict(json.loads(answer))
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return {"outcome": "hang" if number == signal.SIGALRM else f"killed by signal {number}"}
    return {"outcome": f"ended with {os.WEXITSTATUS(status)}"}


def main() -> None:
    folder = Path(sys.argv[1])
    sys.dont_write_bytecode = True  # a lazy import of our own would be an open for writing
    import torch

    torch.set_num_threads(1)
    import ckptkit
    import ckptkit.formats.dcp.source
    import ckptkit.formats.sharded
    import ckptkit.formats.signature_file
    import ckptkit.formats.torch_legacy
    import ckptkit.formats.torch_zip
    import ckptkit.verification.distributed

    ckptkit.RemapConfig(rules=[])
    import yaml  # noqa: F401

    with suppress(ImportError):
        import huggingface_hub.serialization  # noqa: F401

    for number, (action, path) in enumerate(json.load(sys.stdin)):
        result = run(action, path, folder / str(number))
        print(json.dumps({"action": action, "path": path, **result}), flush=True)


if __name__ == "__main__":
    main()
