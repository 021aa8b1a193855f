"""Commands as a user runs them: what they print, what they write, how they exit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import ckptkit

from .conftest import Shell, state

INSPECT = """\
model.safetensors: safetensors
metadata: format=pt

module.embed.weight                 [5, 4]  float32
module.layers.{0..2}.attn.q.weight  [4, 4]  float32  x3
module.layers.{0..2}.attn.k.weight  [4, 4]  float32  x3
module.step                         []      int64
module.head.weight                  [5, 4]  float32

tied, one tensor under several keys:
  module.embed.weight = module.head.weight
9 tensors, 117 parameters, 472 B (tied ones counted once)
  float32  8 tensors  116 parameters  464 B
  int64     1 tensor     1 parameter    8 B
"""


def test_inspect_folds_blocks_and_shows_ties_and_totals(shell: Shell) -> None:
    ran = shell("inspect", "model.safetensors")
    assert (ran.code, ran.out, ran.err) == (0, INSPECT, "")


def test_inspect_json_is_a_signature_that_can_be_inspected_again(shell: Shell) -> None:
    ran = shell("inspect", "run.pt", "--json")
    assert ran.document["format"] == "ckptkit.signature"
    assert ran.document["root"] == "state_dict"
    (shell.folder / "sig.json").write_text(ran.out)
    again = shell("inspect", "sig.json", "--json")
    assert again.document["tensors"] == ran.document["tensors"]
    assert again.document["tied"] == [["module.embed.weight", "module.head.weight"]]


def test_inspect_shows_only_the_keys_asked_for_and_refuses_patterns_without_a_match(shell: Shell) -> None:
    ran = shell("inspect", "model.safetensors", "--key", "*.q.weight", "--json")
    assert [t["key"] for t in ran.document["tensors"]] == [
        f"module.layers.{i}.attn.q.weight" for i in range(3)
    ]
    ran = shell("inspect", "model.safetensors", "--key", "*.qq.weight")
    assert ran.code == 2
    assert "--key '*.qq.weight' matches no key; the nearest keys are" in ran.err


TORCHS_WORDS = 'Missing key(s) in state_dict: "a.weight". Unexpected key(s) in state_dict: "module.a.weight".'


@pytest.mark.parametrize(
    "command", [["inspect", "model.safetensors"], ["inspect", "run.pt"], ["explain", TORCHS_WORDS]]
)
def test_inspect_and_explain_import_neither_torch_nor_pydantic(shell: Shell, command: list[str]) -> None:
    code = (
        "import sys; from ckptkit.__main__ import main; code = main(sys.argv[1:]); "
        "names = ('torch', 'pydantic', 'numpy', 'safetensors', 'rich'); "
        "print([m for m in names if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=shell.folder, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_remap_applies_short_forms_in_the_order_written(shell: Shell) -> None:
    ran = shell(
        "remap", "model.safetensors", "out.safetensors",
        "--strip-prefix", "module.", "--rename", r"^layers\.", "blocks.", "--drop", "step", "--add-prefix", "net.",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.out.startswith("wrote out.safetensors  ")
    with ckptkit.open(shell.folder / "out.safetensors") as back:
        assert sorted(back) == sorted(
            ["net.embed.weight", "net.head.weight"]
            + [f"net.blocks.{i}.attn.{n}.weight" for i in range(3) for n in ("q", "k")]
        )
        assert back.signature.tied == (("net.embed.weight", "net.head.weight"),)


def test_a_config_comes_before_the_short_forms(shell: Shell) -> None:
    (shell.folder / "r.yaml").write_text("rules:\n  - {op: strip_prefix, prefix: module.}\n")
    ran = shell(
        "remap", "model.safetensors", "--config", "r.yaml", "--add-prefix", "x.", "--dry-run", "--json"
    )
    assert ran.document["format"] == "ckptkit.plan"
    assert ran.document["outputs"][0] == {
        "key": "x.embed.weight",
        "shape": [5, 4],
        "dtype": "float32",
        "expr": {"read": "module.embed.weight"},
        "rules": [0, 1],
    }
    assert shell.files() == ["model.safetensors", "r.yaml", "run.pt"]


def test_remap_keeps_what_surrounds_the_root_unless_told_not_to(shell: Shell) -> None:
    assert shell("remap", "run.pt", "a.pt", "--strip-prefix", "module.").code == 0
    assert torch.load(shell.folder / "a.pt", weights_only=True)["epoch"] == 3
    ran = shell("remap", "run.pt", "b.pt", "--strip-prefix", "module.", "--root-only", "--json")
    assert ran.document["format"] == "ckptkit.written"
    assert ran.document["left_out"] == ["epoch"]
    assert "embed.weight" in torch.load(shell.folder / "b.pt", weights_only=True)


def test_convert_writes_shards_with_an_index(shell: Shell) -> None:
    ran = shell("convert", "run.pt", "folder", "--max-shard-size", "200B", "--json")
    assert ran.code == 0, ran.err
    assert "model.safetensors.index.json" in os.listdir(shell.folder / "folder")
    with ckptkit.open(shell.folder / "folder") as back:
        assert torch.equal(back["module.head.weight"], state()["module.head.weight"])


def test_in_place_replaces_the_source(shell: Shell) -> None:
    assert shell("remap", "run.pt", "--in-place", "--strip-prefix", "module.").code == 0
    loaded = torch.load(shell.folder / "run.pt", weights_only=True)
    assert loaded["epoch"] == 3
    assert "embed.weight" in loaded["state_dict"]
    os.link(shell.folder / "run.pt", shell.folder / "second-name.pt")
    ran = shell("remap", "run.pt", "--in-place", "--add-prefix", "x.")
    assert ran.code == 2
    assert "several names (hard links)" in ran.err


def test_a_result_that_does_not_fit_is_exit_1_and_nothing_is_written(shell: Shell) -> None:
    ran = shell("remap", "model.safetensors", "out.pt", "--add-prefix", "x.", "--like", "run.pt")
    assert ran.code == 1
    assert "the result does not fit run.pt" in ran.out
    assert "out.pt" not in shell.files()
    assert shell("convert", "model.safetensors", "out.pt", "--like", "run.pt").code == 0


def test_a_model_is_built_on_the_meta_device_from_the_current_folder(shell: Shell) -> None:
    (shell.folder / "nets.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.a = torch.nn.Linear(2, 2)\n        assert self.a.weight.is_meta\n"
    )
    torch.save({"a.weight": torch.ones(2, 2), "a.bias": torch.ones(2)}, shell.folder / "net.pt")
    assert shell.process("convert", "net.pt", "net.safetensors", "--model", "nets:Net").code == 0
    ran = shell.process("convert", "net.pt", "n2.safetensors", "--model", "nets:Nett")
    assert (ran.code, ran.err) == (2, "error: --model nets:Nett: nets has no 'Nett'; check the name\n")


MISTAKES = {
    "missing": (["inspect", "nope.pt"], "nope.pt: does not exist"),
    "exists": (
        ["convert", "run.pt", "model.safetensors"],
        "model.safetensors: exists already; choose another target",
    ),
    "same": (["remap", "run.pt", "run.pt", "--overwrite"], "run.pt is the source itself"),
    "suffix": (["convert", "run.pt", "x.h5"], "the suffix '.h5' stands for no format"),
    "nowhere": (["remap", "run.pt", "--drop", "*"], "where to? give DST, or --in-place"),
    "both": (["remap", "run.pt", "x.pt", "--in-place"], "--in-place replaces SRC, so it takes no DST"),
    "regex": (
        ["remap", "run.pt", "x.pt", "--rename", "(", "x"],
        "--rename '(' x: the regular expression '(' is malformed",
    ),
    "large": (
        ["remap", "run.pt", "x.pt", "--rename", "(a{999}){999}", "x"],
        "is too large or too deeply nested",
    ),
    "collision": (
        ["remap", "run.pt", "x.pt", "--rename", "[qk]", "x"],
        "would both become 'module.layers.0.attn.x.weight'",
    ),
    "nothing": (
        ["remap", "run.pt", "x.pt", "--strip-prefix", "modul_"],
        "--strip-prefix modul_: it touches no key (prefix: 'modul_'); the nearest keys",
    ),
    "size": (["convert", "run.pt", "d", "--max-shard-size", "5 potatoes"], "'5 potatoes' is no size"),
    "root": (["inspect", "run.pt", "--root", "sate_dict"], "sate_dict"),
    "command": (["inspekt"], "there is no command 'inspekt' (did you mean inspect?)"),
    "schema": (["schema", "remapp"], "there is no config 'remapp'; known are remap"),
    "lfs": (["inspect", "lfs.safetensors"], "is a Git LFS pointer; the real file was never fetched"),
    "html": (["inspect", "page.pt"], "is an HTML page"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line_and_exit_2_and_writes_nothing(shell: Shell, name: str) -> None:
    (shell.folder / "lfs.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    )
    (shell.folder / "page.pt").write_text("<!DOCTYPE html><html>404</html>")
    before = {p.name: p.read_bytes() for p in shell.folder.iterdir()}
    argv, words = MISTAKES[name]
    ran = shell(*argv)
    assert ran.code == 2
    assert words in ran.err
    assert ran.err.startswith("error: ")
    assert ran.out == ""
    told = shell(*argv, "--json")
    assert told.code == 2
    assert words in told.document["message"]
    assert told.document["format"] == "ckptkit.error"
    assert {p.name: p.read_bytes() for p in shell.folder.iterdir()} == before


def test_all_problems_of_a_config_are_told_at_once_with_their_places(shell: Shell) -> None:
    (shell.folder / "r.yaml").write_text(
        "rules:\n  - {op: strip_prefx, prefix: a}\n  - {op: drop, kees: [x]}\nroots: a\n"
    )
    ran = shell("remap", "run.pt", "x.pt", "--config", "r.yaml", "--json")
    assert [p["location"] for p in ran.document["problems"]] == [
        "rules.0.op",
        "rules.1.keys",
        "rules.1.kees",
        "roots",
    ]
    assert "did you mean 'strip_prefix'?" in ran.document["message"]


def test_keys_cannot_attack_the_terminal(tmp_path: Path) -> None:
    torch.save({"a\x1b[2Jb": torch.ones(1), "\u202eevil": torch.ones(1)}, tmp_path / "a.pt")
    ran = Shell(tmp_path)("inspect", "a.pt")
    assert "\x1b" not in ran.out
    assert "\u202e" not in ran.out
    assert "a\\x1b[2Jb" in ran.out
    ran = Shell(tmp_path)("remap", "a.pt", "b.pt", "--rename", ".*", "x")
    assert "\x1b" not in ran.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path, number: int, code: int) -> None:
    torch.save({"a": torch.zeros(60_000_000)}, tmp_path / "a.pt")
    process = subprocess.Popen(
        [sys.executable, "-m", "ckptkit", "convert", "a.pt", "b.safetensors"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    while len(os.listdir(tmp_path)) == 1 and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    assert process.returncode in (code, 0)
    assert os.listdir(tmp_path) in (["a.pt"], ["b.safetensors", "a.pt"], ["a.pt", "b.safetensors"])
    assert (process.returncode == 0) == ("b.safetensors" in os.listdir(tmp_path))


def test_in_place_refuses_what_it_cannot_rewrite_and_says_when_the_format_changes(shell: Shell) -> None:
    source = (shell.folder / "model.safetensors").read_bytes()
    (shell.folder / "odd.bin").write_bytes(source)
    (shell.folder / "noext").write_bytes(source)
    ran = shell("remap", "odd.bin", "--in-place", "--strip-prefix", "module.")
    assert "odd.bin was safetensors and is torch zip now" in ran.err
    ran = shell("remap", "noext", "--in-place", "--strip-prefix", "module.")
    assert (ran.code, (shell.folder / "noext").read_bytes()) == (2, source)
    assert "noext: has no suffix to say in which format to rewrite it" in ran.err
    assert shell("convert", "model.safetensors", "shards", "--max-shard-size", "200B").code == 0
    ran = shell("remap", "shards/model.safetensors.index.json", "--in-place", "--strip-prefix", "module.")
    assert (ran.code, "give the folder that holds them" in ran.err) == (2, True)


DRY = {
    "exists": (["model.safetensors"], "model.safetensors: exists already"),
    "same": (["run.pt", "--overwrite"], "run.pt is the source itself"),
    "suffix": (["x.h5"], "the suffix '.h5' stands for no format"),
    "shards": (["x.pt", "--max-shard-size", "1GB"], "a single file is never sharded"),
}


@pytest.mark.parametrize("name", DRY)
def test_a_dry_run_shows_the_plan_and_what_would_stop_it(shell: Shell, name: str) -> None:
    argv, words = DRY[name]
    before = {p.name: p.read_bytes() for p in shell.folder.iterdir()}
    ran = shell("remap", "run.pt", *argv, "--strip-prefix", "module.", "--dry-run")
    assert ran.code == 2
    assert "rule 0 strip_prefix: touches 9 keys" in ran.out
    assert words in ran.err
    told = shell("remap", "run.pt", *argv, "--strip-prefix", "module.", "--dry-run", "--json")
    assert words in told.document["message"]
    assert {p.name: p.read_bytes() for p in shell.folder.iterdir()} == before


def test_a_dry_run_finds_what_the_format_of_the_target_cannot_hold(tmp_path: Path) -> None:
    torch.save({"c": torch.ones(1, dtype=torch.complex128)}, tmp_path / "c.pt")
    ran = Shell(tmp_path)("remap", "c.pt", "c.safetensors", "--add-prefix", "x.", "--dry-run")
    assert ran.code == 2
    assert "safetensors has no complex128, the dtype of 'x.c'" in ran.err


def test_several_keeps_in_a_row_are_one_rule_and_errors_name_the_options(shell: Shell) -> None:
    argv = ["remap", "run.pt", "--keep", "*.step", "--keep", "*.head.*", "--dry-run", "--json"]
    assert [o["key"] for o in shell(*argv).document["outputs"]] == ["module.step", "module.head.weight"]
    (shell.folder / "r.yaml").write_text("rules:\n  - {op: strip_prefix, prefix: module.}\n")
    ran = shell("remap", "run.pt", "--config", "r.yaml", "--drop", "stepp", "--dry-run")
    assert ran.err.startswith(
        "error: --drop stepp: the pattern 'stepp' matches no key; the nearest keys are 'step'"
    )
    (shell.folder / "r.yaml").write_text("rules:\n  - {op: strip_prefix, prefix: modul_}\n")
    ran = shell("remap", "run.pt", "--config", "r.yaml", "--drop", "*.step", "--dry-run")
    assert ran.err.startswith("error: rules.0 (strip_prefix): it touches no key")


def test_a_pattern_that_backtracks_is_stopped(tmp_path: Path) -> None:
    torch.save({"a" * 3000: torch.ones(1)}, tmp_path / "a.pt")
    shell = Shell(tmp_path)
    for argv in (
        ["inspect", "a.pt", "--key", "re:(?:(?:a|aa)+)+[bc]"],
        ["remap", "a.pt", "--dry-run", "--rename", "(?:(?:a|aa)+)+[bc]", "x"],
    ):
        ran = shell.process(*argv)
        assert ran.code == 2
        assert "was still at work after 1 s of processor time on the key" in ran.err


def test_a_model_is_built_without_the_compiler_that_random_numbers_on_meta_bring(shell: Shell) -> None:
    (shell.folder / "nets.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.embed = torch.nn.Embedding(4, 2)\n"
        "        self.own = torch.nn.Parameter(torch.empty(3).normal_())\n"
        "        torch.nn.init.trunc_normal_(self.own)\n"
        "        torch.nn.init.constant_(self.own, 1.0)\n"
    )
    ckptkit.save({"embed.weight": torch.ones(4, 2), "own": torch.ones(3)}, shell.folder / "net.safetensors")
    code = (
        "import sys; from ckptkit.__main__ import main\n"
        "code = main(['check', 'net.safetensors', '--model', 'nets:Net'])\n"
        "assert not code, code\n"
        "assert 'torch' in sys.modules\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=shell.folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


HTML = {
    "inspect": ["inspect", "model.safetensors"],
    "remap": ["remap", "model.safetensors", "out.safetensors", "--strip-prefix", "module."],
    "dry run": ["remap", "model.safetensors", "--dry-run", "--rename", "layers", "<b>&"],
    "diff": ["diff", "model.safetensors", "run.pt"],
    "check": ["check", "model.safetensors", "--like", "run.pt"],
    "infer": ["infer", "model.safetensors", "run.pt"],
}


@pytest.mark.parametrize("name", HTML)
def test_a_page_shows_what_the_command_shows_and_runs_nothing(shell: Shell, name: str) -> None:
    ran = shell(*HTML[name], "--html", "page.html")
    assert ran.code in (0, 1)
    page = (shell.folder / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert "<b>" not in page
    again = shell(*HTML[name], "--html", "page.html", "--json", *(["--overwrite"] if name == "remap" else []))
    assert again.document["format"].startswith("ckptkit.")
    assert (shell.folder / "page.html").read_text(encoding="utf-8") == page


def test_a_page_never_replaces_a_file_that_is_no_page(shell: Shell) -> None:
    before = (shell.folder / "run.pt").read_bytes()
    ran = shell("inspect", "model.safetensors", "--html", "run.pt")
    assert ran.code == 2
    assert "run.pt" in ran.err
    assert (shell.folder / "run.pt").read_bytes() == before
