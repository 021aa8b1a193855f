"""What remap and convert do once they know their rules: plan, check, write, say what was done."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ..checkpoint import Checkpoint
from ..checkpoint import open as open_checkpoint
from ..config import RemapConfig
from ..errors import UsageError
from ..execute import write
from ..expr import Read
from ..fit import Fit, fit
from ..formats.base import Written, WriteOptions
from ..plans import Plan, make_plan
from ..render.screen import progress_bar
from ..sizes import parse_size
from ..text import human_bytes
from .deadline import regex_deadline
from .output import print_json, print_note, print_text


def carry_out(arguments: Namespace, config: RemapConfig) -> int:
    """Plan and write; returns the exit code."""
    if arguments.like is not None and arguments.model is not None:
        raise UsageError("give --like or --model, not both")
    with open_checkpoint(arguments.source, config.root) as checkpoint:
        with regex_deadline(len(checkpoint.signature)):
            plan = make_plan(checkpoint.signature, config)
        problem = _fit(arguments, plan)
        if arguments.dry_run:
            return _dry_run(arguments, checkpoint, plan, problem)
        if problem is not None and not problem.ok:
            if arguments.json:
                print_json({**_document(plan, Written(())), "fit": problem.to_json()})
            else:
                print_text(str(problem))
                print_note("nothing was written")
            return 1
        written = _write(arguments, checkpoint, plan)
        if arguments.json:
            print_json(_document(plan, written))
        else:
            _summary(checkpoint, plan, written)
    return 0


def _write(arguments: Namespace, checkpoint: Checkpoint, plan: Plan) -> Written:
    size = parse_size(arguments.max_shard_size) if arguments.max_shard_size is not None else None
    target = arguments.source if arguments.in_place else arguments.target
    with progress_bar(plan.signature.nbytes, "writing") as progress:
        options = WriteOptions(arguments.overwrite, not arguments.no_fsync, size, progress)
        return write(
            plan,
            checkpoint,
            target,
            root_only=arguments.root_only,
            in_place=arguments.in_place,
            options=options,
        )


def _fit(arguments: Namespace, plan: Plan) -> Fit | None:
    if arguments.like is not None:
        from ..checkpoint import signature

        return fit(plan.signature, signature(arguments.like), arguments.like)
    if arguments.model is not None:
        from ..checkpoint import signature
        from .model import build_model

        return fit(plan.signature, signature(build_model(arguments.model)), arguments.model)
    return None


def _dry_run(arguments: Namespace, checkpoint: Checkpoint, plan: Plan, problem: Fit | None) -> int:
    if arguments.json:
        document = plan.to_json()
        print_json(document if problem is None else {**document, "fit": problem.to_json()})
    else:
        print_text(str(plan))
        if problem is not None:
            print_text(str(problem))
        for note in checkpoint.source.notes:
            print_note(f"{note}")
        print_note("dry run: nothing was written")
    return 0 if problem is None or problem.ok else 1


def _document(plan: Plan, written: Written) -> dict[str, Any]:
    return {
        "format": "ckptkit.written",
        "version": 1,
        "files": [{"path": f.path, "bytes": f.bytes, "tensors": f.tensors} for f in written.files],
        "plan": plan.to_json(),
        "left_out": list(written.left_out),
        "notes": list(written.notes),
    }


def _summary(checkpoint: Checkpoint, plan: Plan, written: Written) -> None:
    changed = sum(o.expr != Read(o.key) for o in plan.outputs)
    for file in written.files:
        tensors = f"{file.tensors} tensor{'' if file.tensors == 1 else 's'}, " if file.tensors else ""
        print_text(f"wrote {file.path}  {tensors}{human_bytes(file.bytes)}")
    print_text(
        f"{len(plan.outputs)} keys: {changed} changed, {len(plan.outputs) - changed} as they were, {len(plan.dropped)} dropped"
    )
    if written.left_out:
        print_text(f"left out: {', '.join(written.left_out)}")
    for note in (*checkpoint.source.notes, *written.notes):
        print_note(f"{note}")
