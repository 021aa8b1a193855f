"""A TorchScript module as the state_dict that ``torch.jit.load(file).state_dict()`` would give.

Its pickle holds each object with all its attributes; which of them are parameters and buffers, the program says in
lines like ``__parameters__ = ["weight", "bias", ]`` of the class. These lines are read, and the program is not run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..pickled import Opaque
from .modules import NoStateDict, Walk
from .node import Described

MAX_LINE = 1 << 20
_NAMES = re.compile(r'  (__parameters__|__buffers__) = \[((?:"[^"\\\n]{1,4096}", ?)*)\]')
_CLASS = re.compile(r"class (\w{1,4096})\(Module\):")
Code = Callable[[str], "str | None"]


class _Tables(NamedTuple):
    """The names that a class declares."""

    parameters: frozenset[str]
    buffers: frozenset[str]


def script_state(module: Opaque, code: Code) -> Described:
    """What ``torch.jit.load(file).state_dict()`` would give.

    Args:
        module: what the archive's ``data.pkl`` describes.
        code: the text of a file below ``code/``; None when there is none.

    Raises:
        NoStateDict: it is no module, contains itself, or its class cannot be read.
    """
    walk = _Script(module, code)
    if not walk.is_module(module):
        raise NoStateDict("the object is no module")
    state = walk.run(module)
    state.notes = (
        f"a TorchScript program of {module.label}: its parameters and buffers are read, its code is not run and not kept",
    )
    return state


class _Script(Walk):
    def __init__(self, module: Opaque, code: Code) -> None:
        super().__init__(module)
        self._code = code
        self._classes: dict[str, dict[str, _Tables]] = {}

    def is_module(self, node: Any) -> bool:
        return type(node) is Opaque and type(node.state) is dict and self._declared(node) is not None

    def tables(self, node: Opaque, place: str) -> Iterable[dict[Any, Any]]:
        declared = self._declared(node)
        assert declared is not None
        self.versions[place] = {"version": 1}
        state = node.state
        parameters = {name: value for name, value in state.items() if name in declared.parameters}
        buffers = {name: value for name, value in state.items() if name in declared.buffers}
        modules = {name: value for name, value in state.items() if self.is_module(value)}
        return parameters, buffers, modules

    def _declared(self, node: Opaque) -> _Tables | None:
        if not node.module.startswith("__torch__"):
            return None
        if node.module not in self._classes:
            text = self._code(node.module.replace(".", "/") + ".py")
            self._classes[node.module] = {} if text is None else _classes(text)
        return self._classes[node.module].get(node.name)


def _classes(text: str) -> dict[str, _Tables]:
    """The modules that a file of the program declares."""
    found: dict[str, _Tables] = {}
    names: dict[str, frozenset[str]] = {}
    current = ""
    for line in text.split("\n"):
        if not line.startswith((" ", "\t")):
            if current:
                found[current] = _Tables(
                    names.get("__parameters__", frozenset()), names.get("__buffers__", frozenset())
                )
            declared = _CLASS.fullmatch(line)
            current, names = (declared[1] if declared else ""), {}
        elif current and line.startswith(("  __parameters__", "  __buffers__")):
            listed = _NAMES.fullmatch(line) if len(line) <= MAX_LINE else None
            if listed is None:
                raise NoStateDict(
                    f"the class {current} does not say plainly which of its attributes are saved"
                )
            names[listed[1]] = frozenset(re.findall(r'"([^"]*)"', listed[2]))
    if current:
        found[current] = _Tables(
            names.get("__parameters__", frozenset()), names.get("__buffers__", frozenset())
        )
    return found
