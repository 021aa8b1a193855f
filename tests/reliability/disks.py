"""A command on a disk that fails: ``python -m reliability.disks FAULT FOLDER SEED -- COMMAND...`` prints one JSON line.

``full``, ``inodes`` and ``readonly`` need ``unshare -rm`` around it: FOLDER becomes a small disk of its own, holding
what the folder SEED holds. ``quota`` limits how long a file may grow.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

BALLAST = "ballast"
OPTIONS = {"full": "size=512k", "inodes": "size=8m,nr_inodes=12", "readonly": "size=8m"}
QUOTA = 64  # bytes; every output is longer


def contents(folder: Path) -> dict[str, str]:
    """Each file below a folder with the hash of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def spoil(fault: str, folder: Path, seed: Path) -> None:
    """Make the disk of a fault."""
    if fault != "quota":
        subprocess.run(["mount", "-t", "tmpfs", "-o", OPTIONS[fault], "none", str(folder)], check=True)
    shutil.copytree(seed, folder, dirs_exist_ok=True)
    if fault == "full":
        with open(folder / BALLAST, "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
    elif fault == "inodes":
        try:
            for number in range(99):
                (folder / f"{BALLAST}{number}").touch()
        except OSError:
            pass
    elif fault == "readonly":
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def limit() -> None:
    """The quota, in the command's own process."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (QUOTA, QUOTA))


def main() -> None:
    fault, folder, seed = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    command = sys.argv[sys.argv.index("--") + 1 :]
    spoil(fault, folder, seed)
    before = contents(folder)
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        preexec_fn=limit if fault == "quota" else None,
        timeout=60,
    )
    after = contents(folder)
    print(json.dumps({"code": done.returncode, "err": done.stderr, "before": before, "after": after}))


if __name__ == "__main__":
    main()
