"""Layouts of the Hugging Face tools: hub caches, diffusers pipelines, adapters."""

from __future__ import annotations

from ...text import counted
from .folder import Folder
from .layout import Found, Incomplete, Layout, paths, refusal
from .weights import choose, weights_in

_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")


def cached_repository(folder: Folder) -> Found | None:
    """``models--org--name``: the snapshot that refs/main names, or the only one."""
    if not {"blobs", "snapshots"} <= set(folder.folders):
        return None
    snapshots = folder.enter("snapshots").folders
    main = folder.enter("refs").text("main") if "refs" in folder.folders else None
    if main in snapshots:
        assert main is not None
        others = f", one of {len(snapshots)}" if len(snapshots) > 1 else ""
        return Found((f"snapshots/{main}",), f"snapshot {main[:12]} was taken, which refs/main names{others}")
    if len(snapshots) == 1:
        return Found((f"snapshots/{snapshots[0]}",))
    if not snapshots:
        raise refusal(folder, "is a repository in a hub cache without a snapshot", "download the model again")
    raise refusal(
        folder,
        f"is a repository in a hub cache with {len(snapshots)} snapshots, and refs/main names none of them",
        f"name one of them: {paths(folder, [f'snapshots/{name}' for name in snapshots])}",
    )


def hub_cache(folder: Folder) -> Found | None:
    """The cache itself: many repositories."""
    repositories = [match[0] for match in folder.folders_matching(r"models--.+")]
    if not repositories:
        return None
    raise refusal(
        folder,
        f"is a hub cache of {counted(len(repositories), 'model')}",
        f"name one of them: {paths(folder, repositories)}",
    )


def pipeline(folder: Folder) -> Found | None:
    """Several models, each in a folder of its own."""
    parts = folder.json("model_index.json")
    if not parts:
        return None
    models = [name for name in parts if name in folder.folders and weights_in(folder.enter(name))]
    name = parts.get("_class_name")
    of = f" ({name})" if isinstance(name, str) else ""
    if not models:
        raise refusal(
            folder, f"is a diffusers pipeline{of}, and none of its folders holds weights", "fetch them"
        )
    models += [weights.label for weights in weights_in(folder)]
    raise refusal(
        folder,
        f"is a diffusers pipeline{of} of {counted(len(models), 'model')}",
        f"name one of them: {paths(folder, models, 8)}",
    )


def sentences(folder: Folder) -> Found | None:
    """sentence-transformers: modules in a row, some of them with weights, the first often in the folder itself."""
    modules = folder.json_list("modules.json")
    names = [each.get("path") for each in modules if isinstance(each, dict)]
    inner = [name for name in names if type(name) is str and name in folder.folders]
    inner = [name for name in inner if weights_in(folder.enter(name))]
    if not inner:
        return None
    own = choose(folder) if "" in names else None
    parts = [*(own.names[:1] if own else ()), *inner]
    if len(parts) == 1:
        return Found((parts[0],))
    raise refusal(
        folder,
        f"is a sentence-transformers model of {len(parts)} parts with weights",
        f"name one of them: {paths(folder, parts, 8)}",
    )


def adapter(folder: Folder) -> Found | None:
    """peft: the adapter is the checkpoint; a trainer's files beside it are not."""
    if "adapter_config.json" not in folder.files:
        return None
    present = [name for name in _ADAPTERS if name in folder.files]
    if not present:
        if weights_in(folder):
            return None
        raise refusal(
            folder,
            "is an adapter (adapter_config.json) without its weights",
            f"fetch {_ADAPTERS[0]}",
            Incomplete,
        )
    base = [
        w.label
        for w in weights_in(folder)
        if w.stem != "adapter_model" and w.stem in ("model", "pytorch_model")
    ]
    if base:
        raise refusal(
            folder,
            f"holds an adapter ({present[0]}) and a whole model ({base[0]})",
            f"name one of them: {paths(folder, [present[0], base[0]])}",
        )
    return Found((present[0],))


LAYOUTS = (
    Layout(
        "a sentence-transformers model",
        "`modules.json` that lists a folder with weights",
        "the only module with weights",
        "tokenizers, configurations",
        "several modules with weights (`2_Dense`): name one",
        sentences,
    ),
    Layout(
        "a model in the hub's cache",
        "`blobs/` and `snapshots/`",
        "the snapshot that `refs/main` names, or the only one",
        "",
        "several snapshots without `refs/main`: name one",
        cached_repository,
    ),
    Layout(
        "a hub cache",
        "folders `models--ORG--NAME`",
        "",
        "",
        "it holds many models: name one",
        hub_cache,
    ),
    Layout(
        "a diffusers pipeline",
        "`model_index.json`",
        "",
        "",
        "it holds several models: name one, as in `pipe/unet`",
        pipeline,
    ),
    Layout(
        "an adapter (peft)",
        "`adapter_config.json` beside `adapter_model.safetensors` or `.bin`",
        "the adapter",
        "optimizer, scheduler, random state and arguments of a trainer",
        "an adapter beside a whole model: name one; `adapter_config.json` alone: fetch the weights",
        adapter,
    ),
)
