"""An opened torch file as a `Source`: the root's tensors as proved views, everything else by name."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

from ..dtypes import nbytes
from ..errors import FormatError
from ..signatures import OBJECT, Signature, TensorInfo, tied_groups
from ..text import quote_list
from . import torch_remarks as remarks
from .base import Buffer, Flags, OptimizerState, Source, Storage, View
from .described import Described
from .expanded import Expansion
from .optimizers import optimizer_states
from .pickled import StorageNode, TensorNode
from .root_candidates import dotted
from .roots import NOTHING, choose_root
from .torch_bytes import Bytes
from .torch_entries import named_entries, strange, unheld
from .torch_places import attributes_of, beside, inside_object, placed, walk
from .torch_values import plain_value
from .torch_views import extent, prove, readable

if TYPE_CHECKING:
    import torch


class TorchSource(Source):
    """A torch file, zip or legacy.

    Args:
        path: the file.
        kind: ``torch zip`` or ``torch legacy``.
        tree: what its pickle describes.
        storages: the storages that are in the file, by key.
        data: access to their bytes.
        root: ``auto``, ``none`` or a dotted path.

    Attributes:
        tree: the whole tree, for writers that keep the surroundings.
        root_path: the keys that lead to the root.
        root_node: the root as it stands in the tree.
        entries: what the root holds, by key.
        foreign: the keys of entries that can only be named, with what they are.

    Raises:
        FormatError: a tensor is not inside its storage, or a key of the root is no text.
        RootError: no root, or more than one.
    """

    def __init__(
        self, path: str, kind: str, tree: Any, storages: Mapping[str, Storage], data: Bytes, root: str
    ) -> None:
        self.path = path
        self.files = (path,)
        self.format = kind
        self.tree = tree
        self.data = data
        self.storages = storages
        self._views: dict[int, View | None] = {}
        self._decorated: list[tuple[str, TensorNode]] = []
        choice = choose_root(tree, root, path)
        self.root_path = choice.path
        self.root_node: dict[Any, Any] = choice.node
        self.entries, notes = named_entries(choice.entries, path, dotted(choice.path))
        self.foreign: dict[str, str] = {}
        self._prove_root()
        opaque = self._prove_rest()
        self.signature = Signature(
            {key: self._info(key, value) for key, value in self.entries.items()},
            tied=tied_groups(self._identities()),
            root=dotted(choice.path) or None,
            roots=choice.roots,
        )
        self.state_metadata = self._state_metadata()
        if isinstance(self.root_node, Described) or inside_object(tree, choice.path):
            self.frozen = "file of pickled objects"
        elif data.inline and any(
            type(value) is TensorNode and value.origin for value in self.entries.values()
        ):
            self.frozen = "file of numpy arrays"
        self.surroundings = tuple(beside(tree, choice.path))
        self.notes = (*choice.notes, *notes, *self._remarks(opaque))

    # -- opening

    def _prove_root(self) -> None:
        for key, value in self.entries.items():
            if type(value) is TensorNode:
                self._prove(value, key)
                if value.reason is None:
                    continue
            else:
                for _, part in placed(value, {}):
                    if type(part) is TensorNode and id(part) not in self._views:
                        self._prove(part, key)
            what = strange(value)
            if what is not None:
                self.foreign[key] = what

    def _prove_rest(self) -> dict[str, str]:
        """Prove every other tensor too; returns by dotted place what is no plain data."""
        opaque: dict[str, str] = {}
        for place, part in placed(self.tree, self.root_node):
            if type(part) is TensorNode:
                if id(part) not in self._views:
                    self._prove(part, place)
                if part.origin and self.root_node is not NOTHING:
                    opaque.setdefault(place, part.origin)
            elif type(part) is Described:
                if part is not self.root_node and self.root_node is not NOTHING:
                    opaque.setdefault(place, f"an object of {part.label}")
            else:
                opaque.setdefault(place, part.label)
        return opaque

    def _prove(self, node: TensorNode, where: str) -> View | None:
        if node.attributes and node.reason is None and remarks.decorations(node):
            self._decorated.append((where, node))
        view = self._views[id(node)] = prove(node, self.storages, self.path or "", where)
        if view is not None and self.data.swapped and node.storage and node.dtype != node.storage.dtype:
            raise FormatError(
                f"{self.path}: {readable(where)}: {node.dtype} elements in an untyped big-endian storage: "
                "where one ends and the next begins is not recorded",
                file=self.path,
                key=where,
            )
        return view

    def _info(self, key: str, value: Any) -> TensorInfo:
        plain = type(value) is TensorNode and key not in self.foreign
        return TensorInfo(value.size, value.dtype) if plain else OBJECT

    def _identities(self) -> Iterator[tuple[str, Hashable]]:
        for key, value in self.entries.items():
            if type(value) is TensorNode:
                view = self._views[id(value)]
                if view is not None and 0 not in view.shape:
                    bits = (value.conj, value.neg)
                    yield key, (view.storage.id, view.offset, view.shape, view.stride, view.dtype, bits)

    def _state_metadata(self) -> dict[str, Any] | None:
        """Plain data only: reading tensors is not for opening."""
        metadata = attributes_of(self.root_node).get("_metadata")
        if not isinstance(metadata, dict) or any(type(k) is not str for k in metadata):
            return None
        for part in walk(metadata):
            if type(part) is TensorNode or strange(part) is not None:
                return None
        return dict(plain_value(metadata, self.node_tensor))

    def _remarks(self, opaque: dict[str, str]) -> Iterator[str]:
        if isinstance(self.root_node, Described):
            yield from self.root_node.notes
        if any(root.kind == "optimizer" for root in self.signature.roots):
            places = [root.path for root in self.signature.roots if root.kind == "optimizer"]
            yield f"optimizer state is present: {quote_list(places)}"
        yield from remarks.of_surroundings(opaque)
        yield from remarks.of_entries(self.entries, self.foreign)
        yield from remarks.of_decorations(self._decorated)
        extra = set(attributes_of(self.root_node))
        if self.state_metadata is not None:
            extra.discard("_metadata")
        yield from remarks.of_attributes(extra)

    # -- reading

    def node(self, key: str) -> TensorNode:
        """The description of a tensor of the root.

        Raises:
            KeyError: no such key. FormatError: it is no tensor.
        """
        value = self.entries[key]
        if key in self.foreign:
            raise unheld(self.path or "", key, self.foreign[key])
        if type(value) is not TensorNode:
            raise FormatError(f"{self.path}: {readable(key)} is no tensor", file=self.path, key=key)
        return value

    def view(self, key: str) -> View:
        node = self.node(key)
        view = self._views[id(node)]
        if view is None:
            self._refuse_dataless(key, node)
        if node.conj or node.neg:
            what = "conjugated" if node.conj else "negated"
            raise FormatError(
                f"{self.path}: {readable(key)} is lazily {what}: its bytes are not its values; resolve it "
                "where it was made (resolve_conj, resolve_neg), or drop it",
                file=self.path,
                key=key,
            )
        return view

    def verify(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self.data.verify(self.view(key).storage for key in keys)
        super().verify(keys)

    def storage_size(self, key: str) -> int | None:
        view = self._views[id(self.node(key))]
        return None if view is None else view.storage.nbytes

    def lazy(self, key: str) -> bool:
        node = self.node(key)
        return node.conj or node.neg

    def flags(self, key: str) -> Flags:
        node = self.node(key)
        return Flags(node.requires_grad, node.parameter)

    def read(self, storage: Storage, start: int, stop: int) -> Iterator[Buffer]:
        return self.data.read(storage, start, stop)

    def check(self, storage: Storage) -> None:
        self.data.check(storage)

    def tensor(self, key: str) -> torch.Tensor:
        return self.node_tensor(self._with_data(key))

    def loaded(self, key: str) -> torch.Tensor:
        return self.node_tensor(self._with_data(key), mapped=False)

    def _with_data(self, key: str) -> TensorNode:
        node = self.node(key)
        if self._views[id(node)] is None:
            self._refuse_dataless(key, node)
        return node

    def _refuse_dataless(self, key: str, node: TensorNode) -> NoReturn:
        raise FormatError(
            f"{self.path}: {readable(key)} is {node.label}: it has a shape but no data",
            file=self.path,
            key=key,
        )

    def node_view(self, node: TensorNode) -> View | None:
        """The proved view of any tensor of the tree; None when it has no plain data."""
        return self._views[id(node)]

    def count_tensors(self) -> int:
        """How many tensors the whole file describes, inside the root and outside; tied keys count each."""
        keys = [id(value) for value in self.entries.values() if type(value) is TensorNode]
        return len(self._views) + len(keys) - len(set(keys))

    def at(self, root: str) -> TorchSource:
        """The same opened file with another root; it closes with this one.

        Raises:
            FormatError: the root holds what has no place in a state_dict. RootError: no root, or more than one.
        """
        return TorchSource(self.path or "", self.format, self.tree, self.storages, self.data, root)

    def readers(self) -> dict[str, str]:
        """For each storage that a tensor anywhere in the file looks into, the dotted place of the first one."""
        found: dict[str, str] = {}
        for place, holder in placed(self.tree, {}):
            for part in walk(holder) if type(holder) is TensorNode else ():
                storage = part.storage if type(part) is TensorNode else part
                if type(storage) is StorageNode:
                    found.setdefault(storage.key, place)
        return found

    def node_tensor(self, node: TensorNode, *, mapped: bool = True) -> torch.Tensor:
        """Any tensor of the tree with plain data, as `tensor` gives it, or as `loaded` does."""
        import torch

        view = self._views[id(node)]
        if view is None:
            raise FormatError(f"{self.path}: {node.label} has no plain data", file=self.path)
        dtype = getattr(torch, view.dtype)
        tensor = torch.empty(0, dtype=dtype)
        if 0 in view.shape:
            return torch.empty_strided(view.shape, view.stride, dtype=dtype)
        base, first = self.data.memory(view.storage, *extent(view), mapped=mapped)
        tensor.set_(base.untyped_storage(), view.offset - first // dtype.itemsize, view.shape, view.stride)
        if node.conj:
            tensor = torch._conj(tensor)
        if node.neg:
            tensor = torch._neg_view(tensor)
        return tensor

    def value(self, key: str) -> Any:
        value = self.entries[key]
        if key in self.foreign:
            raise unheld(self.path or "", key, self.foreign[key])
        if type(value) is TensorNode:
            raise KeyError(key)
        expansion = Expansion(self.path)

        def tensor(node: TensorNode) -> torch.Tensor:
            view = self._views[id(node)]
            if view is not None:
                expansion.add(key, view.storage.nbytes, nbytes(node.dtype, prod(node.size)))
            return self.node_tensor(node)

        return plain_value(value, tensor)

    def optimizers(self) -> tuple[OptimizerState, ...]:
        return tuple(optimizer_states(self.tree, self.root_node))

    def check_unchanged(self) -> None:
        self.data.check_unchanged()

    def close(self) -> None:
        self.data.close()
