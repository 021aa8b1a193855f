"""The pages say what happens: every example runs, every shown output and every key table is compared.

How a page is read, from top to bottom, in a folder of its own with the files of `make_files`:

- a block ``yaml NAME`` (or json, toml) is written to the file NAME and must be a valid config, of the kind that the
  name contains (``freeze.yaml``; a RemapConfig when it contains none);
- ``python`` blocks share one namespace; a ``text`` block right after one is what it prints;
- in ``console`` blocks a line ``$ ckptkit ...`` is run, the lines below are its output, and
  ``$ echo $?`` is the exit code; in all output ``...`` stands for any text;
- a table ``| before | after |`` below a block with rules says what becomes of each key.

``UPDATE_DOCS=1 pytest tests/test_docs.py`` writes the outputs of today into the pages, to be read before committing.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file

import ckptkit
from ckptkit.__main__ import main
from ckptkit.config.schemas import CONFIGS
from ckptkit.plans import make_plan
from ckptkit.rules import AnyRule

REPO = Path(__file__).parent.parent
GENERATED = {"cli.md", "performance.md"}  # kept true by tests of their own
PAGES = [REPO / "README.md", *sorted(p for p in (REPO / "docs").glob("*.md") if p.name not in GENERATED)]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"\s*\| before[^\n]*\| after[^\n]*\|\n\|[-| ]+\|\n((?:\|[^\n]*\|\n)+)")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)")


class Net(torch.nn.Module):
    """The model of the README."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(8, 16)
        self.head = torch.nn.Linear(16, 4)


def make_files(folder: Path) -> None:
    """The checkpoints that the pages speak of."""
    torch.manual_seed(0)
    wrapped = {f"module._orig_mod.{k}": v for k, v in Net().state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, folder / "run.pt")
    net = Net().state_dict()
    moments = {i: {"exp_avg": torch.zeros_like(v)} for i, v in enumerate(net.values())}
    lightning = {
        "epoch": 9,
        "state_dict": {f"model.{k}": v for k, v in net.items()},
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 0.1, "params": [0, 1, 2, 3]}]}],
        "hyper_parameters": Namespace(lr=0.1),
    }
    torch.save(lightning, folder / "last.ckpt")
    with pytest.raises(RuntimeError) as failed:
        Net().load_state_dict(wrapped)
    (folder / "error.txt").write_text(f"RuntimeError: {failed.value}\n", encoding="utf-8")
    own = {
        "model": lightning["state_dict"],
        "optimizer": {"state": moments, "param_groups": [{"lr": 0.1, "params": [0, 1, 2, 3]}]},
        "epoch": 9,
    }
    torch.save(own, folder / "train.pt")
    ema = {"state_dict": net, "state_dict_ema": {k: v * 0.9 for k, v in net.items()}, "epoch": 9}
    torch.save(ema, folder / "ema.pt")
    gpt = {"embed.weight": torch.randn(32, 8)}
    for i in range(4):
        gpt |= {f"layers.{i}.attn.{n}.weight": torch.randn(8, 8) for n in "qkv"}
        gpt[f"layers.{i}.norm.weight"] = torch.ones(8)
    gpt["head.weight"] = torch.randn(32, 8)
    save_file(gpt, folder / "gpt.safetensors", metadata={"format": "pt"})
    moe = {"embed.weight": torch.randn(16, 4)}
    for layer in range(2):
        at = f"layers.{layer}.block_sparse_moe"
        moe[f"{at}.gate.weight"] = torch.randn(3, 4)
        for expert in range(3):
            moe |= {f"{at}.experts.{expert}.{n}.weight": torch.randn(6, 4) for n in ("w1", "w3")}
            moe[f"{at}.experts.{expert}.w2.weight"] = torch.randn(4, 6)
    save_file(moe, folder / "moe.safetensors", metadata={"format": "pt"})
    conv = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 4, 3))
    torch.save(conv.state_dict(), folder / "conv.pth")
    towers = {
        f"{n}.{k}": v for n in ("student", "teacher") for k, v in torch.nn.Linear(4, 4).state_dict().items()
    }
    torch.save(towers, folder / "towers.pth")
    weight = torch.randn(32, 8)
    torch.save(
        {"embed.weight": weight, "norm.weight": torch.ones(8), "head.weight": weight}, folder / "tied.pt"
    )
    (folder / "my-model").mkdir()
    save_file(gpt, folder / "my-model" / "model.safetensors", metadata={"format": "pt"})
    (folder / "my-model" / "config.json").write_text('{"model_type": "gpt"}\n')
    (folder / "my-model" / "tokenizer.json").write_text("{}\n")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the rest of its first line, its text and where that begins, and what follows."""

    language: str
    name: str
    text: str
    start: int
    line: int
    after: str


@dataclass(frozen=True)
class Shown:
    """An output that a page shows, where it begins in the page (-1: nowhere), and what was really printed."""

    where: str
    start: int
    wanted: str
    got: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(m[1], m[2].strip(), m[3], m.start(3), text.count("\n", 0, m.start()) + 1, text[m.end() + 1 :])
        for m in FENCE.finditer(text)
    ]


def same_text(wanted: str, got: str) -> bool:
    got = "\n".join(line.rstrip() for line in got.strip().splitlines()) + "\n"
    wanted = "\n".join(line.rstrip() for line in wanted.strip().splitlines()) + "\n"
    return doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS)


def commands(text: str) -> Iterator[tuple[str, int, str]]:
    """The commands of a console block, each with the output below it and where that begins."""
    for match in re.finditer(r"^\$ ((?:.*\\\n)*.*\n)((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
        yield match[1].replace("\\\n", " ").strip(), match.start(2), match[2]


def run_command(command: str, last: int) -> tuple[int, str]:
    """Exit code and output of one line of a console block."""
    words = shlex.split(command, comments=True)
    if words == ["echo", "$?"]:
        return last, f"{last}\n"
    if words[0] == "ls":
        return 0, "\n".join(sorted(p.name for p in Path(words[1]).iterdir())) + "\n"
    if words[:3] == ["python", "-m", "ckptkit"]:
        words = ["ckptkit", *words[3:]]
    assert words[0] == "ckptkit", f"this test cannot run {command!r}"
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = main(words[1:])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return int(code or 0), out.getvalue()


def rules_of(block: Block) -> Any:
    """The config in a block, or the list of rules in it; None when it holds neither."""
    import yaml

    if block.language != "yaml":
        return None
    document = yaml.safe_load(block.text)
    if isinstance(document, list):
        document = {"rules": document}
    return document if isinstance(document, dict) and "rules" in document else None


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_files(folder)
    return folder


def replay(page: Path) -> Iterator[Shown]:
    """Run everything that a page tells its reader to run, in the current folder."""
    namespace: dict[str, Any] = {"Net": Net, "torch": torch}
    code = 0
    every = blocks(page)
    for block, following in zip_longest(every, every[1:]):
        where = f"{page.name}:{block.line}"
        if block.name and block.language in ("yaml", "json", "toml"):
            Path(block.name).write_text(block.text, encoding="utf-8")
            kind = next((name for name in CONFIGS if name in block.name), "remap")
            CONFIGS[kind].from_file(block.name)
        elif block.language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(block.text, where, "exec"), namespace)
            if following is not None and block.after.lstrip().startswith("```text"):
                yield Shown(where, following.start, following.text, out.getvalue())
            else:
                yield Shown(where, -1, "", out.getvalue())
        elif block.language == "console":
            for command, start, wanted in commands(block.text):
                code, got = run_command(command, code)
                yield Shown(f"{where}: $ {command}", block.start + start, wanted, got)


def update(page: Path, wrong: list[Shown]) -> None:
    """Put what was printed in the place of what a page shows."""
    text = page.read_text(encoding="utf-8")
    for shown in sorted(wrong, key=lambda s: -s.start):
        assert shown.start >= 0, f"{shown.where} prints, and no text block follows it: {shown.got}"
        lines = [f"{line.rstrip()}\n" for line in shown.got.strip().splitlines()]
        text = text[: shown.start] + "".join(lines) + text[shown.start + len(shown.wanted) :]
    page.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_example_of_a_page_runs_and_shows_what_it_prints(
    page: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    wrong = [shown for shown in replay(page) if not same_text(shown.wanted, shown.got)]
    if wrong and os.environ.get("UPDATE_DOCS"):
        update(page, wrong)
    else:
        assert not wrong, "\n".join(f"{s.where}\n{s.got}" for s in wrong)


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").replace("\\|", "\0").split("|")]


def keys_in(cell: str) -> list[tuple[str, ckptkit.TensorInfo]]:
    """What each `key` of a table cell holds: float32 and shape [2] where the cell does not say otherwise."""
    found = re.finditer(r"`([^`]+)`(?: \[([\d, ]*)\])?(?: (\w+))?", cell)
    return [
        (m[1], ckptkit.TensorInfo(tuple(map(int, m[2].split(","))) if m[2] else (2,), m[3] or "float32"))
        for m in found
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_key_tables_say_what_the_rules_above_them_do(page: Path) -> None:
    checked = 0
    for block in blocks(page):
        table = TABLE.match(block.after)
        document = rules_of(block)
        if document is None:
            continue
        config = (
            ckptkit.RemapConfig
            if set(document) <= set(ckptkit.RemapConfig.model_fields)
            else ckptkit.LoadConfig
        ).parse(document)
        if table is None:
            continue
        checked += 1
        rows = [cells(row) for row in table[1].splitlines()]
        source = {key: info for row in rows for key, info in keys_in(row[0])}
        plan = make_plan(ckptkit.Signature(source), config)
        made: dict[tuple[str, ...], list[tuple[str, ckptkit.TensorInfo]]] = {}
        for output in plan.outputs:
            made.setdefault(output.expr.reads(), []).append((output.key, output.info))
        for row in rows:
            before = tuple(key for key, _ in keys_in(row[0]))
            assert made.get(before, []) == keys_in(row[1]), f"{page.name}:{block.line}: {before}"
    assert checked == page.read_text(encoding="utf-8").count("| before | after |")


def test_every_rule_and_every_field_of_it_stands_in_the_reference() -> None:
    text = (REPO / "docs" / "rules.md").read_text(encoding="utf-8")
    sections = {
        m[1]: m[2] for m in re.finditer(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    }
    rules = {rule.model_fields["op"].default: rule for rule in get_args(get_args(AnyRule)[0])}
    assert set(sections) == set(rules)
    for op, rule in rules.items():
        named = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", sections[op], re.MULTILINE)
        fields = {field for cell in named for field in re.findall(r"`(\w+)`", cell)}
        assert fields == set(rule.model_fields) - {"op", "required", "allow_literal"}, op
        assert "| before | after |" in sections[op], f"{op} has no keys before and after"


def test_the_readme_shows_the_error_that_its_checkpoint_causes(files: Path) -> None:
    shown = next(b.text for b in blocks(REPO / "README.md") if "Error(s) in loading state_dict" in b.text)
    state = torch.load(files / "run.pt", weights_only=True)["state_dict"]
    with pytest.raises(RuntimeError) as caught:
        Net().load_state_dict(state)
    message = " ".join(f"RuntimeError: {caught.value}".split())
    assert same_text(" ".join(shown.split()), message)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        there = (page.parent / target) if target else page
        assert there.exists(), f"{page.name}: no {target}"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{page.name}: no #{anchor} in {there.name}"


def test_the_index_names_every_page() -> None:
    index = (REPO / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (REPO / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name
