"""Sharded checkpoints: an index file that says which key lies in which file, or a folder that has one.

The index (``model.safetensors.index.json``, ``pytorch_model.bin.index.json``) is the Hugging Face
tools': ``{"metadata": {...}, "weight_map": {key: file name}}``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from ..errors import FormatError
from ..files.regular import undisturbed
from ..signatures import Signature
from ..text import quote_list
from .base import Buffer, Flags, Source, Storage, View
from .index import read_index
from .layouts.finding import companions
from .metadata_names import merged
from .safetensors_header import TIES, ties
from .shard_pool import Opener, ShardPool

if TYPE_CHECKING:
    import torch


class ShardedSource(Source):
    """Several files that are one checkpoint.

    Args:
        index: the index file; the folder, for shards without one.
        opener: opens one shard.
        names: the shards, when there is no index; together they hold every key once.

    Raises:
        FormatError: the index is malformed, a shard is missing, or shards and index disagree.
    """

    def __init__(self, index: str, opener: Opener, names: Sequence[str] = ()) -> None:
        self.path = index
        self.pool = ShardPool(opener)
        metadata: dict[str, Any] = {}
        folder = index if names else os.path.dirname(index)
        try:
            with undisturbed(index):
                if names:
                    self.pool.open({name: os.path.join(folder, name) for name in names})
                    weight_map = joined(index, {n: tuple(s.signature) for n, s in self.pool.shards.items()})
                else:
                    weight_map, metadata = read_index(index)
                    self.pool.open(_paths(index, weight_map))
                shards = self.pool.shards
                self._home = _homes(index, weight_map, {name: s.signature for name, s in shards.items()})
        except BaseException:
            self.close()
            raise
        kinds = dict.fromkeys(shard.format for shard in shards.values())
        self.format = f"sharded {' and '.join(kinds) or 'safetensors'}"
        self.files = (
            *(() if names else (index,)),
            *(path for shard in shards.values() for path in shard.files),
        )
        self.companions = companions(folder, self.files)
        strings, unlike = merged(shard.signature.metadata for shard in shards.values())
        strings |= {name: text for name, text in metadata.items() if isinstance(text, str)}
        # huggingface_hub records ties in the index, not in the shards.
        self._alias = ties(strings, self._home)
        self._home |= {dropped: self._home[kept] for dropped, kept in self._alias.items()}
        strings = {name: text for name, text in strings.items() if name not in self._alias and name != TIES}
        self.signature = Signature(
            {key: shards[name].signature[self._alias.get(key, key)] for key, name in self._home.items()},
            _tied(self._alias, [shard.signature for shard in shards.values()]),
            strings,
        )
        notes = [f"{name}: {note}" for name, shard in shards.items() for note in shard.notes]
        if unlike:
            notes.append(
                f"of metadata that the shards say differently, the first counts: {quote_list(unlike)}"
            )
        self.state_metadata, differing = _state_metadata([shard.state_metadata for shard in shards.values()])
        if differing:
            notes.append(
                "entries of _metadata that are not kept, since the shards say different things: "
                f"{quote_list(differing)}"
            )
        self.notes = tuple(notes)
        self.surroundings = tuple(dict.fromkeys(n for shard in shards.values() for n in shard.surroundings))

    @property
    def layout(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        keys: dict[str, list[str]] = {name: [] for name in self.pool.shards}
        for key, name in self._home.items():
            keys[name].append(key)
        return tuple((name, tuple(own)) for name, own in keys.items())

    def view(self, key: str) -> View:
        name = self._home[key]
        view = self.pool.view(name, self._alias.get(key, key))
        storage = Storage((name, view.storage.id), view.storage.nbytes, view.storage.region)
        return View(storage, view.offset, view.shape, view.stride, view.dtype)

    def storage_size(self, key: str) -> int | None:
        return self.pool.storage_size(self._home[key], self._alias.get(key, key))

    def lazy(self, key: str) -> bool:
        return self.pool.lazy(self._home[key], self._alias.get(key, key))

    def flags(self, key: str) -> Flags:
        return self.pool.flags(self._home[key], self._alias.get(key, key))

    def read(self, storage: Storage, start: int, stop: int) -> Iterator[Buffer]:
        assert isinstance(storage.id, tuple)
        name, inner = storage.id
        with self.pool.use(name) as shard:
            yield from shard.read(Storage(inner, storage.nbytes, storage.region), start, stop)

    def check(self, storage: Storage) -> None:
        assert isinstance(storage.id, tuple)
        name, inner = storage.id
        with self.pool.use(name) as shard:
            shard.check(Storage(inner, storage.nbytes, storage.region))

    def tensor(self, key: str) -> torch.Tensor:
        with self.pool.use(self._home[key]) as shard:
            # A mapping holds a descriptor of its own for as long as somebody has the tensor.
            own = self._alias.get(key, key)
            return shard.loaded(own) if self.pool.crowded else shard.tensor(own)

    def loaded(self, key: str) -> torch.Tensor:
        with self.pool.use(self._home[key]) as shard:
            return shard.loaded(self._alias.get(key, key))

    def verify(self, keys: Iterable[str]) -> None:
        of: dict[str, list[str]] = {}
        for key in keys:
            of.setdefault(self._home[key], []).append(self._alias.get(key, key))
        for name, own in of.items():
            with self.pool.use(name) as shard:
                shard.verify(own)

    def value(self, key: str) -> Any:
        with self.pool.use(self._home[key]) as shard:
            return shard.value(self._alias.get(key, key))

    def check_unchanged(self) -> None:
        self.pool.check_unchanged()

    def close(self) -> None:
        self.pool.close()


def joined(folder: str, shards: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Key to shard name, of shards that have no index.

    Args:
        folder: where they lie, for messages.
        shards: shard name to its keys.

    Raises:
        FormatError: two shards hold one key.
    """
    homes: dict[str, str] = {}
    for name, keys in shards.items():
        for key in keys:
            other = homes.setdefault(key, name)
            if other != name:
                raise FormatError(
                    f"{folder}: {key!r} is in {other!r} and also in {name!r}, and no index says which of them counts; "
                    "open one of the files by itself with --part (part=True in Python)",
                    file=folder,
                    key=key,
                )
    return homes


def _paths(index: str, weight_map: dict[str, str]) -> dict[str, str]:
    """Shard name to path; all are there."""
    folder = os.path.dirname(index)
    paths = {name: os.path.join(folder, name) for name in weight_map.values()}
    missing = [name for name, path in paths.items() if not os.path.exists(path)]
    if missing:
        raise FormatError(
            f"{index}: {len(missing)} of {len(paths)} shards {'is' if len(missing) == 1 else 'are'} missing: "
            f"{quote_list(missing)}; fetch {'it' if len(missing) == 1 else 'them'} again",
            file=index,
        )
    for name, path in paths.items():
        if os.path.isdir(path):
            raise FormatError(f"{index}: the shard {name!r} is a directory", file=index)
    return paths


def _homes(index: str, weight_map: dict[str, str], shards: dict[str, Signature]) -> dict[str, str]:
    """Key to shard, every key in exactly one; the tied names of shards come with them."""
    described = {
        name: (tuple(shard), frozenset(key for group in shard.tied for key in group))
        for name, shard in shards.items()
    }
    found = disagreements(index, weight_map, described)
    for first in found:
        others = sum(1 for _ in found)
        more = f" (and {others} more disagreements, which verify lists)" if others else ""
        raise FormatError(f"{first.message}{more}", file=index, key=first.key)
    homes = dict(weight_map)
    for name, (keys, _) in described.items():
        homes |= {key: name for key in keys if key not in homes}
    return homes


def disagreements(
    index: str, weight_map: dict[str, str], shards: Mapping[str, tuple[Sequence[str], AbstractSet[str]]]
) -> Iterator[FormatError]:
    """Where an index and its shards say different things, key by key.

    Args:
        index: the index file, for messages.
        weight_map: key to shard name.
        shards: shard name to its keys and to those of them that are tied; shards that cannot be read are left out.
    """
    held = {name: set(keys) for name, (keys, _) in shards.items()}
    lost = {key for key, name in weight_map.items() if name in held and key not in held[name]}
    for key in (key for key in weight_map if key in lost):
        elsewhere = [name for name, keys in held.items() if key in keys]
        instead = f", but in {quote_list(elsewhere)}" if elsewhere else ""
        yield FormatError(
            f"{index}: {key!r} is not in the shard that the index names, {weight_map[key]!r}{instead}; fetch index and "
            "shards again",
            file=index,
            key=key,
        )
    homes = dict(weight_map)
    for name, (keys, tied) in shards.items():
        for key in keys:
            home = homes.get(key)
            if home is None and key in tied:
                homes[key] = name
            elif home is None:
                yield FormatError(
                    f"{index}: the shard {name!r} holds {key!r}, which the index does not list; fetch both again",
                    file=index,
                    key=key,
                )
            elif home != name and key not in lost:
                yield FormatError(
                    f"{index}: {key!r} is in {home!r} and also in {name!r}; which of them counts is not known",
                    file=index,
                    key=key,
                )


def _tied(alias: Mapping[str, str], shards: Iterable[Signature]) -> tuple[tuple[str, ...], ...]:
    """The groups of tied keys: those of each shard, and those that the index names."""
    groups = [list(group) for shard in shards for group in shard.tied]
    of = {key: group for group in groups for key in group}
    for dropped, kept in alias.items():
        if kept not in of:
            of[kept] = [kept]
            groups.append(of[kept])
        of[kept].append(dropped)
        of[dropped] = of[kept]
    return tuple(tuple(group) for group in groups)


def _state_metadata(shards: Iterable[dict[str, Any] | None]) -> tuple[dict[str, Any] | None, list[str]]:
    """The ``_metadata`` of all shards in one, and the modules of which they say different things; these are left out."""
    known = [metadata for metadata in shards if metadata is not None]
    merged: dict[str, Any] = {}
    differing: dict[str, None] = {}
    for metadata in known:
        for module, entry in metadata.items():
            if merged.setdefault(module, entry) != entry:
                differing[module] = None
    kept = {module: entry for module, entry in merged.items() if module not in differing}
    return (kept if known else None), list(differing)
