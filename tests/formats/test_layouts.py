"""Folders as tools write them: which checkpoint is opened, what is refused by name, what is a part of a whole."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed import checkpoint as dcp

import ckptkit
from ckptkit.formats.layouts.table import TABLE, as_markdown

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.weight": torch.ones(4)}
OTHER = {"rng": torch.zeros(5, dtype=torch.uint8)}


def st(path: Path, state: dict[str, torch.Tensor] = STATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ckptkit.save(state, path)


def pt(path: Path, value: object = STATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def saved_dcp(path: Path, state: object = STATE) -> None:
    dcp.save(state, checkpoint_id=str(path), no_dist=True)  # type: ignore[arg-type]


def numbered(folder: Path, stem: str = "model", suffix: str = "safetensors", count: int = 2) -> None:
    for number, (key, value) in enumerate(STATE.items(), 1):
        save = st if suffix == "safetensors" else pt
        save(folder / f"{stem}-{number:05d}-of-{count:05d}.{suffix}", {key: value})


def trainer_files(folder: Path) -> None:
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "rng_state_1.pth"):
        pt(folder / name, {"state": {}, "x": torch.ones(2)})
    text(folder / "trainer_state.json", "{}")


def lightning_fsdp(f: Path) -> None:
    saved_dcp(f, {"state_dict": STATE})
    pt(f / "meta.pt", {"epoch": 1, "rng": torch.zeros(3)})


def accelerate_fsdp(f: Path) -> None:
    saved_dcp(f / "pytorch_model_fsdp_0", {"model": STATE})
    saved_dcp(f / "optimizer_0", {"optimizer": {"state": {"x": torch.ones(2)}}})
    pt(f / "scheduler.bin", {})
    pt(f / "random_states_0.pkl", OTHER)


def trainer_with_adapter(f: Path) -> None:
    st(f / "adapter_model.safetensors")
    text(f / "adapter_config.json", "{}")
    trainer_files(f)


def variant_index(f: Path) -> None:
    numbered(f, "model.fp16")
    weight_map = {key: f"model.fp16-{n:05d}-of-00002.safetensors" for n, key in enumerate(STATE, 1)}
    text(f / "model.safetensors.index.fp16.json", json.dumps({"metadata": {}, "weight_map": weight_map}))


def stale_index(f: Path) -> None:
    st(f / "model.safetensors")
    gone = dict.fromkeys(STATE, "model-00001-of-00001.safetensors")
    text(f / "model.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": gone}))


def hub(f: Path) -> None:
    st(f / "snapshots" / "abc123" / "model.safetensors")
    st(f / "snapshots" / "old" / "model.safetensors", OTHER)
    (f / "blobs").mkdir()
    text(f / "refs" / "main", "abc123")


def deepspeed_2(f: Path) -> None:
    model = {"module": STATE, "ds_version": "0.15", "mp_world_size": 1, "dp_world_size": 2}
    pt(f / "global_step5" / "mp_rank_00_model_states.pt", model)
    for rank in (0, 1):
        pt(f / "global_step5" / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt", {"x": torch.ones(2)})
    text(f / "latest", "global_step5")


def megatron_one(f: Path) -> None:
    saved = {"args": argparse.Namespace(tensor_model_parallel_size=1), "model": STATE}
    pt(f / "iter_0000010" / "mp_rank_00" / "model_optim_rng.pt", saved)
    text(f / "latest_checkpointed_iteration.txt", "10")


def nemo_2(f: Path) -> None:
    saved_dcp(f / "weights")
    pt(f / "weights" / "common.pt", OTHER)
    text(f / "context" / "model.yaml", "{}")


def unusual_name(f: Path) -> None:
    pt(f / "weights.th")
    text(f / "notes.txt", "hello")


def pointed(f: Path) -> None:
    pt(f / "epoch_1.pth", OTHER)
    pt(f / "epoch_2.pth")
    text(f / "last_checkpoint", "/somewhere/else/epoch_2.pth")


OPENED: dict[str, Callable[[Path], object]] = {
    "lightning fsdp": lightning_fsdp,
    "accelerate fsdp": accelerate_fsdp,
    "trainer": lambda f: (st(f / "model.safetensors"), trainer_files(f)),
    "trainer, torch": lambda f: (pt(f / "pytorch_model.bin"), trainer_files(f)),
    "trainer with adapter": trainer_with_adapter,
    "two formats": lambda f: (st(f / "model.safetensors"), pt(f / "pytorch_model.bin", OTHER)),
    "variant index": variant_index,
    "only a variant": lambda f: st(f / "diffusion_pytorch_model.fp16.safetensors"),
    "plain before variant": lambda f: (st(f / "model.safetensors"), st(f / "model.fp16.safetensors", OTHER)),
    "stale index": stale_index,
    "hub cache": hub,
    "deepspeed 2": deepspeed_2,
    "megatron": megatron_one,
    "nemo 2": nemo_2,
    "shards without index": numbered,
    "torch shards without index": lambda f: numbered(f, "pytorch_model", "bin"),
    "unusual name": unusual_name,
    "pth.tar": lambda f: pt(f / "model_best.pth.tar", {"state_dict": STATE, "epoch": 3}),
    "pointer": pointed,
}


@pytest.mark.parametrize("name", OPENED)
def test_a_folder_is_opened_at_its_checkpoint(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    OPENED[name](folder)
    with ckptkit.open(folder) as opened:
        assert list(opened) == list(STATE)
        assert all(torch.equal(opened[key], STATE[key]) for key in STATE)
        assert opened.signature.part_of is None
    assert ckptkit.verify(folder).outcome == "whole"
    ckptkit.save(ckptkit.open(folder), tmp_path / "copy.safetensors")
    assert ckptkit.diff(folder, tmp_path / "copy.safetensors", values=True).same


def pipeline(f: Path) -> None:
    st(f / "unet" / "diffusion_pytorch_model.safetensors")
    st(f / "vae" / "diffusion_pytorch_model.safetensors")
    text(f / "scheduler" / "scheduler_config.json", "{}")
    text(
        f / "model_index.json",
        json.dumps({"_class_name": "P", "unet": ["d", "U"], "vae": ["d", "V"], "scheduler": ["d", "S"]}),
    )


def zero_3(f: Path) -> None:
    empty = {key: torch.zeros(0) for key in STATE}
    shapes = [{key: value.shape for key, value in STATE.items()}]
    for rank in (0, 1):
        pt(
            f / "global_step5" / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt",
            {
                "module": empty,
                "param_shapes": shapes,
                "dp_world_size": 2,
                "mp_world_size": 1,
                "ds_version": "0.15",
            },
        )
    text(f / "latest", "global_step5")


def megatron_two(f: Path) -> None:
    for rank in (0, 1):
        saved = {"args": argparse.Namespace(tensor_model_parallel_size=2), "model": STATE}
        pt(f / "iter_0000010" / f"mp_rank_{rank:02d}" / "model_optim_rng.pt", saved)
    text(f / "latest_checkpointed_iteration.txt", "10")


def interrupted(f: Path) -> None:
    saved_dcp(f)
    (f / ".metadata").unlink()


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipeline": (
        pipeline,
        r"is a diffusers pipeline \(P\) of 2 models; name one of them: '.*unet', '.*vae'$",
    ),
    "hub root": (
        lambda f: st(f / "models--a--b" / "snapshots" / "x" / "model.safetensors"),
        r"is a hub cache of one model; name one of them: '.*models--a--b'$",
    ),
    "zero 3": (
        zero_3,
        "is a DeepSpeed ZeRO-3 checkpoint, in which 2 ranks hold a part each; .*zero_to_fp32.py",
    ),
    "megatron": (megatron_two, "is a Megatron checkpoint of 2 ranks, each with a part of the model"),
    "one of two shards": (
        lambda f: (numbered(f), (f / "model-00002-of-00002.safetensors").unlink()),
        "without those of the numbers 2, and no index; fetch the missing files",
    ),
    "ranks": (
        lambda f: (pt(f / "consolidated.00.pth"), pt(f / "consolidated.01.pth")),
        "holds 2 parts of one checkpoint, one for each rank",
    ),
    "interrupted": (interrupted, "the save was interrupted; take an earlier one"),
    "two models": (
        lambda f: (st(f / "model.safetensors"), st(f / "model_1.safetensors")),
        "holds 2 models of one run",
    ),
    "adapter and model": (
        lambda f: (
            st(f / "model.safetensors"),
            st(f / "adapter_model.safetensors"),
            text(f / "adapter_config.json", "{}"),
        ),
        "holds an adapter .* and a whole model",
    ),
    "two variants": (
        lambda f: (st(f / "model.fp16.safetensors"), st(f / "model.bf16.safetensors")),
        "holds the variants 'bf16', 'fp16'; choose one, as in --variant bf16",
    ),
    "epochs": (
        lambda f: (pt(f / "epoch_1.pth"), pt(f / "epoch_2.pth")),
        "holds 2 checkpoints .* and no index; name one of them",
    ),
    "steps": (
        lambda f: (saved_dcp(f / "step-1"), saved_dcp(f / "step-2")),
        "holds no checkpoint itself, but 'step-1', 'step-2' in it do; the last is 'step-2'; open '.*step-2'$",
    ),
    "optimizer alone": (
        lambda f: pt(f / "optimizer.pt"),
        "holds no weights, only what a trainer saves beside them",
    ),
    "tensorflow": (
        lambda f: text(f / "model.ckpt.data-00000-of-00001", "x"),
        "holds a TensorFlow checkpoint",
    ),
    "missing iteration": (
        lambda f: text(f / "latest_checkpointed_iteration.txt", "20"),
        "is a Megatron run whose newest iteration, '20', is not there",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_that_is_no_whole_checkpoint_says_what_it_is_and_the_next_step(
    name: str, tmp_path: Path
) -> None:
    make, words = REFUSED[name]
    folder = tmp_path / "f"
    folder.mkdir()
    make(folder)
    with pytest.raises(ckptkit.FormatError, match=words):
        ckptkit.open(folder)


def consolidated(f: Path) -> Path:
    """One of two ranks, the other not there: the model's width in params.json tells it."""
    pt(
        f / "consolidated.00.pth",
        {"norm.weight": torch.ones(8), "layers.0.attention.wo.weight": torch.ones(8, 4)},
    )
    text(f / "params.json", '{"dim": 8}')
    return f / "consolidated.00.pth"


def sliced(f: Path) -> Path:
    from safetensors.torch import save_file

    told = json.dumps({"a.weight": {"saved_offsets": [2, 0]}})
    path = f / "shard-00001-model-00001-of-00001.safetensors"
    save_file({"a.weight": torch.ones(2, 3)}, path, metadata={"DCP_SHARDING_INFO": told})
    return path


def shard_with_own_name(f: Path) -> Path:
    st(f / "first.safetensors", {"a.weight": STATE["a.weight"]})
    st(f / "second.safetensors", {"b.weight": STATE["b.weight"]})
    weight_map = {"a.weight": "first.safetensors", "b.weight": "second.safetensors"}
    text(f / "model.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": weight_map}))
    return f / "second.safetensors"


def rank_file(f: Path) -> Path:
    pt(f / "pytorch_model_fsdp_rank0.bin")
    pt(f / "pytorch_model_fsdp_rank1.bin")
    return f / "pytorch_model_fsdp_rank1.bin"


def zero_3_file(f: Path) -> Path:
    zero_3(f)
    return f / "global_step5" / "zero_pp_rank_1_mp_rank_00_model_states.pt"


def megatron_file(f: Path) -> Path:
    megatron_two(f)
    shutil.rmtree(f / "iter_0000010" / "mp_rank_01")
    return f / "iter_0000010" / "mp_rank_00" / "model_optim_rng.pt"


def one_shard(f: Path) -> Path:
    numbered(f)
    return f / "model-00002-of-00002.safetensors"


PARTS = {
    "shard": (one_shard, {"kind": "sharded checkpoint", "index": 1, "count": 2}),
    "shard with a name of its own": (
        shard_with_own_name,
        {"kind": "sharded checkpoint", "index": 1, "count": 2},
    ),
    "consolidated": (consolidated, {"kind": "tensor-parallel checkpoint", "index": 0, "count": 2}),
    "slices": (sliced, {"kind": "checkpoint sliced by torch", "index": 0, "count": None}),
    "rank": (rank_file, {"kind": "checkpoint with a file for each rank", "index": 1, "count": 2}),
    "zero 3": (zero_3_file, {"kind": "DeepSpeed ZeRO-3 checkpoint", "index": 1, "count": 2}),
    "megatron": (megatron_file, {"kind": "Megatron checkpoint", "index": 0, "count": 2}),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_taken_by_nothing_but_inspect_unless_asked_for(name: str, tmp_path: Path) -> None:
    make, part = PARTS[name]
    path = make(tmp_path)
    assert ckptkit.signature(path).to_json()["part_of"] == part
    calls: list[Callable[[], object]] = [
        lambda: ckptkit.open(path),
        lambda: ckptkit.plan(path, []),
        lambda: ckptkit.remap(path, []),
        lambda: ckptkit.save(path, tmp_path / "whole.safetensors"),
        lambda: ckptkit.diff(path, path),
        lambda: ckptkit.infer(path, path),
        lambda: ckptkit.load(torch.nn.Linear(2, 2), path),
        lambda: ckptkit.check(torch.nn.Linear(2, 2), path),
    ]
    for call in calls:
        with pytest.raises(
            ckptkit.PartError, match=r"is part \d.* and does not hold all of its weights; .*--part"
        ):
            call()
    report = ckptkit.verify(path)
    assert (report.outcome, len(report.problems)) == ("not understood", 1)
    assert ckptkit.verify(path, part=True).outcome == "whole"
    with ckptkit.open(path, part=True) as opened:
        assert len(opened)
        assert ckptkit.diff(opened, opened).same


def test_a_single_file_with_the_name_of_rank_0_is_whole_where_it_is_alone(tmp_path: Path) -> None:
    pt(tmp_path / "consolidated.00.pth")
    pt(tmp_path / "other" / "model_rank0.pt")
    for path in (tmp_path / "consolidated.00.pth", tmp_path / "other" / "model_rank0.pt"):
        assert ckptkit.signature(path).part_of is None


def test_a_variant_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    st(tmp_path / "model.safetensors")
    st(tmp_path / "model.fp16.safetensors", OTHER)
    with ckptkit.open(tmp_path, variant="fp16") as opened:
        assert list(opened) == list(OTHER)
    with pytest.raises(
        ckptkit.FormatError, match="has the variants 'fp16', not 'bf16'; name one that is there"
    ):
        ckptkit.open(tmp_path, variant="bf16")
    with pytest.raises(ckptkit.FormatError, match="is one file, and only folders hold variants"):
        ckptkit.open(tmp_path / "model.safetensors", variant="fp16")


def test_in_place_never_replaces_a_folder_whose_checkpoint_lies_deeper(tmp_path: Path) -> None:
    hub(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    from ckptkit.__main__ import main

    assert main(["remap", str(tmp_path), "--in-place", "--add-prefix", "x."]) == 2
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_every_layout_of_the_table_has_its_texts() -> None:
    for layout in TABLE:
        assert layout.name
        assert layout.markers
        assert layout.checkpoint or layout.refused


def test_the_docs_hold_the_table_as_the_recogniser_has_it() -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    assert as_markdown() in text, "run: python tools/layouts_table.py"
