"""Reading torch's format before 1.6: equal to torch.load, and nothing that a storage does not hold."""

from __future__ import annotations

import os
import pickle
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptkit.errors import FormatError
from ckptkit.formats.recognise import looks_like_legacy
from ckptkit.formats.torch_legacy import open_torch_legacy

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]


def save(obj: Any, path: Path) -> str:
    torch.save(obj, path, _use_new_zipfile_serialization=False)
    return str(path)


@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), st.integers(0, 40), st.booleans()), min_size=1, max_size=5)
)
@settings(max_examples=30, deadline=None)
def test_legacy_files_read_as_torch_reads_them(parts: list[tuple[torch.dtype, int, bool]]) -> None:
    state = {}
    for number, (dtype, numel, tied) in enumerate(parts):
        base = torch.arange(numel).to(dtype)
        state[f"w{number}"] = base
        state[f"half{number}"] = base[numel // 2 :]
        if tied:
            state[f"tied{number}"] = base
    with tempfile.TemporaryDirectory() as folder:
        path = save({"model": state, "step": 3}, Path(folder, "f.pt"))
        reference = torch.load(path, weights_only=True)["model"]
        source = open_torch_legacy(path, "auto")
        assert (source.signature.root, list(source.signature)) == ("model", list(reference))
        for key, tensor in reference.items():
            assert torch.equal(source.tensor(key), tensor) and source.tensor(key).dtype == tensor.dtype
            view = source.view(key)
            region = view.storage.region
            assert region is not None and region.crc is None
            raw = Path(path).read_bytes()[region.offset : region.offset + region.nbytes]
            assert raw == b"".join(bytes(c) for c in source.read(view.storage, 0, view.storage.nbytes))
        groups = set(source.signature.tied)
        for number, (_, numel, tied) in enumerate(parts):
            expected = {f"w{number}", f"tied{number}"} | ({f"half{number}"} if numel == 1 else set())
            assert not (tied and numel) or any(set(g) >= expected for g in groups)
        source.close()


def parts_of(path: str) -> list[bytes]:
    """The five pickles of a legacy file and its data."""
    raw = Path(path).read_bytes()
    parts = []
    at = 0
    for _ in range(5):
        end = raw.index(b".", at) + 1
        while True:
            try:
                import pickletools

                list(pickletools.genops(raw[at:end]))
                break
            except ValueError:
                end = raw.index(b".", end) + 1
        parts.append(raw[at:end])
        at = end
    return [*parts, raw[at:]]


def damaged(name: str, path: str) -> bytes:
    parts = parts_of(path)
    evil = b"\x80\x02cos\nsystem\nX\x0b\x00\x00\x00touch PWNED\x85R."
    keys = pickle.loads(parts[4])
    changes = {
        "magic": {0: pickle.dumps(12345, 2)},
        "magic position": {0: evil},
        "protocol": {1: pickle.dumps(9999, 2)},
        "protocol type": {1: pickle.dumps(1001.0, 2)},
        "system": {2: evil},
        "big endian": {2: pickle.dumps({"little_endian": False}, 2)},
        "object": {3: evil},
        "keys position": {4: evil},
        "keys omitted": {4: pickle.dumps([], 2), 5: b""},
        "keys unknown": {4: pickle.dumps(["zz"], 2)},
        "keys twice": {4: pickle.dumps([keys[0], keys[0]], 2)},
        "count lies": {5: struct.pack("<q", 400) + parts[5][8:]},
        "count negative": {5: struct.pack("<q", -1) + parts[5][8:]},
        "data cut": {5: parts[5][:-1]},
        "no data": {5: b""},
        "trailing": {5: parts[5] + b"EXTRA"},
    }
    for place, content in changes[name].items():
        parts[place] = content
    return b"".join(parts)


CASES = [
    "magic", "magic position", "protocol", "protocol type", "system", "big endian", "object", "keys position",
    "keys omitted", "keys unknown", "keys twice", "count lies", "count negative",
    "data cut", "no data", "trailing",
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_or_hostile_legacy_file_is_one_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.pt"
    path.write_bytes(damaged(name, save({"w": torch.arange(4.0)}, tmp_path / "good.pt")))
    empty = tmp_path / "cwd"
    empty.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(FormatError) as caught:
        open_torch_legacy(str(path), "auto")
    assert str(path) in str(caught.value) and "weights_only" not in str(caught.value)
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("protocol", range(5))
def test_another_pickle_is_named_and_not_run(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "f.pkl"
    path.write_bytes(pickle.dumps({"a": os.getpid}, protocol))
    assert looks_like_legacy(path.read_bytes()[:512])
    with pytest.raises(FormatError, match=r"pickle .*no torch file.*not executed"):
        open_torch_legacy(str(path), "auto")


def test_a_tar_file_is_refused_by_name(tmp_path: Path) -> None:
    import tarfile

    path = tmp_path / "f.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "pickle")
    assert looks_like_legacy(path.read_bytes()[:512])
    with pytest.raises(FormatError, match="tar archive"):
        open_torch_legacy(str(path), "auto")


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_module_pickled_whole_is_its_state_dict(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    source = open_torch_legacy(save(model, tmp_path / "f.pt"), "auto")
    assert list(source.signature) == ["weight", "bias"] and source.tensor("bias").equal(model.bias)
    assert any("a whole model, pickled as torch.nn.modules.linear.Linear" in note for note in source.notes)


def test_storage_views_of_the_oldest_files_stay_inside_their_storage(tmp_path: Path) -> None:
    parts = parts_of(save({"w": torch.arange(10.0)}, tmp_path / "good.pt"))
    # The persistent id ends in None (no view): put (view key, first element, number of elements) there.
    for first, count, ok in ((2, 5, True), (8, 5, False)):
        view = b"(X\x01\x00\x00\x00vK" + bytes((first,)) + b"K" + bytes((count,)) + b"t"
        place = parts[3].index(b"K\x0aNt")
        body = parts[3][: place + 2] + view + parts[3][place + 3 :]
        body = body.replace(b"K\x0a\x85", b"K" + bytes((count,)) + b"\x85")  # the tensor's size
        path = tmp_path / "view.pt"
        path.write_bytes(b"".join([*parts[:3], body, *parts[4:]]))
        if ok:
            assert open_torch_legacy(str(path), "auto").tensor("w").tolist() == [2, 3, 4, 5, 6]
        else:
            with pytest.raises(FormatError, match="reaches outside"):
                open_torch_legacy(str(path), "auto")


def test_nothing_but_a_regular_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "missing"):
        with pytest.raises(FormatError):
            open_torch_legacy(str(path), "auto")
