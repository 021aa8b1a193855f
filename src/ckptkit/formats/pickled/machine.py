"""The restricted pickle machine: an iterative interpreter of an opcode allow-list.

Opcodes and their layout are those of CPython's ``Lib/pickletools.py``, protocols 0 to 5. Globals are compared with
`allowed.GLOBALS` and never resolved; calls are described by `tensors` and `values` and never made. No opcode recurses,
and no length in the stream is believed before it is compared with the bytes that are there.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it so
from typing import Any

from .allowed import GLOBALS
from .errors import Refused, Truncated
from .rare import RARE
from .state import State
from .tree import OrderedNode

MAX_OPCODES = 100_000_000
STEP = 1 << 16  # bytes between two looks at what they have become
ORDERED_DICT = GLOBALS["collections", "OrderedDict"]
_U4 = Struct("<I").unpack_from
_I4 = Struct("<i").unpack_from
_U2 = Struct("<H").unpack_from
Persistent = Callable[[Any], Any]


class Machine(State):
    """Runs one pickle.

    Args:
        data: bytes that begin somewhere with a pickle.
        persistent: describes a persistent id; raises `Refused` for one it does not know.
        size: how long the pickle is, when `data` is only its beginning.
    """

    def run(self, start: int = 0) -> tuple[Any, int]:
        """Interpret the pickle at `start`.

        Returns:
            What it describes, and the position behind its STOP.

        Raises:
            Refused: it breaks a law; `self.pos` is near the place.
            Truncated: it needs more bytes than there are.
        """
        self.pos = start
        try:
            value = self._loop()
        except (IndexError, StructError):
            # Both an operand beyond the last byte and a pop from an empty stack end here.
            if self.pos + 9 > len(self.data):
                raise Truncated(len(self.data) + 1) from None
            raise Refused("an opcode finds too few values on the stack") from None
        if self.stack or self.marks:
            raise Refused("values are left on the stack at STOP")
        return value, self.pos

    def _loop(self) -> Any:  # noqa: C901 - see below
        # One long function on purpose: it runs some thirty times per tensor, and local names, with the most
        # frequent opcodes first, are what makes a hundred thousand keys take a second.
        data, memo, marks = self.data, self.memo, self.marks
        stack = self.stack
        size = len(data)
        pos = self.pos
        alarm = self.frame_end = 0
        frame_end = size + 1
        tuples = 0
        try:
            for _ in range(MAX_OPCODES):
                if pos >= alarm:
                    if pos > frame_end:
                        # CPython reads frame by frame, and what it makes of this depends on where the pickle lies.
                        raise Refused("an opcode reaches over the end of its frame")
                    if pos == frame_end:
                        frame_end = size + 1
                    self.check_memory(tuples)
                    alarm = min(frame_end, pos + STEP)
                op = data[pos]
                pos += 1
                if op == 0x72:  # LONG_BINPUT
                    index = _U4(data, pos)[0]
                    pos += 4
                    if index == len(memo):  # as every pickler numbers them
                        memo.append(stack[-1])
                    else:
                        self.put(index, stack[-1])
                elif op == 0x71:  # BINPUT
                    index = data[pos]
                    pos += 1
                    if index == len(memo):
                        memo.append(stack[-1])
                    else:
                        self.put(index, stack[-1])
                elif op == 0x4B:  # BININT1
                    stack.append(data[pos])
                    pos += 1
                elif op == 0x68:  # BINGET
                    stack.append(self.get(data[pos]) if data[pos] >= len(memo) else memo[data[pos]])
                    pos += 1
                elif op == 0x58:  # BINUNICODE
                    end = pos + 4 + _U4(data, pos)[0]
                    if end > size:
                        raise Truncated(end)
                    stack.append(_text(data[pos + 4 : end]))
                    pos = end
                elif op == 0x52:  # REDUCE
                    args = stack.pop()
                    if args == () and stack[-1] is ORDERED_DICT:
                        self.count_container()
                        stack[-1] = OrderedNode()
                    else:
                        stack[-1] = self.call(stack[-1], args)
                elif op == 0x28:  # MARK
                    marks.append(stack)
                    stack = self.stack = []
                elif op == 0x74:  # TUPLE
                    items = tuple(stack)
                    tuples += 1
                    stack = self.stack = self.pop_mark()
                    stack.append(items)
                elif op == 0x86:  # TUPLE2
                    last = stack.pop()
                    stack[-1] = (stack[-1], last)
                    tuples += 1
                elif op == 0x85:  # TUPLE1
                    stack[-1] = (stack[-1],)
                    tuples += 1
                elif op == 0x4D:  # BININT2
                    stack.append(_U2(data, pos)[0])
                    pos += 2
                elif op == 0x4A:  # BININT
                    stack.append(_I4(data, pos)[0])
                    pos += 4
                elif op == 0x6A:  # LONG_BINGET
                    stack.append(self.get(_U4(data, pos)[0]))
                    pos += 4
                elif op == 0x51:  # BINPERSID
                    stack[-1] = self.persistent(stack[-1])
                elif op == 0x29:  # EMPTY_TUPLE
                    stack.append(())
                elif op == 0x89:  # NEWFALSE
                    stack.append(False)
                elif op == 0x87:  # TUPLE3
                    last, middle = stack.pop(), stack.pop()
                    stack[-1] = (stack[-1], middle, last)
                    tuples += 1
                elif op == 0x75:  # SETITEMS
                    flat = stack
                    stack = self.stack = self.pop_mark()
                    self.set_items(stack[-1], flat)
                elif op == 0x73:  # SETITEM
                    value, key = stack.pop(), stack.pop()
                    self.set_items(stack[-1], [key, value])
                elif op == 0x2E:  # STOP
                    self.pos = pos
                    if pos < self.frame_end:
                        raise Refused("the pickle stops inside a frame")
                    return stack.pop()
                else:
                    self.pos = pos
                    handler = RARE.get(op)
                    if handler is None:
                        raise Refused(f"opcode 0x{op:02x} is unknown or not allowed")
                    handler(self)
                    stack, pos = self.stack, self.pos
                    if pos < self.frame_end:
                        frame_end = self.frame_end
                        if frame_end < alarm:
                            alarm = frame_end
            raise Refused(f"more than {MAX_OPCODES} opcodes")
        except Exception:
            self.pos = max(pos, self.pos)
            raise


def _text(raw: bytes) -> str:
    # surrogatepass as in CPython; lone surrogates are refused later, where the key can be named.
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise Refused("a string that is not UTF-8") from None
