"""All texts of the set: for each broken pair torch's words, two other renderings, a part, a cut one; and files' errors."""

from __future__ import annotations

from collections.abc import Iterator

from . import pairs_names, pairs_sizes, pairs_tensors, pairs_two
from . import rendering as r
from .breaks import CASES, Broken
from .rendering import Facts, Text

GROUPS = (pairs_names, pairs_sizes, pairs_tensors, pairs_two)
_SHAPED = {"head_mismatch", "vocab_resize", "pos_embed", "input_channels", "arch_mismatch"}
_CUTS = (0.3, 0.5, 0.7, 0.85)


def texts_of(broken: Broken) -> Iterator[Text]:
    """The texts of one pair; which ones depends on its place in the set, and on nothing else."""
    f, place = r.facts(broken), list(CASES).index(broken.name)
    # Where all names differ, no text shows which shapes do: that second cause cannot be asked of it.
    hidden = bool(broken.together) and not f.mismatched and bool(_SHAPED & set(broken.together))
    repairable = broken.outcome != "none" and broken.fix_from == "text" and not hidden
    several = () if hidden else broken.together

    def text(way: str, words: str, told: bool, fix: bool) -> Text:
        return Text(
            f"{broken.name} / {way}",
            words,
            broken.causes,
            broken.name,
            told,
            repairable and told and fix,
            several,
        )

    yield text("torch", f.words, True, True)
    ways = [way for way in r.WHOLE if not (way is r.incompatible and f.mismatched)]
    for step in (0, 7):
        way = ways[(place + step) % len(ways)]
        yield text(way.__name__, way(f), True, True)
    yield from _parts(broken, f, place, text)
    words = r.cut(f.words, _CUTS[place % len(_CUTS)])
    told = _shows(broken, f, words)
    yield text("cut", words, told, told and broken.simple)


def _parts(broken: Broken, f: Facts, place: int, text: object) -> Iterator[Text]:
    """One list alone, or one key alone."""
    one_sided = not (f.missing and f.unexpected) and not f.mismatched
    plan = []
    if f.missing:
        told = broken.signal == "missing" or (one_sided and broken.signal != "unexpected")
        plan.append((r.missing_only, told, broken.simple or one_sided))
        plan.append((r.diffusers_missing, told, False))
        plan.append((r.of_vllm, False, False))
    if f.unexpected:
        told = broken.signal == "unexpected" or (one_sided and broken.signal != "missing")
        plan.append((r.unexpected_only, told, broken.simple or one_sided))
        plan.append((r.key_error, False, False))
    if f.mismatched:
        alone = len(f.mismatched) == 1 and broken.signal == "shapes"
        plan.append((r.diffusers_shape, alone, False))
        plan.append((r.accelerate, False, False))
    way, told, fix = plan[place % len(plan)]
    yield text(way.__name__, way(f), told, fix)  # type: ignore[operator]


def _shows(broken: Broken, f: Facts, words: str) -> bool:
    """Whether a cut text still has what tells the cause: three keys of each list that is needed, or all of them."""

    def enough(keys: list[str]) -> bool:
        seen = sum(f'"{key}"' in words or f"for {key}: " in words for key in keys)
        return seen >= min(3, len(keys))

    need = {
        "both": f.missing + f.unexpected and [f.missing, f.unexpected],
        "missing": [f.missing],
        "unexpected": [f.unexpected],
        "shapes": [[key for key, *_ in f.mismatched]],
    }[broken.signal]
    if broken.signal == "shapes" and not words.rstrip().endswith("."):
        return False
    return not broken.together and all(enough(keys) for keys in need)
