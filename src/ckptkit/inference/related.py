"""How much two words mean the same before anything was matched: known pairs, stems, abbreviations and initials."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from .groups import Group
from .lexicon import RELATED, WORDS
from .words import subwords

ALIKE = 0.3  # how related two concepts must be to be taken for one


@lru_cache(maxsize=1 << 16)
def related(x: str, y: str) -> float:
    """How much two concepts mean the same, in [0, 1]."""
    return 1.0 if x == y else max(RELATED.get(frozenset((x, y)), 0.0), _abbreviates(x, y))


def akin(x: str, y: str) -> bool:
    """Whether two concepts may be taken for one."""
    return related(x, y) >= ALIKE


def _abbreviates(x: str, y: str) -> float:
    """Whether one word begins the other, or both have one stem."""
    short, long = sorted((x, y), key=len)
    stem = next((n for n, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), len(short))
    if stem >= 5 and stem >= 0.7 * len(long):
        return 0.8
    if not long.startswith(short) or short == long:
        return 0.0
    if len(short) >= 3:
        return 0.7
    return 0.3 if len(short) == 1 and short not in "qkvgh" else 0.2


def acronyms(groups: Iterable[Group]) -> tuple[set[str], set[str]]:
    """The short words of names, and the initials of their longer words that stand side by side."""
    words: set[str] = set()
    letters: set[str] = set()
    for token in {token for group in groups for token, _ in group.tokens}:
        words |= short_words(token)
        letters |= initials(token)
    return words, letters


def short_words(token: str) -> set[str]:
    """Words of two or three letters that the vocabulary does not have: ``ar`` of ``ar_embedder``."""
    return {w for w in subwords(token) if 2 <= len(w) <= 3 and w.isalpha() and w not in WORDS}


def initials(token: str) -> set[str]:
    """The first letters of words side by side: ``ar`` of ``aspect_ratio_embedder``."""
    words = [w for w in subwords(token) if len(w) > 2 and w.isalpha()]
    return {
        "".join(w[0] for w in words[n : n + size]) for size in (2, 3) for n in range(len(words) - size + 1)
    }
