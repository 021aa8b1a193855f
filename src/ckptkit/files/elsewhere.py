"""What to do about a path that leads to no file here: addresses of the web, of stores, and names of the hub."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from itertools import islice

_TOOLS = {
    "s3": ("aws s3 cp {url} .", "aws s3 cp FILE {url}"),
    "gs": ("gcloud storage cp {url} .", "gcloud storage cp FILE {url}"),
    "hf": ("hf download {url}", "hf upload ORG/NAME FILE"),
}
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.")
_HUB = re.compile(
    r"(?:hf://|(?:https?://)?(?:www\.)?huggingface\.co/|(?:https?://)?hf\.co/)([\w.-]+/[\w.-]+?)(?:@([\w.-]+))?"
    r"(?:/(?:blob|resolve|tree)/([\w.-]+))?(?:/([^?#\s]*))?(?:\?.*)?"
)
_SITE = re.compile(r"(?:www\.[\w-]+(?:\.[\w-]+)+|[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|io|ai|dev|edu))/\S+")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MOST_NAMES = 5000  # of a folder, that are compared
_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".json", ".yaml", ".yml", ".toml", ".txt", ".log")


def where_instead(path: str) -> str | None:
    """What a path that does not exist seems to be, and how to get it, or where it was looked for; None when a file of
    another name is all that could be meant.

    Args:
        path: what was to be read.
    """
    hub = _HUB.fullmatch(path)
    if hub is not None:
        return f"it is an address of the Hugging Face hub; download it first: {_download(*hub.groups())}"
    address = _ADDRESS.match(path)
    if address is not None:
        scheme = address[1].lower()
        what = "of the web" if scheme in ("http", "https", "ftp") else f"({scheme})"
        how = {"http": "curl -L -O {url}", "https": "curl -L -O {url}", "ftp": "curl -O {url}"}.get(
            scheme, _TOOLS.get(scheme, ("",))[0]
        )
        first = f": {how.format(url=shlex.quote(path))}" if how else ""
        return f"it is an address {what}, and ckptkit reads files; download it first{first}"
    if _SITE.fullmatch(path) and not os.path.isdir(path.split("/", maxsplit=1)[0]):
        url = f"https://{path}"
        return f"if an address of the web is meant, download it first: curl -L -O {shlex.quote(url)}"
    if (
        _NAME.fullmatch(path)
        and not path.lower().endswith(_FILES)
        and not os.path.isdir(path.split("/", maxsplit=1)[0])
    ):
        return f"if a repository of the Hugging Face hub is meant, download it first: {_download(path)}"
    return _nearest(path)


def _nearest(path: str) -> str | None:
    """The file beside it that differs by letters alone: another number is another file."""
    folder, name = os.path.split(path)
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in islice(entries, _MOST_NAMES)]
        here = os.getcwd()
    except (OSError, ValueError):
        return f"there is no folder {folder} either" if folder else None
    alike = [each for each in names if re.findall(r"\d+", each) == re.findall(r"\d+", name)]
    stem = os.path.splitext(name[:200])[0]
    stems = {os.path.splitext(each)[0] for each in alike}
    near = difflib.get_close_matches(stem, sorted(stems), 3, 0.7)  # a suffix alone makes names alike
    alike = [each for each in alike if os.path.splitext(each)[0] in near]
    close = difflib.get_close_matches(name[:200], alike, 1, 0.7)
    if close:
        return f"did you mean {os.path.join(folder, close[0])}?"
    return None if folder else f"it was looked for in {here}"


def _download(
    name: str, revision: str | None = None, branch: str | None = None, file: str | None = None
) -> str:
    words = ["hf", "download", name, *([file.rstrip("/")] if file else [])]
    words += ["--revision", revision or branch or ""] if (revision or branch or "main") != "main" else []
    return f"{shlex.join(words)}, and give the {'file' if file else 'folder'} that it prints"


def not_writable(target: str) -> str | None:
    """What to do instead of writing to an address; None when it is a path."""
    address = _ADDRESS.match(target)
    if address is None or os.path.isdir(os.path.dirname(target)):
        return None
    _, upload = _TOOLS.get(address[1].lower(), ("", ""))
    how = f": {upload.format(url=shlex.quote(target))}" if upload else ""
    return f"it is an address, and ckptkit writes files; write one here and upload it{how}"
