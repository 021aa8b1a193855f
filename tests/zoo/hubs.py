"""The hub's cache, diffusers pipelines, sentence-transformers, and other repositories as they lie on a disk."""

from __future__ import annotations

import os
from pathlib import Path

from .making import OTHER, STATE, as_json, pt, shifted, st, text
from .truth import Opens, Refused, Truth, case

REVISION = "0123456789abcdef0123456789abcdef01234567"


def cached(f: Path, revision: str = REVISION, ref: str | None = REVISION) -> Path:
    """A repository in the cache: a snapshot of links to blobs."""
    repository = f / "models--org--name"
    blob = st(repository / "blobs" / ("ab" * 32))
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    os.symlink(os.path.relpath(blob, snapshot), snapshot / "model.safetensors")
    if ref is not None:
        text(repository / "refs" / "main", ref)
    return repository


@case("the hub's cache, a repository")
def _(f: Path) -> Truth:
    return Opens(cached(f), STATE)


@case("the hub's cache, a snapshot")
def _(f: Path) -> Truth:
    return Opens(cached(f) / "snapshots" / REVISION, STATE)


@case("the hub's cache, two snapshots and a ref")
def _(f: Path) -> Truth:
    repository = cached(f)
    st(repository / "snapshots" / "old" / "model.safetensors", OTHER)
    return Opens(repository, STATE, says=("which refs/main names",))


@case("the hub's cache, two snapshots and no ref")
def _(f: Path) -> Truth:
    repository = cached(f, ref=None)
    st(repository / "snapshots" / "old" / "model.safetensors", OTHER)
    return Refused(
        repository, ("2 snapshots, and refs/main names none", f"'{repository / 'snapshots' / 'old'}'")
    )


@case("the hub's cache itself")
def _(f: Path) -> Truth:
    repository = cached(f)
    (f / ".locks").mkdir()
    text(f / "version.txt", "1")
    return Refused(f, ("is a hub cache of one model", f"'{repository}'"))


@case("the hub's cache, one level above")
def _(f: Path) -> Truth:
    cached(f / "hub")
    return Refused(f, ("'hub' in it does", f"'{f / 'hub'}'"))


@case("the hub's cache, a data set")
def _(f: Path) -> Truth:
    text(f / "datasets--org--name" / "snapshots" / "x" / "data.parquet", "PAR1")
    return Refused(f, ("holds no checkpoint",))


@case("the hub's cache, a download that was interrupted")
def _(f: Path) -> Truth:
    repository = cached(f)
    (repository / "blobs" / ("ab" * 32)).rename(repository / "blobs" / ("ab" * 32 + ".incomplete"))
    return Refused(repository, ("model.safetensors", "is a link to a file that does not exist"))


@case("a download into a folder of one's own")
def _(f: Path) -> Truth:
    text(f / ".cache" / "huggingface" / "download" / "model.safetensors.metadata", "x")
    text(f / "README.md", "x")
    return Opens(st(f / "model.safetensors").parent, STATE)


def pipeline(f: Path) -> Path:
    """A diffusers pipeline, as its documentation shows it."""
    for name in ("unet", "vae"):
        st(f / name / "diffusion_pytorch_model.safetensors")
        as_json(f / name / "config.json", {})
    st(f / "text_encoder" / "model.safetensors")
    as_json(f / "scheduler" / "scheduler_config.json", {})
    as_json(f / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0",
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"], "scheduler": ["diffusers", "DDIMScheduler"],
    })  # fmt: skip
    return f


@case("diffusers, a pipeline")
def _(f: Path) -> Truth:
    return Refused(
        pipeline(f), ("is a diffusers pipeline (StableDiffusionPipeline) of 3 models", f"'{f / 'unet'}'")
    )


@case("diffusers, a component")
def _(f: Path) -> Truth:
    return Opens(pipeline(f) / "unet", STATE)


@case("diffusers, a component's variant")
def _(f: Path) -> Truth:
    st(pipeline(f) / "unet" / "diffusion_pytorch_model.fp16.safetensors", shifted())
    return Opens(f / "unet", shifted(), flags=("--variant", "fp16"))


@case("diffusers, a component's moving average beside it")
def _(f: Path) -> Truth:
    st(pipeline(f) / "unet" / "diffusion_pytorch_model.non_ema.safetensors", shifted())
    return Opens(f / "unet", STATE)


@case("diffusers, a pipeline whose weights were not fetched")
def _(f: Path) -> Truth:
    for path in pipeline(f).rglob("*.safetensors"):
        path.unlink()
    return Refused(f, ("diffusers pipeline", "none of its folders holds weights", "fetch them"))


@case("diffusers, a pipeline beside the file of all of it")
def _(f: Path) -> Truth:
    st(pipeline(f) / "v1-5-pruned.safetensors", OTHER)
    return Refused(f, ("is a diffusers pipeline", f"'{f / 'v1-5-pruned.safetensors'}'"))


@case("sentence-transformers")
def _(f: Path) -> Truth:
    as_json(f / "modules.json", [{"idx": 0, "path": "", "type": "x.models.Transformer"},
                                 {"idx": 1, "path": "1_Pooling", "type": "x.models.Pooling"}])  # fmt: skip
    as_json(f / "1_Pooling" / "config.json", {})
    pt(f / "pytorch_model.bin", shifted())
    return Opens(st(f / "model.safetensors").parent, STATE)


@case("sentence-transformers with a layer of its own weights")
def _(f: Path) -> Truth:
    as_json(f / "modules.json", [{"idx": 0, "path": "", "type": "x.models.Transformer"},
                                 {"idx": 1, "path": "2_Dense", "type": "x.models.Dense"}])  # fmt: skip
    st(f / "2_Dense" / "model.safetensors", OTHER)
    st(f / "model.safetensors")
    return Refused(f, ("is a sentence-transformers model of 2 parts with weights", f"'{f / 'model.safetensors'}'",
                       f"'{f / '2_Dense'}'"))  # fmt: skip


@case("sentence-transformers, older, with the transformer in a folder")
def _(f: Path) -> Truth:
    as_json(f / "modules.json", [{"idx": 0, "path": "0_Transformer", "type": "x.Transformer"},
                                 {"idx": 1, "path": "1_Pooling", "type": "x.Pooling"}])  # fmt: skip
    pt(f / "0_Transformer" / "pytorch_model.bin")
    as_json(f / "1_Pooling" / "config.json", {})
    return Opens(f, STATE)


@case("timm on the hub")
def _(f: Path) -> Truth:
    as_json(f / "config.json", {"architecture": "vit"})
    pt(f / "pytorch_model.bin")
    return Opens(st(f / "model.safetensors").parent, STATE)


@case("open_clip on the hub")
def _(f: Path) -> Truth:
    as_json(f / "open_clip_config.json", {})
    pt(f / "open_clip_pytorch_model.bin")
    return Opens(st(f / "open_clip_model.safetensors").parent, STATE, says=("open_clip_pytorch_model.bin",))


@case("textual inversion beside the model")
def _(f: Path) -> Truth:
    st(f / "learned_embeds.safetensors", OTHER)
    return Opens(st(f / "model.safetensors").parent, STATE, says=("learned_embeds.safetensors",))


@case("a repository with exports for other programs")
def _(f: Path) -> Truth:
    text(f / "onnx" / "model.onnx", b"\x08\x07\x12\x07pytorch")
    text(f / "openvino" / "openvino_model.bin", b"\x01\x02")
    text(f / "rust_model.ot", b"PK\3\4")
    text(f / "tf_model.h5", b"\x89HDF\r\n\x1a\n")
    return Opens(pt(f / "pytorch_model.bin").parent, STATE)
