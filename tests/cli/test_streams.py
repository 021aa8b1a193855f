"""Terminals, pipes, full disks and signals: what a command does with its streams."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ckptkit.__main__ import main
from ckptkit.cli.signals import Stopped, stop_politely

from .conftest import Shell, state

COMMAND = [sys.executable, "-m", "ckptkit"]


def on_a_terminal(
    folder: Path, *argv: str, env: dict[str, str] | None = None, keys: bytes = b""
) -> tuple[int, str]:
    """Run a command whose streams are all one terminal; `keys` are typed as soon as a file appears in `folder`."""
    before = len(os.listdir(folder))
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.chdir(folder)
        os.execvpe(
            COMMAND[0], [*COMMAND, *argv], {**os.environ, "TERM": "xterm", "COLUMNS": "100", **(env or {})}
        )
    if keys:
        until = time.monotonic() + 30
        while len(os.listdir(folder)) == before and time.monotonic() < until:
            time.sleep(0.001)
        os.write(terminal, keys)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_a_terminal_gets_colours_and_a_pipe_does_not(shell: Shell) -> None:
    code, shown = on_a_terminal(shell.folder, "inspect", "model.safetensors")
    assert code == 0
    assert "\x1b[36m[5, 4]" in shown
    assert "\x1b" not in shell("inspect", "model.safetensors").out


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_refused(shell: Shell, env: dict[str, str]) -> None:
    _, shown = on_a_terminal(shell.folder, "inspect", "model.safetensors", env=env)
    assert "\x1b[3" not in shown
    assert "module.layers.{0..2}.attn.q.weight  " in shown


def test_json_on_a_terminal_is_laid_out_and_the_same_document(shell: Shell) -> None:
    _, shown = on_a_terminal(shell.folder, "inspect", "model.safetensors", "--json")
    assert len(shown.splitlines()) > 10
    assert json.loads(shown) == shell("inspect", "model.safetensors", "--json").document


def test_a_dry_run_shows_the_same_on_a_terminal_and_in_a_pipe(shell: Shell) -> None:
    argv = ["remap", "model.safetensors", "--dry-run", "--strip-prefix", "module."]
    _, shown = on_a_terminal(shell.folder, *argv, env={"NO_COLOR": "1", "COLUMNS": "200"})
    plain = shell(*argv)
    words = shown.replace("\x1b[0m", "").replace("\x1b[1m", "").split()
    assert words == f"{plain.out}{plain.err}".split()


def test_ctrl_c_on_a_terminal_says_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(80_000_000)}, tmp_path / "a.pt")
    code, shown = on_a_terminal(tmp_path, "convert", "a.pt", "b.safetensors", keys=b"\x03")
    assert "Traceback" not in shown
    # It may be through before the key arrives, never half through.
    assert (code, os.listdir(tmp_path)) == (130, ["a.pt"]) or (
        code == 0 and "b.safetensors" in os.listdir(tmp_path)
    )
    assert code == 0 or "interrupted; nothing unfinished was left behind" in shown


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_full_disk_under_stdout_is_one_line_and_the_output_stays(shell: Shell, json_too: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [*COMMAND, "convert", "run.pt", "out.safetensors", *json_too],
            cwd=shell.folder,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ran.returncode == 2
    assert ran.stderr == (
        "error: standard output could not be written: No space left on device; "
        "out.safetensors itself is written and complete\n"
    )
    assert len(shell("inspect", "out.safetensors", "--json").document["tensors"]) == len(state())


def test_a_reader_that_went_away_is_met_in_silence(shell: Shell) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [*COMMAND, "convert", "run.pt", "out.safetensors"],
        cwd=shell.folder,
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (2, b"")
    assert "out.safetensors" in shell.files()


def test_a_closed_stdout_does_not_end_up_in_the_file_that_is_opened_first(shell: Shell) -> None:
    script = f'"{sys.executable}" -m ckptkit convert run.pt out.safetensors >&-'
    assert subprocess.run(["sh", "-c", script], cwd=shell.folder, capture_output=True).returncode == 0
    assert len(shell("inspect", "out.safetensors", "--json").document["tensors"]) == len(state())


def test_an_encoding_without_the_letters_of_a_key_escapes_them(tmp_path: Path) -> None:
    torch.save({"模型.weight": torch.ones(1)}, tmp_path / "a.pt")
    ran = Shell(tmp_path).process("inspect", "a.pt", env={"PYTHONIOENCODING": "ascii"})
    assert ran.code == 0
    assert "\\u6a21\\u578b.weight  [1]  float32" in ran.out


def test_figures_that_are_no_numbers_are_strings_in_json(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([float("nan"), 1.0])}, tmp_path / "a.pt")
    shell = Shell(tmp_path)
    figures = shell("inspect", "a.pt", "--stats", "--json").document["tensors"][0]["stats"]
    assert figures == {"min": 1.0, "max": 1.0, "mean": 1.0, "std": "nan", "nan": 1, "inf": 0}
    assert shell("inspect", "a.pt", "--stats").out.splitlines()[3].split() == [
        "a", "[2]", "float32", "1", "1", "1", "nan", "1", "0",
    ]  # fmt: skip


def test_what_a_model_prints_does_not_get_into_the_document(shell: Shell) -> None:
    (shell.folder / "noisy.py").write_text(
        "import torch\nprint('importing')\n\ndef build():\n    print('building')\n    return torch.nn.Linear(2, 2)\n"
    )
    ran = shell.process("remap", "run.pt", "--dry-run", "--json", "--model", "noisy:build")
    assert ran.code == 1
    assert ran.document["fit"]["missing"] == ["weight", "bias"]
    assert ran.err == "importing\nbuilding\n"


def test_handlers_before_come_back_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    term = signal.getsignal(signal.SIGTERM)
    try:
        with stop_politely():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != term
        assert signal.getsignal(signal.SIGTERM) == term
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_right_after_the_first_does_not_stop_the_cleaning_up() -> None:
    cleaned = False
    with pytest.raises(Stopped) as caught, stop_politely():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned = True
    assert cleaned
    assert caught.value.number == signal.SIGTERM


def test_main_can_be_called_from_python(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(shell.folder / "run.pt"), "--key", "*.step"]) == 0
    assert "module.step  []  int64" in capsys.readouterr().out
    assert main(["inspect", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["type"] == "UsageError"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_signal_while_pydantic_itself_checks_values_is_asked_again_later() -> None:
    """G21: its compiled code prints an exception that comes while it shows a value, and goes on."""
    there = {"__name__": "pydantic.main", "kill": os.kill, "me": os.getpid(), "number": signal.SIGTERM}
    with pytest.raises(Stopped), stop_politely():
        exec("kill(me, number); passed = True", there)
        time.sleep(10)
    assert there["passed"]
