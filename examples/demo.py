"""The error everybody knows, and the command that fixes it: trains a real model, breaks it, repairs it.

    python examples/demo.py

A small transformer learns to tell whether a row of tokens is sorted, wrapped in `torch.compile` and
`DistributedDataParallel` as a training script wraps it. Its checkpoint does not load into the plain model.
Exits with 0 only if the repaired file loads, computes the same outputs and kept what lay beside the weights.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

PREFIX = "module._orig_mod."
STEPS = 100
SHOWN_LINES = 32


class SortedOrNot(nn.Module):
    """Says whether a row of tokens is sorted. Input: int64 [batch, length]; output: logits [batch, 2]."""

    def __init__(self, tokens: int = 16, length: int = 4, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.position = nn.Parameter(torch.randn(length, width) / 2)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 2)

    def forward(self, rows: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(self.embed(rows) + self.position)
        logits: Tensor = self.head(hidden.mean(dim=1))
        return logits


def examples(count: int) -> tuple[Tensor, Tensor]:
    """Rows of tokens, every other one sorted, and 1 for a sorted row."""
    rows = torch.randint(16, (count, 4))
    rows[::2] = rows[::2].sort(dim=1).values
    return rows, (rows.diff(dim=1) >= 0).all(dim=1).long()


def train_and_save(path: Path, folder: Path) -> SortedOrNot:
    """Train as large runs do, and save as their scripts do: the keys of the wrapped model, nested."""
    dist.init_process_group("gloo", init_method=(folder / "rendezvous").as_uri(), rank=0, world_size=1)
    model = SortedOrNot()
    # The eager backend traces the model like any other backend, and needs no C++ compiler.
    wrapped = nn.parallel.DistributedDataParallel(torch.compile(model, backend="eager"))
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=3e-3)
    losses = []
    for _ in range(STEPS):
        rows, labels = examples(128)
        loss = nn.functional.cross_entropy(wrapped(rows), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    torch.save(
        {
            "state_dict": wrapped.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": 3,
            "hyper_parameters": {"lr": 3e-3, "steps": STEPS},
        },
        path,
    )
    dist.destroy_process_group()
    say(
        f"loss {losses[0]:.3f} at the first of {STEPS} steps, {losses[-1]:.3f} at the last; saved {path.name}"
    )
    return model.eval()


def say(text: str) -> None:
    print(f"  {text}".rstrip(), flush=True)


def step(number: int, title: str) -> None:
    print(f"\n{number}. {title}\n", flush=True)


def shorten(lines: list[str], most: int = SHOWN_LINES) -> list[str]:
    cut = [line if len(line) <= 118 else f"{line[:115]}..." for line in lines]
    return cut if len(cut) <= most else [*cut[: most - 1], f"... and {len(cut) - most + 1} lines more"]


def ckptkit(folder: Path, *arguments: str) -> None:
    """Run the command in `folder` as a person would, and show it with what it prints.

    Raises:
        SystemExit: the command failed.
    """
    print(f"  $ python -m ckptkit {shlex.join(arguments)}", flush=True)
    environment = {**os.environ, "COLUMNS": "110"}
    ran = subprocess.run(
        [sys.executable, "-m", "ckptkit", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    for line in shorten((ran.stdout + ran.stderr).rstrip().splitlines()):
        say(line)
    if ran.returncode:
        raise SystemExit(f"ckptkit ended with {ran.returncode}")


def check(truth: bool, text: str) -> None:
    if not truth:
        raise SystemExit(f"  NOT TRUE: {text}")
    say(f"ok: {text}")


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="ckptkit-demo-") as name:
        folder = Path(name)
        broken, fixed = folder / "run.pt", folder / "fixed.pt"

        step(1, "Train, wrapped in torch.compile and DistributedDataParallel, and save")
        trained = train_and_save(broken, folder)
        before = hashlib.sha256(broken.read_bytes()).hexdigest()
        rows, labels = examples(512)
        with torch.no_grad():
            wanted = trained(rows)

        step(2, "Load it into the plain model: the error everybody knows")
        model = SortedOrNot()
        try:
            model.load_state_dict(torch.load(broken)["state_dict"])
        except RuntimeError as error:
            for line in shorten(f"RuntimeError: {error}".splitlines(), 3):
                say(line)
        else:
            raise SystemExit("  NOT TRUE: torch refuses the keys of a wrapped model")

        step(3, "What is in the file?")
        ckptkit(folder, "inspect", broken.name)

        step(4, "What would the repair do? Nothing is written yet")
        ckptkit(folder, "remap", broken.name, "--strip-prefix", PREFIX, "--dry-run")

        step(5, "Repair it")
        ckptkit(folder, "remap", broken.name, fixed.name, "--strip-prefix", PREFIX)

        step(6, "Load the repaired file, and compare")
        repaired, original = torch.load(fixed), torch.load(broken)
        check(
            str(model.load_state_dict(repaired["state_dict"])) == "<All keys matched successfully>",
            "all keys load",
        )
        with torch.no_grad():
            outputs = model.eval()(rows)
        check(
            torch.equal(outputs, wanted),
            "the loaded model computes the outputs of the trained one, bit for bit",
        )
        right = (outputs.argmax(dim=1) == labels).double().mean().item()
        check(right > 0.75, f"it is right about {right:.0%} of 512 rows that it never saw")
        kept = all(repaired[key] == original[key] for key in ("epoch", "hyper_parameters"))
        check(
            kept and "optimizer" in repaired,
            "epoch, hyper-parameters and optimizer are still beside the weights",
        )
        check(hashlib.sha256(broken.read_bytes()).hexdigest() == before, "the file of step 1 is untouched")

        step(7, "The same, as safetensors for others to use")
        ckptkit(folder, "remap", broken.name, "model.safetensors", "--strip-prefix", PREFIX)
        from safetensors.torch import load_file

        shared = load_file(folder / "model.safetensors")
        same = list(shared) and all(
            torch.equal(shared[key], value) for key, value in trained.state_dict().items()
        )
        check(bool(same), "it holds the weights of the trained model, bit for bit")
    print("\nEverything is as it should be.")


if __name__ == "__main__":
    main()
