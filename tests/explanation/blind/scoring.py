"""The whole set scored: texts through `explain`, pairs through `check`, and whether the two agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ckptkit

from .breaks import CASES
from .judging import Score, Trial, caught, judged
from .messages import messages
from .rendering import Text
from .texts import texts_of


def scores(only: str | None = None) -> tuple[list[Score], list[Score]]:
    """The scores of all texts, and of all pairs.

    Args:
        only: cases whose name contains this.
    """
    text, objects = [], []
    for name, build in CASES.items():
        if only is not None and only not in name:
            continue
        broken = build()
        trial = Trial(broken)
        texts = list(texts_of(broken))
        trial.put_back()
        text += [scored(each, trial) for each in texts]
        objects.append(checked(name, trial))
    text += [scored(each, None) for each in messages() if only is None or only in each.name]
    return text, objects


def scored(text: Text, trial: Trial | None) -> Score:
    """What `explain` says of a text."""

    def score() -> Score:
        answer = ckptkit.explain(text.text)
        return judged(
            text.name, answer.findings, text.causes, trial, told=text.told,
            repairable=text.repairable, together=text.together,
            fix=answer.fix,
        )  # fmt: skip

    return caught(text.name, text.told, text.repairable, score)


def checked(name: str, trial: Trial) -> Score:
    """What `check` says of a pair."""
    repairable = trial.broken.outcome != "none" and trial.broken.fix_from != "nobody"

    def score() -> Score:
        report = ckptkit.check(trial.broken.model, dict(trial.broken.state))
        trial.put_back()
        return judged(
            name, report.findings, trial.broken.causes, trial, told=True, repairable=repairable,
            together=trial.broken.together, fix=report.fix,
        )  # fmt: skip

    return caught(name, True, repairable, score)


def figures(found: Sequence[Score]) -> str:
    """One line: top-1, fixes, both causes, harmful, wrong and certain, crashed."""

    def share(values: Iterator[bool | None]) -> str:
        asked = [value for value in values if value is not None]
        return f"{sum(asked)}/{len(asked)} ({sum(asked) / max(len(asked), 1):.1%})"

    return (
        f"n {len(found)}  top1 {share(s.right for s in found)}  fix {share(s.fixed for s in found)}  "
        f"both causes {share(s.also for s in found)}  harmful {sum(bool(s.harm) for s in found)}  "
        f"wrong-certain {sum(s.wrong_certain for s in found)}  crashed {sum(bool(s.crashed) for s in found)}"
    )


def agreement(text: Sequence[Score], objects: Sequence[Score]) -> str:
    """How often torch's words and the objects get one cause, and how often the objects' answer is the better one."""
    words = {score.name.removesuffix(" / torch"): score for score in text if score.name.endswith(" / torch")}
    pairs = [(words[score.name], score) for score in objects if score.name in words]
    same = sum(a.cause == b.cause for a, b in pairs)
    better = sum(a.cause != b.cause and b.right is True and a.right is not True for a, b in pairs)
    worse = sum(a.cause != b.cause and b.right is not True and a.right is True for a, b in pairs)
    return f"n {len(pairs)}  same cause {same}  objects better {better}  objects worse {worse}"
