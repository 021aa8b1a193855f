"""Layouts of other frameworks, and of runs that keep several checkpoints."""

from __future__ import annotations

import os

from .folder import Folder
from .layout import Found, Layout, refusal
from .weights import choose, weights_in


def tensorflow(folder: Folder) -> Found | None:
    """TensorFlow, Flax and Orbax: no weights of torch."""
    if weights_in(folder):
        return None
    if folder.matching(r".+\.data-\d{5}-of-\d{5}") or folder.matching(r".*saved_model\.pb"):
        what = "holds a TensorFlow checkpoint"
    elif folder.names & {"_METADATA", "manifest.ocdbt", "_CHECKPOINT_METADATA"}:
        what = "holds an Orbax checkpoint of JAX"
    elif folder.matching(r".+\.(?:h5|keras)"):
        what = "holds a Keras model"
    elif folder.matching(r".+\.msgpack"):
        what = "holds a Flax checkpoint"
    elif folder.matching(r".+\.gguf"):
        what = "holds a GGUF file"
    elif folder.matching(r".+\.onnx"):
        what = "holds an ONNX graph"
    else:
        return None
    raise refusal(
        folder, what, "ckptkit reads torch and safetensors; load it there and save its weights as safetensors"
    )


def pointed(folder: Folder) -> Found | None:
    """A file names the newest of several: ``last_checkpoint`` of mmengine and detectron2."""
    name = folder.text("last_checkpoint")
    if name is None:
        return None
    base = os.path.basename(name.replace("\\", "/"))
    if base not in folder.files:
        return None
    others = len(weights_in(folder)) - 1
    return Found((base,), f"{base} was taken, which last_checkpoint names" if others else None)


def model_folder(folder: Folder) -> Found | None:
    """Weight files by their usual names, an index first."""
    return choose(folder)


LAYOUTS = (
    Layout(
        "a run with a pointer (mmengine, detectron2)",
        "`last_checkpoint`, which names a file beside it",
        "that file",
        "the other checkpoints",
        "",
        pointed,
    ),
    Layout(
        "a model folder (transformers, Trainer, accelerate, timm, diffusers, torchtune, anything else)",
        "`*.index.json` and `*.index.VARIANT.json`; `*.safetensors`, `*.bin`, `*.pt`, `*.pth`, `*.ckpt`, `*.pth.tar`; "
        "else a file that is a checkpoint by its first bytes",
        "safetensors with an index; `model.safetensors`; another index; `pytorch_model.bin`; the only one of the others. "
        "All numbered shards without an index count as one. Without `--variant` the plain weights, or the only variant",
        "`optimizer*`, `scheduler*`, `scaler*`, `rng_state*`, `random_states*`, `training_args*`, `sampler*`, "
        "`recipe_state*`, `config.json`, tokenizers",
        "several checkpoints, several models of one run, one rank of several, shards that are missing: named, with the "
        "next step",
        model_folder,
    ),
    Layout(
        "another framework's folder",
        "`*.data-00000-of-*`, `saved_model.pb`, `manifest.ocdbt`, `*.h5`, `*.msgpack`, `*.gguf`, `*.onnx`, and no torch "
        "weights",
        "",
        "",
        "TensorFlow, Orbax, Keras, Flax, GGUF, ONNX: load it there and save its weights as safetensors",
        tensorflow,
    ),
)
