"""A fix is tried on the pair that failed: does it load, and does every tensor stand where it belongs?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

import ckptkit
from ckptkit.findings import Finding

from .breaks import Broken

Verdict = Literal["right", "refused", "harm"]


@dataclass(frozen=True)
class Score:
    """What became of one answer.

    Args:
        name: of the text or pair.
        cause: the first finding's, "" without one.
        right: whether it is the true one; None where the text does not tell.
        also: whether every cause that takes part was named; None where one does.
        fixed: whether a fix works; None where none is asked.
        harm: what a fix does that is more than a guess, and loads other values than it should.
        wrong_certain: a first finding that is certain and wrong.
        crashed: an error that should not have been.
    """

    name: str
    cause: str
    right: bool | None
    also: bool | None = None
    fixed: bool | None = None
    harm: str = ""
    wrong_certain: bool = False
    crashed: str = ""
    offered: list[dict[str, Any]] = field(default_factory=list)


class Trial:
    """One broken pair on which fixes are tried; the model is put back between them."""

    def __init__(self, broken: Broken) -> None:
        self.broken = broken
        self._kept = [(value, value.detach().clone()) for value in self._tensors()]
        self._seen: dict[str, tuple[Verdict, str]] = {}

    def _tensors(self) -> Iterator[torch.Tensor]:
        yield from self.broken.model.parameters()
        yield from self.broken.model.buffers()

    def of(self, config: dict[str, Any]) -> tuple[Verdict, str]:
        """What a config does, and in which words."""
        if repr(config) not in self._seen:
            self._seen[repr(config)] = self._of(config)
            self.put_back()
        return self._seen[repr(config)]

    def put_back(self) -> None:
        """The model as it was: what was tried on it may have been filled in part."""
        with torch.no_grad():
            for value, kept in self._kept:
                value.copy_(kept)

    def _of(self, config: dict[str, Any]) -> tuple[Verdict, str]:
        try:
            ckptkit.load(self.broken.model, dict(self.broken.state), config)
        except ckptkit.CkptkitError as error:
            return "refused", str(error).split("\n")[0]
        if self.broken.outcome == "none":
            return "harm", "loads what no config can repair"
        state = self.broken.model.state_dict()
        other = [key for key, value in self.broken.expected.items() if not torch.equal(state[key], value)]
        if other:
            return (
                "harm",
                f"loads, and {len(other)} of {len(self.broken.expected)} tensors are others, such as {other[0]}",
            )
        return "right", "loads"


def judged(
    name: str,
    findings: Sequence[Finding],
    causes: Sequence[str],
    trial: Trial | None,
    *,
    told: bool,
    repairable: bool,
    together: Sequence[str] = (),
    fix: Any = None,
) -> Score:
    """The score of one answer.

    Args:
        name: of the text or pair.
        findings: the answer, best first.
        causes: what counts as right.
        trial: the pair behind it.
        told: whether the cause is asked.
        repairable: whether a fix is asked.
        together: causes that are all to be named.
        fix: the answer's own composition of fixes, where it has one: a LoadConfig.
    """
    first = findings[0] if findings else None
    right = first is not None and first.cause in causes
    offers: list[tuple[str, dict[str, Any]]] = []
    if first is not None and first.fix is not None and first.fix.offers:
        offers.append((first.confidence, first.fix.config()))
    if fix is not None and first is not None:
        offers.append((first.confidence, fix.to_dict()))
    verdicts = [(sure, *trial.of(config)) for sure, config in offers] if trial is not None else []
    named = {finding.cause for finding in findings}
    return Score(
        name,
        first.cause if first is not None else "",
        right if told else None,
        named >= set(together) if told and together else None,
        any(verdict == "right" for _, verdict, _ in verdicts) if repairable else None,
        next((words for sure, verdict, words in verdicts if verdict == "harm" and sure != "guess"), ""),
        first is not None and first.confidence == "certain" and not right,
        offered=[config for _, config in offers],
    )


def caught(name: str, told: bool, repairable: bool, call: Callable[[], Score]) -> Score:
    """The score, or what broke on the way to it: an answer that is not there counts as a wrong one."""
    logging.disable(logging.WARNING)
    try:
        return call()
    except Exception as error:
        return Score(
            name, "", False if told else None, None, False if repairable else None,
            crashed=f"{type(error).__name__}: {str(error)[:100]}",
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
