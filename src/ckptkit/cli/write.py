"""What remap and convert do once they know their rules: plan, check, write, say what was done."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace

from ..checkpoint import Checkpoint
from ..checkpoint import open as open_checkpoint
from ..checkpoint import signature as signature_of
from ..config import RemapConfig
from ..errors import CkptkitError, UsageError, WriteError
from ..execute import apply, check_target, foreseen, write
from ..files.atomic import exists_error
from ..files.claims import Claim
from ..fit import Fit, fit
from ..formats.base import WriteOptions, Written
from ..plans import Plan, make_plan
from ..render import plan_view as view
from ..sizes import parse_size
from .given import open_given, signature_given
from .guard import refuse_inputs, refuse_twice
from .html import write_html
from .output import OutputFailed, print_json, print_note, progress, show


def plan_from_file(path: str, invert: bool) -> Plan:
    """A saved plan, or the way back from what it did."""
    from ..plan_file import load_plan

    plan = load_plan(path)
    return plan.invert() if invert else plan


def undo(arguments: Namespace, config: RemapConfig) -> Plan:
    """The way back from what rules do to the checkpoint of --like."""
    if arguments.like is None:
        raise UsageError(
            "--invert needs to know the original: give the plan that was kept with --save-plan as --plan FILE, or the "
            "original checkpoint (or its signature) as --like"
        )
    original = signature_given(arguments, arguments.like)
    return make_plan(original, config).invert()


def carry_out(arguments: Namespace, config: RemapConfig | Plan) -> int:
    """Plan, and write or show what would be written.

    Args:
        arguments: those of `remap` or `convert`.
        config: root and rules, or a plan.

    Returns:
        0, or 1 when the result does not fit --like or --model.
    """
    if arguments.like is not None and arguments.model is not None:
        raise UsageError("--like and --model both say what the result must fit; give one of them")
    keep = getattr(arguments, "save_plan", None)
    refuse_inputs(arguments.target, arguments, "like", "config", "plan")
    refuse_inputs(keep, arguments, "source", "target", "like", "config", "plan")
    refuse_twice(arguments, "target", "save_plan", "html")
    options = _options(arguments)
    root = config.root if isinstance(config, RemapConfig) else arguments.root or config.source.root or "auto"
    in_place = arguments.in_place and not arguments.dry_run
    with (
        Claim(arguments.source) if in_place else nullcontext() as claim,
        open_given(arguments, arguments.source, root) as checkpoint,
    ):
        if isinstance(config, Plan):
            plan = config
        else:
            plan = make_plan(checkpoint.signature, config)
        if keep is not None:
            plan = replace(plan, layout=checkpoint.source.layout)
            _refuse_existing(keep, arguments.overwrite)
        problem = _fit(arguments, plan)
        fits = problem is None or problem.ok
        if getattr(arguments, "html", None) is not None:
            shown = view.dry_run(plan)
            if problem is not None and not problem.ok:
                shown = [*shown, *view.misfit(problem, _target_name(arguments))]
            write_html(arguments, f"remap {arguments.source}", lambda: shown)
        if arguments.dry_run:
            return _dry_run(arguments, checkpoint, plan, problem, options)
        if not fits:
            return _refuse(arguments, plan, problem)
        with _keeping_plan(arguments, plan):
            written = _write(arguments, checkpoint, plan, claim, options)
        _tell(arguments, checkpoint, plan, written)
        if arguments.in_place and not arguments.json:
            _tell_format(arguments.source, checkpoint.source.format)
    return 0


def _refuse_existing(path: str, overwrite: bool) -> None:
    """Before the checkpoint is written, not after it."""
    if not overwrite and os.path.lexists(path):
        raise exists_error(path)


@contextmanager
def _keeping_plan(arguments: Namespace, plan: Plan) -> Iterator[None]:
    """Keep the plan, if it was asked for. Where it cannot be kept, nothing is done: in place, it is the way back."""
    keep = getattr(arguments, "save_plan", None)
    if keep is None:
        yield
        return
    from ..plan_file import keeping_plan

    target = arguments.source if arguments.in_place else arguments.target
    done = False
    try:
        if target is not None and _inside(keep, target):  # a folder that is there only then
            yield
            done = True
        with keeping_plan(plan, keep, overwrite=arguments.overwrite) as kept:
            if not done:
                yield
            done = True
    except WriteError as error:
        if done and not arguments.dry_run:
            raise WriteError(f"{error.message}; {target} itself is written and complete", file=keep) from None
        raise
    for note in (f"kept the plan in {keep}", *kept.notes):
        print_note(note)


def _inside(path: str, folder: str) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep)


def _tell(arguments: Namespace, checkpoint: Checkpoint, plan: Plan, written: Written) -> None:
    try:
        if arguments.json:
            print_json(replace(written, plan=plan).to_json())
            return
        show(view.summary(plan, written))
    except OutputFailed as error:
        where = arguments.source if arguments.in_place else arguments.target
        raise OutputFailed(f"{error.message}; {where} itself is written and complete") from None
    for note in (*checkpoint.source.notes, *written.notes):
        print_note(note)


def _options(arguments: Namespace) -> WriteOptions:
    size = arguments.max_shard_size
    return WriteOptions(
        overwrite=arguments.overwrite,
        fsync=not arguments.no_fsync,
        max_shard_size=None if size is None else parse_size(size),
    )


def _write(
    arguments: Namespace, checkpoint: Checkpoint, plan: Plan, claim: Claim | None, options: WriteOptions
) -> Written:
    target = arguments.source if arguments.in_place else arguments.target
    with _staying_here(), progress(plan.signature.nbytes, "writing") as advance:
        return write(
            plan,
            checkpoint,
            target,
            root_only=arguments.root_only,
            claim=claim,
            options=replace(options, progress=advance),
        )


@contextmanager
def _staying_here() -> Iterator[None]:
    """Be in the folder of the same name afterwards, should the one that the command runs in be replaced."""
    try:
        here, before = os.getcwd(), os.stat(".")
    except OSError:  # gone already
        yield
        return
    yield
    with suppress(OSError):
        if not os.path.samestat(before, os.stat(here)):
            os.chdir(here)
            print_note(f"{here}, where you are, was replaced; cd into it again to see the new one")


def _fit(arguments: Namespace, plan: Plan) -> Fit | None:
    if arguments.like is not None:
        return fit(plan.signature, signature_given(arguments, arguments.like))
    if arguments.model is not None:
        from .model import build_model

        return fit(plan.signature, signature_of(build_model(arguments.model)))
    return None


def _dry_run(
    arguments: Namespace, checkpoint: Checkpoint, plan: Plan, problem: Fit | None, options: WriteOptions
) -> int:
    """Show the plan, then whatever else would stop the run; 1 when the result would not fit."""
    fits = problem is None or problem.ok
    keep = getattr(arguments, "save_plan", None)
    if not arguments.json:
        show(view.dry_run(plan))
    target = arguments.source if arguments.in_place else arguments.target
    if target is not None:
        check_target(plan, checkpoint, target, in_place=arguments.in_place, options=options)
    result = apply(plan, checkpoint).source
    with _keeping_plan(arguments, plan):
        pass
    if arguments.json:
        document = plan.to_json()
        document |= {"left_out": list(result.left_out)} if result.left_out else {}
        print_json(document if problem is None else {**document, "fit": problem.to_json()})
        return 0 if fits else 1
    for note in foreseen(result, target, root_only=arguments.root_only):
        print_note(note)
    if problem is not None and not problem.ok:
        show(view.misfit(problem, _target_name(arguments)))
    elif problem is not None:
        print_note(f"the result would fit {_target_name(arguments)}")
    print_note(f"this is a dry run; nothing was written{'' if keep is None else ' but the plan'}")
    return 0 if fits else 1


def _refuse(arguments: Namespace, plan: Plan, problem: Fit | None) -> int:
    assert problem is not None
    if arguments.json:
        print_json({**Written((), plan=plan).to_json(), "fit": problem.to_json()})
    else:
        show(view.misfit(problem, _target_name(arguments)))
        print_note("nothing was written")
    return 1


def _target_name(arguments: Namespace) -> str:
    return str(arguments.like or arguments.model)


def _tell_format(path: str, before: str) -> None:
    """Say when a file that was named for another format has become what its name says."""
    with suppress(CkptkitError), open_checkpoint(path, "auto") as again:
        if again.source.format != before:
            print_note(f"{path} was {before} and is {again.source.format} now, which its name stands for")
