"""A pickled module as the state_dict that ``module.state_dict()`` would give, from its attributes alone.

torch's own `state_dict` takes the parameters, the buffers that are persistent, ``_extra_state``, then the children, in
the order in which they were registered (torch/nn/modules/module.py). What a class does differently is in its code,
which is not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..pickled import Opaque
from .node import Described, described
from .versions import version_of

MAX_KEYS = 1_000_000
MAX_TEXT = 1 << 26  # characters of all keys together
MAX_LEVELS = 256
_TABLES = ("_parameters", "_buffers", "_modules")
# Attributes that say that the module does more than torch's own when it is saved.
_HOOKS = ("_state_dict_hooks", "_state_dict_pre_hooks")


# Rooms of torch whose classes keep their weights packed, outside the tables.
_QUANTISED = re.compile(r"(?:__torch__\.)?torch\.(?:ao\.)?nn\.(?:\w+\.)*quantized\.")


class NoStateDict(Exception):
    """Why an object that looks like a module has no state_dict here."""


def is_module(node: Any) -> bool:
    """Whether an opaque value has the attributes of an `nn.Module`."""
    return _is_module_state(attributes(node))


def _is_module_state(state: Any) -> bool:
    return type(state) is dict and all(isinstance(state.get(name), dict) for name in _TABLES)


def attributes(node: Any) -> dict[Any, Any] | None:
    """The attributes of an object, when its state is what Python pickles by default."""
    state = node.state if type(node) is Opaque else None
    if type(state) is tuple and len(state) == 2 and all(part is None or type(part) is dict for part in state):
        return {**(state[0] or {}), **(state[1] or {})}  # the second are its slots
    if type(state) is dict or type(node) is not Opaque or state is not None:
        return state if type(state) is dict else None
    args = node.args or ()
    if (node.module, node.name) == ("torch._dynamo.eval_frame", "OptimizedModule") and args:
        return {
            "_parameters": {},
            "_buffers": {},
            "_modules": {"_orig_mod": args[0]},
        }  # what torch.compile makes
    return next(
        (part for part in args[:2] if _is_module_state(part)), None
    )  # torch.fx: what traces and exports make


def state_dict(module: Opaque) -> Described:
    """What ``module.state_dict()`` would give.

    Args:
        module: for which `is_module` is true.

    Raises:
        NoStateDict: modules that contain themselves, nameless or countless ones.
    """
    walk = Walk(module)
    state = walk.run(module)
    state.notes = walk.notes(module.label)
    return state


def _spectral_norm(hook: Any) -> str | None:
    """The parameter whose spectral norm a hook of torch's own writes down, as version 1; None for any other hook."""
    if type(hook) is not Opaque or (hook.module, hook.name) != (
        "torch.nn.utils.spectral_norm",
        "SpectralNormStateDictHook",
    ):
        return None
    norm = attributes((attributes(hook) or {}).get("fn")) or {}
    name = norm.get("name")
    return name if type(name) is str else None


class Walk:
    """Puts the state_dict together.

    Args:
        module: the outermost module.
    """

    def __init__(self, module: Opaque) -> None:
        self.state = described(module.label, module, module=True)
        self.versions: dict[str, Any] = {}
        self.own: dict[str, None] = {}  # classes that are not torch's
        self.hooked: dict[str, None] = {}
        self.text = 0

    def run(self, module: Opaque) -> Described:
        """The state_dict, without notes.

        Raises:
            NoStateDict: there is none.
        """
        stack: list[tuple[str, Opaque | None]] = [("", module)]
        path: list[int] = []  # the modules between the first one and here
        while stack:
            prefix, node = stack.pop()
            if node is None:
                path.pop()
                continue
            if id(node) in path:
                raise NoStateDict("a module contains itself")
            if len(path) >= MAX_LEVELS:
                raise NoStateDict(f"modules are nested more than {MAX_LEVELS} deep")
            if _QUANTISED.match(node.module + "."):
                raise NoStateDict(f"{node.label} keeps its weights packed, which is not read")
            path.append(id(node))
            stack.append(("", None))
            stack.extend(reversed(self._enter(node, prefix)))
        if self.versions:
            metadata = self.state.attributes["_metadata"] = {}
            metadata.update(self.versions)
        return self.state

    def tables(self, node: Opaque, place: str) -> Iterable[dict[Any, Any]]:
        """What a module holds by name: its parameters, its buffers that are saved, its children.

        Args:
            node: the module.
            place: its path; its version is written down under it.
        """
        state = attributes(node)
        assert state is not None
        version = version_of(node.module, node.name)
        if version is not None:
            self.versions[place] = {"version": version}
        else:
            self.own[node.label] = None
        self._hooks(node.label, state, self.versions.get(place, {}))
        hidden = state.get("_non_persistent_buffers_set")
        hidden = hidden if isinstance(hidden, (set, frozenset)) else ()
        buffers = {name: value for name, value in state["_buffers"].items() if name not in hidden}
        return state["_parameters"], buffers, state["_modules"]

    def is_module(self, node: Any) -> bool:
        """Whether a child is one."""
        return is_module(node)

    def _enter(self, node: Opaque, prefix: str) -> list[tuple[str, Opaque | None]]:
        parameters, buffers, modules = self.tables(node, prefix[:-1])
        for table in (parameters, buffers):
            for name, value in table.items():
                self._put(prefix, name, value)
        children: list[tuple[str, Opaque | None]] = []
        for name, child in modules.items():
            if child is None:
                continue
            if not self.is_module(child):
                raise NoStateDict(
                    f"its part {self._name(prefix, name)!r} is no module that was saved by Python's defaults"
                )
            self._spend(len(prefix) + len(self._name(prefix, name)) + 1)
            children.append((f"{prefix}{name}.", child))
        return children

    def _hooks(self, label: str, state: dict[Any, Any], versions: dict[str, Any]) -> None:
        for name in _HOOKS:
            hooks = state.get(name)
            for hook in hooks.values() if isinstance(hooks, dict) else ():
                normed = _spectral_norm(hook)
                if normed is None:
                    self.hooked[label] = None
                else:
                    versions.setdefault("spectral_norm", {})[f"{normed}.version"] = 1

    def _put(self, prefix: str, name: Any, value: Any) -> None:
        if value is None:
            return
        key = prefix + self._name(prefix, name)
        if key in self.state:
            raise NoStateDict(f"two of its tensors are called {key[:120]!r}")
        self._spend(len(key))
        self.state[key] = value

    def _spend(self, characters: int) -> None:
        self.text += characters
        if self.text > MAX_TEXT or len(self.state) > MAX_KEYS:
            raise NoStateDict("shared modules unfold to more keys than any model has")

    @staticmethod
    def _name(prefix: str, name: Any) -> str:
        if type(name) is not str:
            raise NoStateDict(f"a part of {prefix[:-1]!r} has a name that is no string")
        return name

    def notes(self, label: str) -> tuple[str, ...]:
        """What a person should be told."""
        notes = [f"a whole model, pickled as {label}: its state_dict is told from its attributes"]
        if self.own:
            shown = ", ".join(list(self.own)[:4]) + (
                f" and {len(self.own) - 4} more" if len(self.own) > 4 else ""
            )
            notes.append(
                f"the code of {shown} is not looked up: what a state_dict() of its own, or get_extra_state(), would do "
                "differently is not known"
            )
        if self.hooked:
            notes.append(
                f"{', '.join(list(self.hooked)[:4])} has hooks on its state_dict, whose effect is not known"
            )
        return tuple(notes)
