"""Rewriting in place: what is replaced is what was read, whoever else writes there meanwhile: G20, G24."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ckptkit
from ckptkit.cli import write as command
from ckptkit.files import claims, locks
from ckptkit.files.atomic import is_temporary
from ckptkit.files.claims import Claim

from ..cli.conftest import Ran, Shell

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks, no exchange")
KINDS = ("m.safetensors", "m.pt", "shards", "bins")
RENAME = ("--rename", "^w", "v")
STATE = {f"w{n}": torch.full((64,), float(n)) for n in range(4)}


def make(place: Path, value: float = 0.0) -> None:
    """A checkpoint in one of the kinds that can be rewritten in place."""
    state = {key: tensor + value for key, tensor in STATE.items()}
    if place.name == "bins":
        place.mkdir(exist_ok=True)
        names = {key: f"pytorch_model-{n:05d}-of-{len(state):05d}.bin" for n, key in enumerate(state, 1)}
        for key, name in names.items():
            torch.save({key: state[key]}, place / name)
        (place / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
        (place / "config.json").write_text("{}")
    elif place.suffix == ".pt":
        torch.save(state, place)
    elif place.suffix:
        save_file(state, place)
    else:
        ckptkit.save(state, place, max_shard_size=300)
        (place / "config.json").write_text("{}")


def content(place: Path) -> dict[str, bytes]:
    if not place.exists():
        return {}
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    return {str(file.relative_to(place.parent)): file.read_bytes() for file in files}


def weights(place: Path) -> Path:
    """A file of it that holds tensors."""
    return (
        place if place.is_file() else min(p for p in place.glob("*") if p.suffix in (".bin", ".safetensors"))
    )


# What a trainer does to a checkpoint, or to a file of it.
def replaces(place: Path) -> None:
    file = weights(place)
    new = file.with_name("trainer.tmp")
    new.write_bytes(bytes(reversed(file.read_bytes())))
    os.replace(new, file)


def rewrites(place: Path) -> None:
    file = weights(place)
    data = file.read_bytes()
    with file.open("r+b") as opened:
        opened.write(data[:-1] + bytes([data[-1] ^ 1]))


def rewrites_and_sets_the_time_back(place: Path) -> None:
    status = weights(place).stat()
    rewrites(place)
    os.utime(weights(place), ns=(status.st_atime_ns, status.st_mtime_ns))


def truncates(place: Path) -> None:
    weights(place).write_bytes(b"half")


def removes(place: Path) -> None:
    weights(place).unlink()


def moves_all_of_it(place: Path) -> None:
    aside = place.with_name("aside")
    os.rename(place, aside)
    if aside.is_dir():
        make(place, 1.0)
    else:
        place.write_bytes(aside.read_bytes())


def configures(place: Path) -> None:
    (place / "config.json").write_text('{"new": 1}')


def adds_a_shard(place: Path) -> None:
    (place / "model-00009-of-00009.safetensors").write_bytes(b"new")


TRAINERS = (replaces, rewrites, rewrites_and_sets_the_time_back, truncates, removes, moves_all_of_it)
IN_FOLDERS = (configures, adds_a_shard)


def after_opening(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    real = command.make_plan

    def make_plan(*arguments: object) -> object:
        act()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "make_plan", make_plan)


def before_the_check(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    real = Claim.check

    def check(claim: Claim, *arguments: object) -> None:
        act()
        real(claim, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Claim, "check", check)


def before_the_exchange(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Later than anything that could be asked first."""
    real = locks.exchange

    def exchange(a: str, b: str) -> bool:
        act()
        return real(a, b)

    monkeypatch.setattr(locks, "exchange", exchange)


MOMENTS = (after_opening, before_the_check, before_the_exchange)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_another_program_changed_stands_and_the_run_says_so(
    kind: str,
    moment: Callable[[pytest.MonkeyPatch, Callable[[], None]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for trainer in (*TRAINERS, *(IN_FOLDERS if "." not in kind else ())):
        if trainer is rewrites_and_sets_the_time_back and moment is before_the_exchange and "." in kind:
            continue  # the exchange itself changes the only time that would tell
        folder = tmp_path / trainer.__name__
        folder.mkdir()
        make(folder / kind)
        _check_that_it_stands(folder, kind, moment, trainer, monkeypatch)


def _check_that_it_stands(
    folder: Path,
    kind: str,
    moment: Callable[[pytest.MonkeyPatch, Callable[[], None]], None],
    trainer: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, theirs = folder / kind, list[dict[str, bytes]]()

    def act() -> None:
        if not theirs:
            trainer(place)
            theirs.append(content(place))

    with monkeypatch.context() as patch:
        moment(patch, act)
        ran = Shell(folder)("remap", kind, "--in-place", *RENAME)
    assert ran.code == 2, (trainer, ran)
    assert "change" in ran.err or "does not exist" in ran.err, (trainer, ran)
    assert content(place) == theirs[0], trainer
    assert not any(is_temporary(name) for name in os.listdir(folder)), trainer


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_can_be_exchanged_it_is_asked_right_before(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "exchange", lambda *_: False)
    place = tmp_path / kind
    make(place)
    assert Shell(tmp_path)("remap", kind, "--in-place", *RENAME).code == 0
    assert set(ckptkit.open(place)) == {f"v{n}" for n in range(4)}
    with monkeypatch.context() as patch:
        acts = [replaces]
        before_the_check(patch, lambda: acts.pop()(place) if acts else None)
        ran = Shell(tmp_path)("remap", kind, "--in-place", "--rename", "^v", "u")
    assert (ran.code, "nothing was written" in ran.err) == (2, True), ran
    assert os.listdir(tmp_path) == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_beside_the_weights_may_change(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / kind
    make(place)
    log = (place if place.is_dir() else tmp_path) / "log.txt"

    def act() -> None:
        with log.open("a") as file:
            file.write("step\n")

    before_the_exchange(monkeypatch, act)
    ran = Shell(tmp_path)("remap", kind, "--in-place", *RENAME)
    assert ran.code == 0, ran
    assert log.read_text() == "step\n"


def test_the_words_name_the_file_the_change_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "m.pt")
    acts = [replaces]
    before_the_check(monkeypatch, lambda: acts.pop()(tmp_path / "m.pt") if acts else None)
    ran = Shell(tmp_path)("remap", "m.pt", "--in-place", *RENAME)
    assert ran.err.splitlines()[-1] == (
        "error: m.pt: another process changed it while it was being rewritten (another file took its place); nothing was "
        "written, and it stays as that process left it; run again"
    )


def test_a_plan_is_not_kept_when_nothing_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "m.pt")
    acts = [replaces]
    before_the_exchange(monkeypatch, lambda: acts.pop()(tmp_path / "m.pt") if acts else None)
    ran = Shell(tmp_path)("remap", "m.pt", "--in-place", *RENAME, "--save-plan", "p.json")
    assert ran.code == 2
    assert os.listdir(tmp_path) == ["m.pt"]


LOOP = """
import io, contextlib, sys
from ckptkit.__main__ import main
place, letter, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
done = 0
for _ in range(rounds):
    words = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(words):
        code = main(["remap", place, "--in-place", "--no-fsync", "--rename", f"^{letter}{done}$", f"{letter}{done + 1}"])
    if code == 0:
        done += 1
    elif "another process" not in words.getvalue() and "changed while" not in words.getvalue():
        sys.exit(words.getvalue())
print(done)
"""


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("kind", ["m.safetensors", "m.pt", "m"])
def test_of_two_processes_in_place_no_change_is_lost_that_was_reported_done(
    kind: str, tmp_path: Path
) -> None:
    place = tmp_path / kind
    ckptkit.save({"a0": torch.zeros(9), "b0": torch.ones(9)}, place)
    processes = [started(LOOP, str(place), letter, "25") for letter in "ab"]
    counts = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        counts.append(int(out))
    assert min(counts) > 0
    assert set(ckptkit.open(place)) == {f"a{counts[0]}", f"b{counts[1]}"}
    assert os.listdir(tmp_path) == [kind]


TRAINER = """
import os, sys, time, torch, ckptkit
place, rounds, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
from safetensors.torch import save

def read():
    try:
        (value,) = {float(v) for t in ckptkit.open(place).values() for v in t}
        return value
    except ckptkit.FormatError:
        return None  # replaced in this moment

for n in range(1, rounds + 1):
    data = save({"a0": torch.full((9,), float(n))})
    if how == "replace":
        with open(place + ".trainer", "wb") as file:
            file.write(data)
        os.replace(place + ".trainer", place)
    else:
        with open(place, "wb") as file:
            file.write(data)
    time.sleep(0.02 + n % 5 * 0.03)  # a run that had read the step before may end in this time
    end = time.monotonic() + 20
    while read() != n:  # renamed or not, these are the weights of this step
        if time.monotonic() > end:
            sys.exit(f"the weights of step {n} are lost")
        time.sleep(0.002)
"""


@pytest.mark.parametrize("how", ["replace", "rewrite"])
def test_a_trainer_that_saves_while_its_file_is_rewritten_loses_no_step(how: str, tmp_path: Path) -> None:
    place = tmp_path / "m.safetensors"
    save_file({"a0": torch.zeros(9)}, place)
    trainer = started(TRAINER, str(place), "40", how)
    outcomes: set[int] = set()
    while trainer.poll() is None:
        outcomes.add(
            Shell(tmp_path)(
                "remap", "m.safetensors", "--in-place", "--no-fsync", "--rename", "^a0$", "a1"
            ).code
        )
    out, err = trainer.communicate()
    assert (trainer.returncode, out, err) == (0, "", "")
    assert 0 in outcomes
    assert float(next(iter(ckptkit.open(place).values()))[0]) == 40


HOLDER = """
import sys
from ckptkit.files.claims import Claim
with Claim(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (claims, sys.modules["ckptkit.files.atomic"]):
        monkeypatch.setattr(module, "PATIENCE", 0.2)


def held(place: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def rewrite(folder: Path, kind: str) -> list[Ran]:
    """In place, and by a file that replaces it."""
    ckptkit.save(STATE, folder / "other.safetensors", overwrite=True)
    over = ("convert", "other.safetensors", kind, "--overwrite")
    return [Shell(folder)("remap", kind, "--in-place", "--cast", "float16"), Shell(folder)(*over)]


@pytest.mark.usefixtures("_impatient")
def test_what_another_process_rewrites_is_left_to_it_until_it_is_done(tmp_path: Path) -> None:
    place = tmp_path / "m.pt"
    make(place)
    before = place.read_bytes()
    holder = held(place)
    for ran in rewrite(tmp_path, "m.pt"):
        assert ran.code == 2
        assert ran.err.splitlines()[-1] == (
            "error: m.pt: another process is rewriting it, or has locked it; nothing was written; run again when that one "
            "is done"
        )
    assert place.read_bytes() == before
    holder.communicate("")
    assert [ran.code for ran in rewrite(tmp_path, "m.pt")] == [0, 0]


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("kind", ["m.pt", "shards"])
def test_a_killed_process_holds_nothing(kind: str, tmp_path: Path) -> None:
    make(tmp_path / kind)
    holder = held(tmp_path / kind)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert [ran.code for ran in rewrite(tmp_path, kind)] == [0, 0]


def test_a_second_process_waits_and_works_on_what_the_first_one_made(tmp_path: Path) -> None:
    place = tmp_path / "m.safetensors"
    make(place)
    with Claim(str(place)) as claim:
        second = started(
            LOOP.replace("done = 0", "done = 0; import ckptkit.cli.write; print('begins', flush=True)"),
            str(place),
            "v",
            "1",
        )
        assert second.stdout is not None
        assert second.stdout.readline() == "begins\n"
        time.sleep(1)
        assert second.poll() is None
        save_file({"v0": torch.ones(2)}, tmp_path / "new")
        assert claim is not None
        os.replace(tmp_path / "new", place)
    out, err = second.communicate(timeout=60)
    assert (out, err) == ("1\n", "")
    assert set(ckptkit.open(place)) == {"v1"}
