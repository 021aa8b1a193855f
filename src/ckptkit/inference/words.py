"""Tokens of keys as concepts: sub-words, split and looked up in the field's vocabulary."""

from __future__ import annotations

import re
from functools import lru_cache

from .lexicon import STAGES, TOKENS, WORDS

# The size of a kernel says nothing about which of several modules is meant: conv2_3x3, conv2_kxk.
_KERNEL = re.compile(r"(?<![A-Za-z0-9])(?:[0-9]+x[0-9]+|kxk)(?![A-Za-z0-9])")
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")

# What no module's path goes beyond, so that a hostile key costs neither time nor the stack.
LONGEST, DEEPEST = 1000, 32
_HUGE = re.compile(r"[0-9]{10}")

# Braces mark indices in templates; those of a key itself stand as characters that no key has.
_BRACES = str.maketrans({"{": "\ue000", "}": "\ue001"})
_BACK = str.maketrans({"\ue000": "{", "\ue001": "}"})


def ordinary(key: str) -> bool:
    """Whether a key can be the path of a module: neither deeper, longer nor with larger numbers than any model's."""
    return len(key) <= LONGEST and key.count(".") < DEEPEST and _HUGE.search(key) is None


def hidden(key: str) -> str:
    """A key whose braces cannot be taken for an index."""
    return key.translate(_BRACES) if "{" in key or "}" in key else key


def shown(text: str) -> str:
    """The opposite of `hidden`."""
    return text.translate(_BACK)


def as_regex(pattern: str) -> str:
    """A pattern over hidden keys as one over keys."""
    return pattern.replace("\ue000", r"\{").replace("\ue001", r"\}")


@lru_cache(maxsize=65536)
def subwords(token: str) -> tuple[str, ...]:
    """The lower-case sub-words of a token: ``SelfAttention_2`` -> self, attention, 2."""
    found: list[str] = []
    for word in _WORD.findall(_KERNEL.sub("", token.replace("_", " ")) or token):
        lower = word.lower()
        # convDa, Wq: a capital and one letter are two abbreviations, unless they are a word of the field.
        if len(word) == 2 and word[0].isupper() and word[1].islower() and lower not in WORDS:
            found.extend(lower)
        else:
            found.append(lower)
    return tuple(found)


@lru_cache(maxsize=65536)
def concepts(token: str) -> tuple[str, ...]:
    """What a token's words mean, numbers included; ``post_attention_norm`` -> post-attn, norm."""
    lower = token.lower()
    known = TOKENS.get(lower)
    if known is not None:
        return known
    found: list[str] = []
    words = subwords(token)
    for word in words:
        found.extend(_meaning(word))
    return _modified(found)


def _meaning(word: str) -> tuple[str, ...]:
    known = WORDS.get(word)
    if known is not None:
        return known
    if _LETTERS.fullmatch(word):
        return tuple("gate" if letter == "g" else "out" if letter == "o" else letter for letter in word)
    # qpos, kcontent: a projection letter glued to a word.
    if len(word) > 3 and word[0] in "qkv" and word[1:] in _GLUED:
        return (word[0], *_meaning(word[1:]))
    return (word,)


# Projections in one, spelled by their letters: gqkv, qkvz.
_LETTERS = re.compile(r"(?=.*q)(?=.*[kv])[gqkvoz]{2,5}")
_GLUED = {"pos", "content", "norm", "proj", "layernorm", "bias", "weight", "embed", "rope", "nope", "lin"}


def _modified(found: list[str]) -> tuple[str, ...]:
    """pre and post change what the next concept means."""
    result: list[str] = []
    skip = False
    for n, concept in enumerate(found):
        if skip:
            skip = False
            continue
        if concept in ("pre", "post") and n + 1 < len(found):
            following = found[n + 1]
            if following in STAGES:
                result.append(f"{concept}-{following}")
                skip = True
                continue
            if following == "feed" and "forward" in found[n + 2 :]:
                result.append(f"{concept}-mlp")
                skip = True
                continue
        if concept == "feed":
            result.append("mlp")
            continue
        if concept == "forward" and "mlp" in result:
            continue
        result.append(concept)
    if "encoder" in result and "attn" in result and "self" not in result:
        result[result.index("encoder")] = "cross"  # encoder_attn: attention to the encoder's output
    return tuple(result)


def stage(found: tuple[str, ...]) -> int | None:
    """Where in a block these concepts stand, None when they do not say."""
    if "cross" in found:
        return STAGES["cross"]
    best: int | None = None
    for concept in found:
        before, dash, base = concept.partition("-")
        place = STAGES.get(base if dash else concept)
        if place is not None:
            place += (5 if before == "post" else -5) if dash else 0
            best = place if best is None else min(best, place)
    return best
