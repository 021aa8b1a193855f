"""safetensors: single files, shards, variants, what other writers put into them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file, save_model
from torch.distributed import checkpoint as dcp

from .making import OTHER, STATE, as_json, pt, sharded, shifted, st
from .truth import IsPart, Opens, Refused, Truth, case


@case("safetensors")
def _(f: Path) -> Truth:
    path = st(f / "a.safetensors")
    return Opens(path, load_file(path))


@case("safetensors without metadata")
def _(f: Path) -> Truth:
    path = st(f / "a.safetensors", metadata={})
    return Opens(path, load_file(path))


@case("safetensors of save_model, with ties")
def _(f: Path) -> Truth:
    model = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Linear(3, 4, bias=False))
    model[1].weight = model[0].weight
    save_model(model, str(f / "a.safetensors"))
    return Opens(f / "a.safetensors", model.state_dict(), ties=(("0.weight", "1.weight"),))


@case("safetensors of MLX")
def _(f: Path) -> Truth:
    state = {"layers.0.scales": torch.ones(2), "layers.0.weight": torch.ones(2, 2)}
    return Opens(st(f / "model.safetensors", state, {"format": "mlx"}), state)


@case("safetensors with metadata of a trainer")
def _(f: Path) -> Truth:
    told = {"ss_tag_frequency": json.dumps({"a": 1}), "modelspec.title": "x", "author": "weight"}
    state = {"lora_unet.alpha": torch.tensor(4.0), "weight": torch.ones(2)}
    return Opens(st(f / "lora.safetensors", state, told), state)


@case("huggingface_hub, one file with ties")
def _(f: Path) -> Truth:
    tied = torch.ones(4, 3)
    state = {"embed.weight": tied, "norm.weight": torch.zeros(3), "lm_head.weight": tied}
    save_torch_state_dict(dict(state), f)
    return Opens(f, {key: state[key] for key in ("embed.weight", "norm.weight", "lm_head.weight")},
                 ties=(("embed.weight", "lm_head.weight"),))  # fmt: skip


@case("huggingface_hub, shards with ties")
def _(f: Path) -> Truth:
    tied = torch.ones(40, 3)
    state = {
        "embed.weight": tied,
        "a.weight": torch.zeros(50),
        "b.weight": torch.ones(60),
        "lm_head.weight": tied,
    }
    save_torch_state_dict(dict(state), f, max_shard_size=300)
    assert (f / "model.safetensors.index.json").exists()
    return Opens(f, state, ties=(("embed.weight", "lm_head.weight"),))


@case("huggingface_hub, torch shards")
def _(f: Path) -> Truth:
    state = {"a.weight": torch.zeros(50), "b.weight": torch.ones(60)}
    save_torch_state_dict(dict(state), f, max_shard_size=300, safe_serialization=False)
    return Opens(f, state)


@case("shards, by their index")
def _(f: Path) -> Truth:
    sharded(f)
    return Opens(f / "model.safetensors.index.json", STATE)


@case("shards with names of their own")
def _(f: Path) -> Truth:
    sharded(f, frame="part_{n}.safetensors")
    return Opens(f, STATE)


@case("shards without an index")
def _(f: Path) -> Truth:
    sharded(f, index=None)
    return Opens(f, STATE, says=("2 numbered shards without an index",))


@case("torch shards without an index")
def _(f: Path) -> Truth:
    sharded(f, frame="pytorch_model-{n:05d}-of-{count:05d}.bin", index=None)
    return Opens(f, STATE)


@case("shards, one missing, without an index")
def _(f: Path) -> Truth:
    sharded(f, index=None)
    (f / "model-00001-of-00002.safetensors").unlink()
    return Refused(f, ("without those of the numbers 1", "fetch the missing files", "--part"), "damaged")


@case("shards, one missing, with an index")
def _(f: Path) -> Truth:
    sharded(f)
    (f / "model-00001-of-00002.safetensors").unlink()
    return Refused(f, ("1 of 2 shards is missing: 'model-00001-of-00002.safetensors'", "fetch"), "damaged")


@case("an index alone")
def _(f: Path) -> Truth:
    sharded(f)
    for path in f.glob("*.safetensors"):
        path.unlink()
    return Refused(f, ("2 of 2 shards are missing", "fetch"), "damaged")


@case("an index that leads elsewhere")
def _(f: Path) -> Truth:
    as_json(f / "model.safetensors.index.json", {"weight_map": {"a.weight": "../../secret.safetensors"}})
    return Refused(f, ("plain file name",), "damaged")


@case("one shard by its name")
def _(f: Path) -> Truth:
    sharded(f, index=None)
    return IsPart(f / "model-00002-of-00002.safetensors", "sharded checkpoint", 1, 2)


@case("one shard with a name of its own")
def _(f: Path) -> Truth:
    sharded(f, frame="part_{n}.safetensors")
    return IsPart(f / "part_1.safetensors", "sharded checkpoint", 0, 2)


@case("shards with other numbers, one missing")
def _(f: Path) -> Truth:
    sharded(f, frame="model_{n:02d}-of-{count:02d}.safetensors", index=None)
    (f / "model_02-of-02.safetensors").unlink()
    return Refused(f, ("without those of the numbers 2",), "damaged")


@case("one shard with other numbers")
def _(f: Path) -> Truth:
    sharded(f, frame="model.{n:03d}-of-{count:03d}.safetensors", index=None)
    return IsPart(f / "model.002-of-002.safetensors",
                  "sharded checkpoint", 1, 2)  # fmt: skip


@case("vLLM, one of the files of a rank")
def _(f: Path) -> Truth:
    for number in (0, 1):
        st(f / f"model-rank-0-part-{number}.safetensors", OTHER if number else STATE)
    return IsPart(f / "model-rank-0-part-1.safetensors", "checkpoint in numbered parts", 1, 2)


@case("vLLM, a folder of two ranks")
def _(f: Path) -> Truth:
    for rank in (0, 1):
        st(f / f"model-rank-{rank}-part-0.safetensors")
    return Refused(f, ("2 parts of one checkpoint",))


@case("a stale index beside the complete file")
def _(f: Path) -> Truth:
    st(f / "model.safetensors")
    as_json(
        f / "model.safetensors.index.json",
        {"weight_map": {"x": "old_1.safetensors", "y": "old_2.safetensors"}},
    )
    return Opens(f, STATE, says=("model.safetensors, which is complete, was taken",))


@case("old shards beside the index of new ones")
def _(f: Path) -> Truth:
    sharded(f)
    st(f / "model-00003-of-00003.safetensors", OTHER)
    return Opens(f, STATE, says=("model-00003-of-00003.safetensors",))


@case("shards of two saves without an index")
def _(f: Path) -> Truth:
    sharded(f, index=None)
    st(f / "model-00001-of-00003.safetensors", OTHER)
    return Opens(f, STATE, says=("model-00001-of-00003.safetensors",))


@case("safetensors beside the same in torch's format")
def _(f: Path) -> Truth:
    pt(f / "pytorch_model.bin", shifted())
    return Opens(st(f / "model.safetensors").parent, STATE, says=("pytorch_model.bin",))


@case("a variant beside the plain weights")
def _(f: Path) -> Truth:
    st(f / "model.fp16.safetensors", shifted())
    return Opens(st(f / "model.safetensors").parent, STATE)


@case("a variant by name")
def _(f: Path) -> Truth:
    st(f / "model.safetensors", shifted())
    return Opens(st(f / "model.fp16.safetensors").parent, STATE, flags=("--variant", "fp16"))


@case("a sharded variant")
def _(f: Path) -> Truth:
    sharded(
        f, frame="model.fp16-{n:05d}-of-{count:05d}.safetensors", index="model.safetensors.index.fp16.json"
    )
    st(f / "model.safetensors", shifted())
    return Opens(f, STATE, flags=("--variant", "fp16"))


@case("a sharded variant alone, as older diffusers wrote it")
def _(f: Path) -> Truth:
    sharded(f, frame="diffusion_pytorch_model-{n:05d}-of-{count:05d}.fp16.safetensors",
            index="diffusion_pytorch_model.safetensors.index.fp16.json")  # fmt: skip
    return Opens(f, STATE, says=("'fp16' alone",))


@case("two variants and no plain weights")
def _(f: Path) -> Truth:
    st(f / "model.fp16.safetensors")
    st(f / "model.bf16.safetensors")
    return Refused(f, ("variants 'bf16', 'fp16'", "--variant bf16"))


@case("a variant that is not there")
def _(f: Path) -> Truth:
    st(f / "model.safetensors")
    st(f / "model.fp16.safetensors")
    return Refused(f, ("has the variants 'fp16', not 'int8'",), flags=("--variant", "int8"))


@case("torch's Hugging Face storage, one rank")
def _(f: Path) -> Truth:
    state = {key: value for key, value in STATE.items() if value.dim()}
    writer = dcp.HuggingFaceStorageWriter(str(f), save_distributed=True)
    dcp.save(dict(state), storage_writer=writer, no_dist=True)
    return Opens(f, state)


@case("torch's Hugging Face storage, consolidated into shards")
def _(f: Path) -> Truth:
    state = {key: value for key, value in STATE.items() if value.dim()}
    mapping = {key: 1 + n % 2 for n, key in enumerate(state)}
    writer = dcp.HuggingFaceStorageWriter(str(f), mapping, save_distributed=True, enable_consolidation=True)
    dcp.save(dict(state), storage_writer=writer, no_dist=True)
    return Opens(f, state, ordered=False)


def _slices(f: Path) -> None:
    for rank in (0, 1):
        told = json.dumps({"a.weight": {"saved_offsets": [2 * rank, 0]}})
        name = f"shard-{rank + 1:05d}-model-00001-of-00001.safetensors"
        st(
            f / name,
            {"a.weight": torch.full((2, 3), float(rank))},
            {"DCP_SHARDING_INFO": told, "DCP_VERSION": "1.0"},
        )


@case("torch's Hugging Face storage, two ranks")
def _(f: Path) -> Truth:
    _slices(f)
    return Refused(f, ("slices", "consolidate"))


@case("torch's Hugging Face storage, the first of two ranks")
def _(f: Path) -> Truth:
    _slices(f)
    return IsPart(f / "shard-00001-model-00001-of-00001.safetensors", "checkpoint sliced by torch", 0, 2)


@case("torch's Hugging Face storage, the second rank alone")
def _(f: Path) -> Truth:
    _slices(f)
    (f / "shard-00001-model-00001-of-00001.safetensors").unlink()
    return IsPart(f / "shard-00002-model-00001-of-00001.safetensors", "checkpoint sliced by torch", 1, None)
