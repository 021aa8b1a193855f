"""What the figures were measured on, without the machine's name."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe(folder: Path) -> list[tuple[str, str]]:
    """Pairs of a property and its value; the file system is the one that holds `folder`."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "safetensors"))
    return [
        ("processor", f"{processor()}, {os.cpu_count()} cores"),
        ("memory", f"{pages / 2**30:.0f} GiB"),
        ("system", f"{platform.system()} {platform.release().partition('-')[0]}"),
        ("file system", file_system(folder)),
        ("Python", platform.python_version()),
        ("packages", packages),
    ]


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def file_system(folder: Path) -> str:
    """Type of the file system that holds `folder`: that of the longest mount point above it."""
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return kind
    for line in mounts:
        _, point, this, *_ = line.split()
        if folder.resolve().is_relative_to(point) and len(point) >= len(best):
            best, kind = point, this
    return kind
