"""The opcodes that a torch file uses seldom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import values
from .errors import Refused, Truncated
from .state import State
from .tree import Function, Opaque

MAX_PROTOCOL = 5
MAX_INT_BYTES = 255  # 2040 bits: beyond that Python refuses to print an integer


def _proto(m: State) -> None:
    protocol = m.take(1)[0]
    if protocol > MAX_PROTOCOL:
        raise Refused(f"pickle protocol {protocol}; {MAX_PROTOCOL} is the newest there is")


def _frame(m: State) -> None:
    begun = m.pos - 1
    length = m.number("<Q", 8)
    if begun < m.frame_end:
        raise Refused("a frame begins inside another")
    m.frame_end = m.pos + length
    if m.frame_end > len(m.data):
        raise Truncated(m.frame_end)


def _global(m: State) -> None:
    module = m.line()
    pair = (module, m.line())
    node = m._globals.get(pair)
    if node is None or type(node) is Opaque:
        node = m._globals[pair] = m.find_global(*pair)
    m.stack.append(node)


def _stack_global(m: State) -> None:
    name = m.stack.pop()
    m.stack[-1] = m.find_global(m.stack[-1], name)


def _instance(m: State) -> None:
    function = m.find_global(m.line(), m.line())
    args = tuple(m.pop_items())
    m.stack.append(m.call(function, args))


def _object(m: State) -> None:
    items = m.pop_items()
    m.stack.append(m.call(items[0], tuple(items[1:])))


def _new_object(m: State) -> None:
    args = m.stack.pop()
    m.stack[-1] = _instance_of(m, args)


def _new_object_ex(m: State) -> None:
    keywords, args = m.stack.pop(), m.stack.pop()
    if type(keywords) is not dict or (keywords and type(m.stack[-1]) is not Opaque):
        raise Refused("NEWOBJ_EX with keyword arguments")
    m.stack[-1] = _instance_of(m, args)


def _instance_of(m: State, args: Any) -> Any:
    """What NEWOBJ makes: unlike a call it takes classes only, not functions, nor what a class made before."""
    made = m.stack[-1]
    if (type(made) is Function and not made.is_type) or (type(made) is Opaque and made.args is not None):
        raise Refused(f"NEWOBJ of {made.module}.{made.name}, which is no class here")
    if type(made) is Function and made.describe in _FILLED_LATER and type(args) is tuple:
        args = ()  # `__new__` of these looks at no arguments; `__init__` would
    return m.call(made, args)


# Classes whose instances are empty after `__new__`, whatever it is given.
_FILLED_LATER = (values.ordered_dict, values.plain_set, values.byte_array)


def _long(width: int) -> Callable[[State], None]:
    def read(m: State) -> None:
        length = m.number("<B" if width == 1 else "<i", width)
        if not 0 <= length <= MAX_INT_BYTES:
            raise Refused(f"an integer of {length} bytes")
        m.stack.append(int.from_bytes(m.take(length), "little", signed=True))

    return read


def _text_int(m: State) -> None:
    line = m.line()
    if line in ("00", "01"):  # protocol 0 spells False and True so
        m.stack.append(line == "01")
        return
    digits = line.removesuffix("L")
    if len(digits) > 600 or not digits.removeprefix("-").isascii() or not digits.removeprefix("-").isdigit():
        raise Refused("a text integer that is none")
    m.stack.append(int(digits))


def _text_float(m: State) -> None:
    try:
        m.stack.append(float(m.line()))
    except ValueError:
        raise Refused("a text float that is none") from None


def _text_string(m: State) -> None:
    line = m.line()
    if len(line) < 2 or line[0] not in "'\"" or line[-1] != line[0]:
        raise Refused("a quoted string without quotes")
    body = line[1:-1].encode("utf-8")
    try:
        m.stack.append(_string(body.decode("unicode_escape").encode("latin1") if b"\\" in body else body))
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise Refused("a quoted string with a bad escape") from None


def _text_unicode(m: State) -> None:
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


def _sized(form: str, width: int, make: Callable[[bytes], Any]) -> Callable[[State], None]:
    def read(m: State) -> None:
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


def _index(m: State) -> int:
    line = m.line()
    if not line.isascii() or not line.isdigit() or len(line) > 12:
        raise Refused(f"memo index {ascii(line)[:40]}")
    return int(line)


def _get(m: State) -> None:
    m.stack.append(m.get(_index(m)))


def _put(m: State) -> None:
    index = _index(m)
    if index == len(m.memo):
        m.memo.append(m.stack[-1])
    else:
        m.put(index, m.stack[-1])


def _memoize(m: State) -> None:
    if m.sparse:
        raise Refused("MEMOIZE beside numbered memo slots")
    m.memo.append(m.stack[-1])


def _append(m: State) -> None:
    item = m.stack.pop()
    m.append(m.stack[-1], [item])


def _appends(m: State) -> None:
    items = m.pop_items()
    m.append(m.stack[-1], items)


def _add_items(m: State) -> None:
    items = m.pop_items()
    m.add(m.stack[-1], items)


def _frozen_set(m: State) -> None:
    m.count_container()
    fresh: set[Any] = set()
    m.add(fresh, m.pop_items())
    m.stack.append(frozenset(fresh))


def _dict(m: State) -> None:
    m.count_container()
    fresh: dict[Any, Any] = {}
    m.set_items(fresh, m.pop_items())
    m.stack.append(fresh)


def _list(m: State) -> None:
    m.count_container()
    items = m.pop_items()
    m.stack.append(items)


def _build(m: State) -> None:
    state = m.stack.pop()
    m.build(m.stack[-1], state)


def _pop(m: State) -> None:
    if m.stack:
        m.drop(m.stack.pop())
    else:
        m.stack = m.pop_mark()


def _pop_mark(m: State) -> None:
    for value in m.pop_items():
        m.drop(value)


def _duplicate(m: State) -> None:
    m.stack.append(m.stack[-1])


def _push(make: Callable[[], Any]) -> Callable[[State], None]:
    def push(m: State) -> None:
        m.stack.append(make())

    return push


def _container(make: Callable[[], Any]) -> Callable[[State], None]:
    def push(m: State) -> None:
        m.count_container()
        m.stack.append(make())

    return push


RARE: dict[int, Callable[[State], None]] = {
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
    0x7D: _container(dict), 0x5D: _container(list), 0x8F: _container(set),
}  # fmt: skip
