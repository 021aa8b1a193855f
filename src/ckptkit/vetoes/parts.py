"""Which keys of two sides are parts of a tensor: by the table's names, by what stands beside them, by what lacks.

A tensor in parts is one on one side and several on the other: a base that one side lacks, and siblings of the other
that extend its name. The known schemes have names; for a scheme that nobody has told of, the structure is enough.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from .table import LONGEST, PARAMETRIZED, PRUNING, QUANTISED, SPECTRAL, UNKNOWN, WEIGHT_NORM, Part, named

Parts = dict[str, Part]

# Leaves that belong to a tensor beside them without having its name.
_COMPANIONS = re.compile(
    r"scales?|zeros?|zero_points?|mask|min|max|alpha|norm|magnitude|codebooks?|idx|indices|shift"
)


def parts_of(keys: Collection[str], lacking: Collection[str], narrow: Collection[str] = ()) -> Parts:
    """The keys of one side that are parts of a tensor.

    Args:
        keys: of this side, as far as they are known.
        lacking: of the other side what this side lacks, as far as it is known.
        narrow: keys of this side whose numbers are no floating point, or are floats of 8 bits.

    Returns:
        For each such key what it is. The values that belong to a scale beside them (a ``weight`` of int8) are parts,
        too, in the role ``values``.
    """
    present, absent = set(keys), set(lacking)
    read = {key: part for key in keys if (part := named(key)) is not None}
    roles: dict[str, set[str]] = {}
    for part in read.values():
        roles.setdefault(part.base, set()).add(part.role)
    # A base that this side lacks and that the other side has is told by more than one sibling, whatever their names.
    found = _by_structure(present, absent)
    occupied, small = {key.rpartition(".")[0] for key in absent}, set(narrow)
    for key, part in read.items():
        if part.sure or _is_told(part, roles[part.base], present, absent, small, occupied):
            found[key] = replace(part, scheme=_scheme(part, roles[part.base]))
    for part in list(found.values()):
        if part.scheme == QUANTISED and part.base in present and part.base not in found:
            found[part.base] = Part(part.base, QUANTISED, "values", part.base.rpartition(".")[2])
    return found


def _is_told(
    part: Part, roles: set[str], present: set[str], absent: set[str], narrow: set[str], occupied: set[str]
) -> bool:
    """Whether what stands beside a doubtful name says that it is a part; `occupied` modules have keys that lack here."""
    if part.role in ("orig", "mask", "g", "v", "u"):
        return (len(roles) > 1 and part.base not in present) or part.base in absent
    if part.role in ("blocks", "scales"):
        return {"blocks", "scales"} <= roles
    if len(roles) > 1 or part.base in narrow:
        return True
    # A lone scale: the parameter of a norm where the other side has another one in its place, else a part.
    return part.role != "alpha" and part.base.rpartition(".")[0] not in occupied


def _scheme(part: Part, roles: set[str]) -> str:
    """``weight_orig`` is pruned or spectrally normalised, ``weight_v`` of either normalisation: its siblings say it."""
    if part.scheme not in (PRUNING, SPECTRAL, WEIGHT_NORM, PARAMETRIZED):
        return part.scheme
    if "mask" in roles:
        return PRUNING
    if "u" in roles or (part.role == "v" and "orig" in roles):
        return SPECTRAL
    return WEIGHT_NORM if part.role in ("g", "v") else part.scheme


_PAIRS = 40_000  # where more names lie side by side, one in another is chance


@lru_cache(maxsize=1024)
def _extending(leaf: str) -> re.Pattern[str]:
    return re.compile(rf"(?:.*_)?q?{re.escape(leaf)}(?:_.*)?")


def _by_structure(present: set[str], absent: set[str]) -> Parts:
    modules: dict[str, list[str]] = {}
    for key in present:
        if len(key) <= LONGEST:
            modules.setdefault(key.rpartition(".")[0], []).append(key)
    found: Parts = {}
    wanted = Counter(key.rpartition(".")[0] for key in absent)
    for base in sorted(absent - present):
        module, _, leaf = base.rpartition(".")
        extending, near = _extending(leaf), modules.get(module, [])
        inside = [key for key in modules.get(base, ()) if key not in absent]
        beside = [
            key
            for key in (near if len(near) * wanted[module] <= _PAIRS else ())
            if key not in absent and extending.fullmatch(key.rpartition(".")[2])
        ]
        if beside:
            beside += [
                key for key in near
                if key not in absent and key not in beside and _COMPANIONS.fullmatch(key.rpartition(".")[2])
            ]  # fmt: skip
        for several in (inside, beside):
            if len(several) > 1 and not {key.rpartition(".")[2] for key in several} <= {"weight", "bias"}:
                for key in several:
                    spelled = key[len(module) + 1 :] if module else key
                    found[key] = Part(base, UNKNOWN, spelled, spelled)
    return found


def by_scheme(parts: Mapping[str, Part], keys: Iterable[str]) -> dict[str, list[str]]:
    """Those of the keys that are parts, by scheme.

    Args:
        parts: of one side.
        keys: of this side, of which the answer is asked.
    """
    found: dict[str, list[str]] = {}
    for key in keys:
        if key in parts and parts[key].role != "values":
            found.setdefault(parts[key].scheme, []).append(key)
    return found
