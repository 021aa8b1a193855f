"""The state of the pickle machine, and what opcodes do to values: descriptions, budgets, refusals."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from struct import unpack_from
from typing import Any

from .allowed import GLOBALS
from .errors import Refused, Truncated
from .keys import check_key
from .tree import Function, Opaque, OrderedNode, StorageType, TensorNode, TypeNode

MAX_LINE = 4096
MIN_WORK = 1 << 18
MIN_CONTAINERS = 100_000
MIN_TUPLES = 1_000_000  # small ones, of which bodies of numbers may have many
MAX_MARKS = 10_000  # open at a time; each level of nesting has one or two
_HOLDERS = (TensorNode, Opaque, dict, list, tuple)
_SIZED = (list, tuple, dict, str, bytes)
_WRAPPERS = frozenset(
    (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor"), ("copyreg", "__newobj__"))
)


class State:
    """Stack, marks and memo of one pickle that is being interpreted.

    Args:
        data: bytes that begin somewhere with a pickle.
        persistent: describes a persistent id.
        size: how long the pickle is, when `data` is only its beginning.
    """

    def __init__(self, data: bytes, persistent: Callable[[Any], Any], size: int | None = None) -> None:
        self.data = data
        self.size = len(data) if size is None else size
        self.persistent = persistent
        self.pos = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: list[Any] = []
        self.sparse: dict[int, Any] = {}  # memo slots out of order, as Python 2 and forgers make them
        self.work = 0
        self.frame_end = 0
        # An empty list takes one byte here and two hundred in memory; a tensor, with its one dictionary, takes fifty.
        self.containers = MIN_CONTAINERS + self.size // 8
        self._globals: dict[tuple[str, str], Any] = {}

    def drop(self, value: Any) -> None:
        """Refuse to lose what may hold a tensor: torch would make it, and what nobody holds is never proved."""
        if isinstance(value, _HOLDERS) and (isinstance(value, (TensorNode, Opaque)) or len(value) > 0):
            raise Refused(f"a {type(value).__name__} is made and dropped")

    # -- the memo

    def put(self, index: int, value: Any) -> None:
        """Set any memo slot."""
        if index < len(self.memo):
            self.memo[index] = value
        elif index > self.size:  # there are fewer values than bytes
            raise Refused(f"memo index {index} in a pickle of {self.size} bytes")
        else:
            self.sparse[index] = value

    def get(self, index: int) -> Any:
        """Read any memo slot."""
        if index < len(self.memo):  # newer than what `sparse` may hold
            return self.memo[index]
        if index not in self.sparse:
            raise Refused(f"memo slot {index} is read before it is set")
        return self.sparse[index]

    def spend(self, count: int) -> None:
        """Account for a copy of `count` elements: one memoised list, copied by many short calls, would
        multiply a small file.
        """
        self.work += count
        if self.work > max(MIN_WORK, 4 * self.size):
            raise Refused("calls that copy the same values over and over")

    def count_container(self) -> None:
        """Account for a new list, dictionary, set, or result of a call."""
        self.containers -= 1
        if self.containers < 0:
            raise Refused(f"too many lists, dictionaries and calls for a pickle of {self.size} bytes")

    def check_memory(self, tuples: int) -> None:
        """Account for what takes one byte here and up to eighty in memory, every few thousand opcodes.

        Args:
            tuples: how many were made so far.
        """
        if len(self.marks) > MAX_MARKS:
            raise Refused(f"more than {MAX_MARKS} marks that nothing closes")
        if tuples > MIN_TUPLES + self.size // 8:
            raise Refused(f"too many tuples for a pickle of {self.size} bytes")

    # -- operations on values

    def pop_mark(self) -> list[Any]:
        """The stack below the topmost mark."""
        if not self.marks:
            raise Refused("an opcode needs a mark that was never set")
        return self.marks.pop()

    def call(self, function: Any, args: Any) -> Any:
        """What `function(*args)` would be."""
        self.count_container()
        if type(args) is not tuple:
            raise Refused(f"a call with a {type(args).__name__} in place of the arguments")
        kind = type(function)
        if kind is Function:
            if Opaque in map(type, args):
                if not function.builds_tensor:
                    return Opaque(function.module, function.name, args)
                _refuse_opaque_data(function, args)
            elif not function.builds_tensor:
                self.spend(sum(len(arg) for arg in args if isinstance(arg, _SIZED)))
            return function.describe(args)
        if kind is Opaque:
            if (function.module, function.name) in _WRAPPERS and args and type(args[0]) is Opaque:
                return Opaque(args[0].module, args[0].name, args[1:])
            return Opaque(function.module, function.name, args)
        if kind is StorageType or kind is TypeNode:
            raise Refused(f"{function.module}.{function.name} is called: that would only allocate memory")
        raise Refused(f"a {kind.__name__} is called")

    def set_items(self, target: Any, flat: list[Any]) -> None:
        """SETITEM and SETITEMS; `flat` is key, value, key, value, ..."""
        if len(flat) % 2:
            raise Refused("SETITEMS with a key that has no value")
        kind = type(target)
        if kind is dict or kind is OrderedNode:
            pairs = iter(flat)
            for key in pairs:
                if type(key) is not str:
                    check_key(key)
                if key in target:
                    self.drop(target[key])
                target[key] = next(pairs)
        elif kind is Opaque:
            target.add(flat, pairs=True)
        else:
            raise Refused(f"an item is set on a {kind.__name__}")

    def append(self, target: Any, items: list[Any]) -> None:
        """APPEND and APPENDS."""
        if type(target) is list:
            target.extend(items)
        elif type(target) is Opaque:
            target.add(items)
        else:
            raise Refused(f"a value is appended to a {type(target).__name__}")

    def add(self, target: Any, items: list[Any]) -> None:
        """ADDITEMS."""
        if type(target) is Opaque:
            target.add(items)
            return
        if type(target) is not set:
            raise Refused(f"a value is added to a {type(target).__name__}")
        for item in items:
            check_key(item)
            target.add(item)

    def build(self, target: Any, state: Any) -> None:
        """BUILD: attributes for an OrderedDict, inert state for an opaque, nothing else."""
        if type(target) is Opaque:
            self.drop(target.state)
            target.state = state
        elif type(target) is OrderedNode and type(state) is dict:
            self.spend(len(state))
            for name in state:
                if type(name) is not str:
                    raise Refused("an attribute whose name is no string")
                if hasattr(OrderedDict, name):
                    raise Refused(f"an attribute {name!r} would hide what an OrderedDict does")
                if name in target.attributes:
                    self.drop(target.attributes[name])
            target.attributes.update(state)
        else:
            raise Refused(f"BUILD of a {type(target).__name__} with a {type(state).__name__}")

    def find_global(self, module: Any, name: Any) -> Any:
        """The node of an allow-listed global, or an opaque one; nothing is looked up."""
        if type(module) is not str or type(name) is not str:
            raise Refused("a global whose name is no string")
        if len(module) > MAX_LINE or len(name) > MAX_LINE:
            raise Refused("a global with an overlong name")
        known = GLOBALS.get((module, name))
        if known is None:
            self.count_container()
            return Opaque(module, name)
        return known

    # -- operands

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self.pos + count
        if end > len(self.data):
            raise Truncated(end)
        chunk = self.data[self.pos : end]
        self.pos = end
        return chunk

    def number(self, form: str, width: int) -> Any:
        """The next fixed-width number."""
        return unpack_from(form, self.take(width))[0]

    def raw_line(self) -> bytes:
        """The next text operand, up to its newline."""
        end = self.data.find(b"\n", self.pos, self.pos + MAX_LINE)
        if end < 0:
            if self.pos + MAX_LINE > len(self.data):
                raise Truncated(len(self.data) + 1)
            raise Refused("a text operand without an end")
        raw = self.data[self.pos : end]
        self.pos = end + 1
        return raw

    def line(self) -> str:
        """The next text operand as text."""
        try:
            return self.raw_line().decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("a text operand that is not UTF-8") from None

    def pop_items(self) -> list[Any]:
        """The values above the topmost mark, which is removed."""
        items = self.stack
        self.stack = self.pop_mark()
        return items


def _refuse_opaque_data(function: Function, args: tuple[Any, ...]) -> None:
    # _rebuild_from_type_v2(func, type, args, state) and _rebuild_wrapper_subclass(cls, ...) carry a class,
    # which makes an unsupported tensor; any other opaque argument would be data.
    classes = {0, 1} if "from_type" in function.name else {0} if "wrapper" in function.name else set()
    for i, arg in enumerate(args):
        if type(arg) is Opaque and i not in classes:
            raise Refused(f"{arg.label} is used to build a tensor")
