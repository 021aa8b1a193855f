"""What may be a key of a dictionary or a member of a set.

Hashing is the one thing here that runs on attacker-chosen values. Nested tuples that share parts take
exponential time to hash; integers that are equal modulo 2**61 - 1 (CPython's numeric hash) make a dictionary
quadratic, and so do tuples of many numbers, since the hash of a tuple is not keyed. Strings and bytes are
safe: their hash is keyed per process.
"""

from __future__ import annotations

from typing import Any

from .errors import Refused
from .tree import DeviceNode, DtypeNode, Opaque, StorageType, TensorNode, TypeNode

MAX_INT_KEY = 1 << 60
MAX_TUPLE_KEY = 8
MAX_TUPLE_INT = 1 << 31  # two such integers have fewer values than there are hashes
# Nodes are keys too: old Lightning files keep callbacks under their classes. An opaque hashes by identity,
# and so does a tensor: optimizers that are pickled whole keep their state under parameters.
_NODES = (Opaque, TensorNode, DtypeNode, DeviceNode, StorageType, TypeNode)
_ATOMS = frozenset((str, float, bool, bytes, type(None), *_NODES))
_TUPLE_ATOMS = frozenset((str, bytes, bool, type(None), *_NODES))


def check_key(key: Any) -> None:
    """Refuse a key that is not a small flat value.

    Raises:
        Refused: with the reason.
    """
    kind = type(key)
    if kind is str:
        return
    if kind is int:
        if not -MAX_INT_KEY < key < MAX_INT_KEY:
            raise Refused("an integer of more than 60 bits as dictionary key")
    elif kind is tuple:
        _check_tuple(key)
    elif kind not in _ATOMS:
        raise Refused(f"a value of type {kind.__name__} as dictionary key")


def _check_tuple(key: tuple[Any, ...]) -> None:
    numbers = 0
    for part in key[: MAX_TUPLE_KEY + 1]:
        kind = type(part)
        if kind is int and -MAX_TUPLE_INT <= part < MAX_TUPLE_INT:
            numbers += 1
        elif kind not in _TUPLE_ATOMS:
            raise Refused(f"a tuple that holds a value of type {kind.__name__} as dictionary key")
    if numbers > 2 or len(key) > MAX_TUPLE_KEY:
        raise Refused(f"a tuple of {len(key)} parts, {numbers} of them integers, as dictionary key")
