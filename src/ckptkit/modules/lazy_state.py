"""A state_dict whose tensors are made when a module asks for them, as torch's loading hooks expect one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any


class LazyState(MutableMapping[str, Any]):
    """Keys with values, or with functions that make them.

    Hooks may read, set, pop and delete. A made value is handed out and not kept, so that memory
    holds one tensor at a time.

    Args:
        makers: key to the function that makes its value.
        metadata: the state_dict's ``_metadata``.
    """

    def __init__(self, makers: dict[str, Callable[[], Any]], metadata: dict[str, Any] | None = None) -> None:
        self._makers: dict[str, Callable[[], Any]] = dict(makers)
        self._values: dict[str, Any] = {}
        self._order: dict[str, None] = dict.fromkeys(makers)
        self._metadata = metadata

    def __getitem__(self, key: str) -> Any:
        if key in self._values:
            return self._values[key]
        return self._makers[key]()

    def maker(self, key: str) -> Callable[[], Any] | None:
        """What makes the value of a key; None when it is there already, as what a hook has set is."""
        return None if key in self._values else self._makers[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._makers.pop(key, None)
        self._values[key] = value
        self._order.setdefault(key)

    def __delitem__(self, key: str) -> None:
        del self._order[key]
        self._makers.pop(key, None)
        self._values.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._order

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._order))

    def __len__(self) -> int:
        return len(self._order)
