"""The opcodes that a torch file uses seldom, and the operations on what the stack holds."""

from __future__ import annotations

from collections.abc import Callable
from struct import unpack_from
from typing import Any

from .allowed import GLOBALS
from .errors import Refused, Truncated
from .keys import check_key
from .tree import Function, Opaque, OrderedNode, StorageType, TypeNode

MAX_PROTOCOL = 5
MAX_INT_BYTES = 255  # 2040 bits: beyond that Python refuses to print an integer
MAX_LINE = 4096
_WRAPPERS = frozenset(
    (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor"), ("copyreg", "__newobj__"))
)


class Rare:
    """State of the machine, and every opcode but the most frequent ones."""

    def __init__(self, data: bytes, persistent: Callable[[Any], Any]) -> None:
        self.data = data
        self.persistent = persistent
        self.pos = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: list[Any] = []
        self.sparse: dict[int, Any] = {}  # memo slots out of order, as Python 2 and forgers make them
        self._globals: dict[tuple[str, str], Any] = {}

    # -- the memo

    def put(self, index: int, value: Any) -> None:
        """Set any memo slot."""
        if index < len(self.memo):
            self.memo[index] = value
        elif index > len(self.data):  # there are fewer values than bytes
            raise Refused(f"memo index {index} in a pickle of {len(self.data)} bytes")
        else:
            self.sparse[index] = value

    def get(self, index: int) -> Any:
        """Read any memo slot."""
        if index < len(self.memo):  # newer than what `sparse` may hold
            return self.memo[index]
        if index not in self.sparse:
            raise Refused(f"memo slot {index} is read before it is set")
        return self.sparse[index]

    # -- operations on values

    def pop_mark(self) -> list[Any]:
        """The stack below the topmost mark."""
        if not self.marks:
            raise Refused("an opcode needs a mark that was never set")
        return self.marks.pop()

    def call(self, function: Any, args: Any) -> Any:
        """What `function(*args)` would be."""
        if type(args) is not tuple:
            raise Refused(f"a call with a {type(args).__name__} in place of the arguments")
        kind = type(function)
        if kind is Function:
            if Opaque in map(type, args):
                if not function.builds_tensor:
                    return Opaque(function.module, function.name, args)
                _refuse_opaque_data(function, args)
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
                target[key] = next(pairs)
        elif kind is Opaque:
            target.items = [*(target.items or ()), *flat]
        else:
            raise Refused(f"an item is set on a {kind.__name__}")

    def append(self, target: Any, items: list[Any]) -> None:
        """APPEND and APPENDS."""
        if type(target) is list:
            target.extend(items)
        elif type(target) is Opaque:
            target.items = [*(target.items or ()), *items]
        else:
            raise Refused(f"a value is appended to a {type(target).__name__}")

    def add(self, target: Any, items: list[Any]) -> None:
        """ADDITEMS."""
        if type(target) is Opaque:
            target.items = [*(target.items or ()), *items]
            return
        if type(target) is not set:
            raise Refused(f"a value is added to a {type(target).__name__}")
        for item in items:
            check_key(item)
            target.add(item)

    def build(self, target: Any, state: Any) -> None:
        """BUILD: attributes for an OrderedDict, inert state for an opaque, nothing else."""
        if type(target) is Opaque:
            target.state = state
        elif type(target) is OrderedNode and type(state) is dict:
            if any(type(name) is not str for name in state):
                raise Refused("an attribute whose name is no string")
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
        return Opaque(module, name) if known is None else known

    # -- opcodes

    def rare(self, op: int) -> None:
        """Interpret one opcode whose operand begins at `self.pos`."""
        handler = _RARE.get(op)
        if handler is None:
            raise Refused(f"opcode 0x{op:02x} is unknown or not allowed")
        handler(self)

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


def _proto(m: Rare) -> None:
    protocol = m.take(1)[0]
    if protocol > MAX_PROTOCOL:
        raise Refused(f"pickle protocol {protocol}; {MAX_PROTOCOL} is the newest there is")


def _frame(m: Rare) -> None:
    length = m.number("<Q", 8)
    if m.pos + length > len(m.data):
        raise Truncated(m.pos + length)


def _global(m: Rare) -> None:
    module = m.line()
    pair = (module, m.line())
    node = m._globals.get(pair)
    if node is None or type(node) is Opaque:
        node = m._globals[pair] = m.find_global(*pair)
    m.stack.append(node)


def _stack_global(m: Rare) -> None:
    name = m.stack.pop()
    m.stack[-1] = m.find_global(m.stack[-1], name)


def _instance(m: Rare) -> None:
    function = m.find_global(m.line(), m.line())
    args = tuple(m.pop_items())
    m.stack.append(m.call(function, args))


def _object(m: Rare) -> None:
    items = m.pop_items()
    m.stack.append(m.call(items[0], tuple(items[1:])))


def _new_object(m: Rare) -> None:
    args = m.stack.pop()
    m.stack[-1] = m.call(m.stack[-1], args)


def _new_object_ex(m: Rare) -> None:
    keywords, args = m.stack.pop(), m.stack.pop()
    if type(keywords) is not dict or (keywords and type(m.stack[-1]) is not Opaque):
        raise Refused("NEWOBJ_EX with keyword arguments")
    m.stack[-1] = m.call(m.stack[-1], args)


def _long(width: int) -> Callable[[Rare], None]:
    def read(m: Rare) -> None:
        length = m.number("<B" if width == 1 else "<i", width)
        if not 0 <= length <= MAX_INT_BYTES:
            raise Refused(f"an integer of {length} bytes")
        m.stack.append(int.from_bytes(m.take(length), "little", signed=True))

    return read


def _text_int(m: Rare) -> None:
    line = m.line()
    if line in ("00", "01"):  # protocol 0 spells False and True so
        m.stack.append(line == "01")
        return
    digits = line.removesuffix("L")
    if len(digits) > 600 or not digits.removeprefix("-").isascii() or not digits.removeprefix("-").isdigit():
        raise Refused("a text integer that is none")
    m.stack.append(int(digits))


def _text_float(m: Rare) -> None:
    try:
        m.stack.append(float(m.line()))
    except ValueError:
        raise Refused("a text float that is none") from None


def _text_string(m: Rare) -> None:
    line = m.line()
    if len(line) < 2 or line[0] not in "'\"" or line[-1] != line[0]:
        raise Refused("a quoted string without quotes")
    body = line[1:-1].encode("utf-8")
    try:
        m.stack.append(_string(body.decode("unicode_escape").encode("latin1") if b"\\" in body else body))
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise Refused("a quoted string with a bad escape") from None


def _text_unicode(m: Rare) -> None:
    try:
        m.stack.append(m.raw_line().decode("raw_unicode_escape"))
    except UnicodeDecodeError:
        raise Refused("a text string with a bad escape") from None


def _string(raw: bytes) -> str | bytes:
    # Python 2 wrote keys as 8-bit strings: text when it reads as text, else bytes.
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _sized(form: str, width: int, make: Callable[[bytes], Any]) -> Callable[[Rare], None]:
    def read(m: Rare) -> None:
        length = m.number(form, width)
        if length < 0:
            raise Refused(f"a length of {length}")
        m.stack.append(make(m.take(length)))

    return read


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise Refused("a string that is not UTF-8") from None


def _index(m: Rare) -> int:
    line = m.line()
    if not line.isascii() or not line.isdigit() or len(line) > 12:
        raise Refused(f"memo index {ascii(line)[:40]}")
    return int(line)


def _get(m: Rare) -> None:
    m.stack.append(m.get(_index(m)))


def _put(m: Rare) -> None:
    index = _index(m)
    if index == len(m.memo):
        m.memo.append(m.stack[-1])
    else:
        m.put(index, m.stack[-1])


def _memoize(m: Rare) -> None:
    if m.sparse:
        raise Refused("MEMOIZE beside numbered memo slots")
    m.memo.append(m.stack[-1])


def _append(m: Rare) -> None:
    item = m.stack.pop()
    m.append(m.stack[-1], [item])


def _appends(m: Rare) -> None:
    items = m.pop_items()
    m.append(m.stack[-1], items)


def _add_items(m: Rare) -> None:
    items = m.pop_items()
    m.add(m.stack[-1], items)


def _frozen_set(m: Rare) -> None:
    fresh: set[Any] = set()
    m.add(fresh, m.pop_items())
    m.stack.append(frozenset(fresh))


def _dict(m: Rare) -> None:
    fresh: dict[Any, Any] = {}
    m.set_items(fresh, m.pop_items())
    m.stack.append(fresh)


def _list(m: Rare) -> None:
    items = m.pop_items()
    m.stack.append(items)


def _build(m: Rare) -> None:
    state = m.stack.pop()
    m.build(m.stack[-1], state)


def _pop(m: Rare) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.stack = m.pop_mark()


def _pop_mark(m: Rare) -> None:
    m.stack = m.pop_mark()


def _duplicate(m: Rare) -> None:
    m.stack.append(m.stack[-1])


def _push(make: Callable[[], Any]) -> Callable[[Rare], None]:
    def push(m: Rare) -> None:
        m.stack.append(make())

    return push


_RARE: dict[int, Callable[[Rare], None]] = {
    0x80: _proto, 0x95: _frame, 0x63: _global, 0x93: _stack_global, 0x69: _instance, 0x6F: _object,
    0x81: _new_object, 0x92: _new_object_ex, 0x62: _build,
    0x8A: _long(1), 0x8B: _long(4), 0x49: _text_int, 0x4C: _text_int, 0x46: _text_float,
    0x47: lambda m: m.stack.append(m.number(">d", 8)),
    0x53: _text_string, 0x56: _text_unicode,
    0x54: _sized("<i", 4, _string), 0x55: _sized("<B", 1, _string),
    0x8C: _sized("<B", 1, _utf8), 0x8D: _sized("<Q", 8, _utf8),
    0x42: _sized("<I", 4, bytes), 0x43: _sized("<B", 1, bytes), 0x8E: _sized("<Q", 8, bytes),
    0x96: _sized("<Q", 8, bytearray),
    0x67: _get, 0x70: _put, 0x94: _memoize,
    0x61: _append, 0x65: _appends, 0x90: _add_items, 0x91: _frozen_set, 0x64: _dict, 0x6C: _list,
    0x30: _pop, 0x31: _pop_mark, 0x32: _duplicate,
    0x4E: _push(lambda: None), 0x88: _push(lambda: True),
    0x7D: _push(dict), 0x5D: _push(list), 0x8F: _push(set),
}  # fmt: skip
