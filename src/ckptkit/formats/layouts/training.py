"""Layouts of other frameworks, and of runs that keep several checkpoints."""

from __future__ import annotations

import os

from ...errors import UnsupportedFormatError
from .folder import Folder
from .layout import Found, Layout, paths, refusal
from .weights import choose, weights_in

_LOAD = "ckptkit reads torch and safetensors; load it there and save its weights as safetensors"
# Files that tell a folder of another framework, what it holds, and the next step.
_FOREIGN = (
    (r".+\.data-\d{5}-of-\d{5}|.*saved_model\.pb", "a TensorFlow checkpoint", _LOAD),
    (r"_METADATA|manifest\.ocdbt|_CHECKPOINT_METADATA", "an Orbax checkpoint of JAX", _LOAD),
    (r".+\.(?:h5|keras)", "a Keras model", _LOAD),
    (r".+\.msgpack", "a Flax checkpoint", _LOAD),
    (
        r".+\.gguf",
        "a GGUF file",
        "ckptkit reads torch and safetensors; convert it with the tools of llama.cpp",
    ),
    (
        r".+\.onnx",
        "an ONNX graph",
        "ckptkit reads torch and safetensors; take the model that it was exported from",
    ),
    (
        r".+\.xml",
        "an OpenVINO model",
        "ckptkit reads torch and safetensors; take the model that it was made from",
    ),
    (
        r".+\.tflite",
        "a TensorFlow Lite model",
        "ckptkit reads torch and safetensors; take the model it was made from",
    ),
)


def foreign(folder: Folder) -> Found | None:
    """TensorFlow, Flax, Orbax and others: no weights of torch."""
    if weights_in(folder):
        return None
    if "com.apple.CoreML" in (folder.enter("Data").folders if "Data" in folder.folders else ()):
        step = "ckptkit reads torch and safetensors; take the model that it was made from"
        raise refusal(folder, "is a Core ML model", step, UnsupportedFormatError)
    for pattern, what, step in _FOREIGN:
        names = [match[0] for match in folder.matching(pattern)]
        if names and not (what == "an OpenVINO model" and f"{names[0][:-4]}.bin" not in folder.files):
            raise refusal(folder, f"holds {what}, {names[0]!r}", step, UnsupportedFormatError)
    return None


def pointed(folder: Folder) -> Found | None:
    """A file names the newest of several: ``last_checkpoint`` of mmengine and detectron2."""
    name = folder.text("last_checkpoint")
    if name is None:
        return None
    base = os.path.basename(name.replace("\\", "/"))
    others = len(weights_in(folder)) - 1
    if base not in folder.files:
        if others < 0:
            return None
        raise refusal(
            folder,
            f"is a run whose file last_checkpoint names {base[:80]!r}, which is not there",
            f"name another: {paths(folder, [w.label for w in weights_in(folder)])}",
        )
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
        "a file that is not there",
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
        "several checkpoints, several models of one run, one rank of several, slices of several ranks that torch wrote, "
        "shards that are missing: named, with the next step",
        model_folder,
    ),
    Layout(
        "another framework's folder",
        "`*.data-00000-of-*`, `saved_model.pb`, `manifest.ocdbt`, `*.h5`, `*.keras`, `*.msgpack`, `*.gguf`, `*.onnx`, "
        "`*.tflite`, an `*.xml` beside its `*.bin`, `Data/com.apple.CoreML`, and no torch weights",
        "",
        "",
        "TensorFlow, Orbax, Keras, Flax: load it there and save its weights as safetensors; GGUF, ONNX, OpenVINO, Core ML: "
        "take what it was made from",
        foreign,
    ),
)
