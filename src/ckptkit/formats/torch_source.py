"""An opened torch file as a `Source`: the root's tensors as proved views, everything else by name."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

from ..dtypes import nbytes
from ..errors import FormatError
from ..signatures import OBJECT, Signature, TensorInfo, tied_groups
from ..text import quote_list
from .base import Buffer, Flags, OptimizerState, Source, Storage, View
from .expanded import Expansion
from .optimizers import optimizer_states
from .pickled import DeviceNode, Opaque, StorageNode, TensorNode
from .roots import choose_root, dotted
from .torch_bytes import Bytes
from .torch_places import attributes_of, beside, placed, walk
from .torch_values import VALUE_TYPES, known_device, plain_value
from .torch_views import extent, prove, readable

if TYPE_CHECKING:
    import torch

_UNHELD = "ckptkit holds strided tensors only; convert or drop it where it was made, and save again"


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

    Raises:
        FormatError: a tensor is not inside its storage, or the root holds what has no place in a state_dict.
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
        self._prove_root()
        opaque = self._prove_rest()
        self.signature = Signature(
            {key: self._info(key, value) for key, value in self.root_node.items()},
            tied=tied_groups(self._identities()),
            root=dotted(choice.path) or None,
            roots=choice.roots,
        )
        self.state_metadata = self._state_metadata()
        self.surroundings = tuple(beside(tree, choice.path)) if isinstance(tree, dict) else ()
        self.notes = (*choice.notes, *self._remarks(opaque))

    # -- opening

    def _prove_root(self) -> None:
        for key, value in self.root_node.items():
            if type(key) is not str:
                shown = key.label if type(key) is Opaque else ascii(key)[:60]
                raise FormatError(
                    f"{self.path}: the root {readable(dotted(self.root_path))} has the key {shown}, "
                    "which is no string; give the path of a dictionary with string keys as root",
                    file=self.path,
                )
            if not key.isascii():
                _check_text(key, self.path or "")
            if type(value) is TensorNode:
                self._prove(value, key)
                if value.reason is not None and value.reason != "meta":
                    raise FormatError(
                        f"{self.path}: {readable(key)} is {value.reason}, of dtype {value.dtype}; {_UNHELD}",
                        file=self.path,
                        key=key,
                    )
            else:
                for part in walk(value):
                    self._refuse_inside(part, key)

    def _refuse_inside(self, part: Any, key: str) -> None:
        if type(part) is TensorNode:
            self._prove(part, key)
            if part.reason is not None:
                raise FormatError(
                    f"{self.path}: {readable(key)} contains a tensor that is {part.reason}; {_UNHELD}",
                    file=self.path,
                    key=key,
                )
        elif type(part) is Opaque:
            raise FormatError(
                f"{self.path}: {readable(key)} contains the global {part.label}, which is not on the "
                "allow-list and is never looked up; name another root, or drop it where the file was made",
                file=self.path,
                key=key,
            )
        elif not _is_known(part):
            raise FormatError(
                f"{self.path}: {readable(key)} contains the device {part.name!r}, which torch does not have; name "
                "another root, or drop it where the file was made",
                file=self.path,
                key=key,
            )
        elif not _is_value(part):
            raise FormatError(
                f"{self.path}: {readable(key)} contains a "
                f"{type(part).__name__.removesuffix('Node').lower()}, which has no place in a state_dict",
                file=self.path,
                key=key,
            )

    def _prove_rest(self) -> dict[str, str]:
        """Prove every other tensor too; returns the opaque values by dotted place."""
        opaque: dict[str, str] = {}
        for place, part in placed(self.tree, self.root_node):
            if type(part) is TensorNode:
                if id(part) not in self._views:
                    self._prove(part, place)
            elif type(part) is Opaque:
                opaque.setdefault(place, part.label)
        return opaque

    def _prove(self, node: TensorNode, where: str) -> View | None:
        if node.attributes and _decorations(node):
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
        return TensorInfo(value.size, value.dtype) if type(value) is TensorNode else OBJECT

    def _identities(self) -> Iterator[tuple[str, Hashable]]:
        for key, value in self.root_node.items():
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
            if type(part) is TensorNode or not _is_value(part) or not _is_known(part):
                return None
        return dict(plain_value(metadata, self.node_tensor))

    def _remarks(self, opaque: dict[str, str]) -> Iterator[str]:
        if any(root.kind == "optimizer" for root in self.signature.roots):
            places = [root.path for root in self.signature.roots if root.kind == "optimizer"]
            yield f"optimizer state is present: {quote_list(places)}"
        for place, label in list(opaque.items())[:20]:
            yield f"opaque value at {readable(place)}: {label} is not on the allow-list and was not looked up"
        if len(opaque) > 20:
            yield f"and {len(opaque) - 20} more opaque values"
        meta = [k for k, v in self.root_node.items() if type(v) is TensorNode and v.reason == "meta"]
        if meta:
            yield f"{len(meta)} meta tensors have a shape but no data, the first is {readable(meta[0])}"
        if self._decorated:
            first, node = self._decorated[0]
            names = ", ".join(sorted(ascii(name)[1:-1][:60] for name in _decorations(node)))
            yield (
                f"{len(self._decorated)} tensors carry Python attributes, which are not kept; the first is "
                f"{readable(first)} with {names}"
            )
        extra = set(attributes_of(self.root_node))
        if self.state_metadata is not None:
            extra.discard("_metadata")
        if extra:
            yield f"attributes of the root that are not kept: {quote_list(sorted(extra))}"

    # -- reading

    def node(self, key: str) -> TensorNode:
        """The description of a tensor of the root.

        Raises:
            KeyError: no such key. FormatError: it is no tensor.
        """
        value = self.root_node[key]
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
        keys = [id(value) for value in self.root_node.values() if type(value) is TensorNode]
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
        value = self.root_node[key]
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


def _decorations(node: TensorNode) -> set[str]:
    return set(node.attributes) - {"_is_buffer", "persistent"}  # what nn.Buffer is made of


def _check_text(key: str, path: str) -> None:
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError(
            f"{path}: the key {ascii(key)[:120]} holds a lone surrogate and is no valid text",
            file=path,
            key=ascii(key),
        ) from None


def _is_value(part: Any) -> bool:
    return isinstance(part, VALUE_TYPES)


def _is_known(part: Any) -> bool:
    return type(part) is not DeviceNode or known_device(part)
