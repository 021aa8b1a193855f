"""The field's vocabulary: which words of module names mean the same, and which stage of a block they stand for.

Words, not models: nothing here names an architecture or a library. A word that is not listed stands for itself.
"""

from __future__ import annotations

# What a whole token of a key means, where its words alone would mislead.
TOKENS: dict[str, tuple[str, ...]] = {
    "dense_h_to_4h": ("mlp", "up"),
    "dense_4h_to_h": ("mlp", "down"),
    "c_fc": ("up",),
    "fc1": ("up", "1"),
    "fc2": ("down", "2"),
    "fc_1": ("up", "1"),
    "fc_2": ("down", "2"),
    "lin1": ("up", "1"),
    "lin2": ("down", "2"),
    "linear1": ("up", "1"),
    "linear2": ("down", "2"),
    "linear_1": ("up", "1"),
    "linear_2": ("down", "2"),
    "in_proj": ("q", "k", "v", "proj"),
    "c_attn": ("q", "k", "v", "attn"),
    "wte": ("token", "embed"),
    "wpe": ("pos", "embed"),
    "wi": ("up",),
    "wqkv": ("q", "k", "v"),
    "w12": ("gate", "up"),
    "w_q": ("q",),
    "w_k": ("k",),
    "w_v": ("v",),
    "w_o": ("out",),
    "ln_f": ("final", "norm"),
    "norm_f": ("final", "norm"),
    "embed_out": ("lm", "head"),
    "embed_in": ("token", "embed"),
    "lm_head": ("lm", "head"),
    "unembed": ("lm", "head"),
    "shared": ("token", "embed"),
    "original_module": ("shadow",),
    "modules_to_save": (),
    "h": ("layer",),
    "cls_token": ("class", "token"),
    "class_embedding": ("class", "token"),
}

ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "one": 1, "two": 2, "three": 3}

# What a word means: itself when absent.
WORDS: dict[str, tuple[str, ...]] = {
    **{word: (str(number),) for word, number in ORDINALS.items()},
    "query": ("q",),
    "queries": ("q",),
    "key": ("k",),
    "keys": ("k",),
    "value": ("v",),
    "values": ("v",),
    "qkv": ("q", "k", "v"),
    "kv": ("k", "v"),
    "qk": ("q", "k"),
    "wq": ("q",),
    "wk": ("k",),
    "wv": ("v",),
    "wo": ("out",),
    "w13": ("gate", "up"),
    "attention": ("attn",),
    "att": ("attn",),
    "attn": ("attn",),
    "attentions": ("attn",),
    "multihead": ("attn",),
    "mha": ("attn",),
    "sa": ("self", "attn"),
    "ca": ("cross", "attn"),
    "xattn": ("cross", "attn"),
    "selfattn": ("self", "attn"),
    "crossattn": ("cross", "attn"),
    "ffn": ("mlp",),
    "ff": ("mlp",),
    "feedforward": ("mlp",),
    "ln": ("norm",),
    "bn": ("norm",),
    "layernorm": ("norm",),
    "batchnorm": ("norm",),
    "groupnorm": ("norm",),
    "rmsnorm": ("norm",),
    "normalization": ("norm",),
    "norms": ("norm",),
    "convolution": ("conv",),
    "convs": ("conv",),
    "intermediate": ("up",),
    "expand": ("up",),
    "fc": ("linear",),
    "lin": ("linear",),
    "dense": ("linear",),
    "linear": ("linear",),
    "projection": ("proj",),
    "projector": ("projector",),
    "o": ("out",),
    "output": ("out",),
    "outputs": ("out",),
    "embedding": ("embed",),
    "embeddings": ("embed",),
    "embedder": ("embed",),
    "emb": ("embed",),
    "embd": ("embed",),
    "embeds": ("embed",),
    "tok": ("token",),
    "tokens": ("token",),
    "word": ("token",),
    "words": ("token",),
    "position": ("pos",),
    "positional": ("pos",),
    "positions": ("pos",),
    "rel": ("relative",),
    "abs": ("absolute",),
    "cls": ("class",),
    "classification": ("classifier",),
    "layers": ("layer",),
    "block": ("layer",),
    "blocks": ("layer",),
    "resblocks": ("layer",),
    "resblock": ("layer",),
    "stages": ("stage",),
    "ls": ("scale",),
    "gamma": ("scale",),
    "lambda": ("scale",),
    "scales": ("scale",),
    "vision": ("image",),
    "visual": ("image",),
    "img": ("image",),
    "vit": ("image",),
    "txt": ("text",),
    "language": ("text",),
    "lang": ("text",),
    "downsample": ("downsample",),
    "shortcut": ("downsample",),
    "skip": ("downsample",),
    "fn": ("final",),
    "last": ("final",),
    "logits": ("lm", "head"),
    "enc": ("encoder",),
    "dec": ("decoder",),
    "pred": ("predictor",),
    "prediction": ("predictor",),
    "bbox": ("box",),
    "boxes": ("box",),
    "coordinate": ("box",),
    "labels": ("class",),
    "add": ("added",),
    "mod": (),
    "original": ("orig",),
    "reverse": ("backward",),
    "router": ("router",),
    "cpb": ("continuous", "pos", "bias"),
}

# Two different concepts that often name one thing, with how much such a match is worth.
RELATED: dict[frozenset[str], float] = {
    frozenset(pair): worth
    for pair, worth in (
        (("norm", "scale"), 0.1),
        (("linear", "proj"), 0.6),
        (("up", "linear"), 0.2),
        (("down", "proj"), 0.3),
        (("down", "out"), 0.5),
        (("up", "1"), 0.1),
        (("out", "proj"), 0.35),
        (("out", "linear"), 0.3),
        (("classifier", "head"), 0.7),
        (("class", "classifier"), 0.6),
        (("class", "score"), 0.6),
        (("predictor", "head"), 0.6),
        (("predictor", "embed"), 0.3),
        (("gate", "router"), 0.6),
        (("stage", "layer"), 0.5),
        (("final", "post"), 0.5),
        (("final", "after"), 0.5),
        (("cross", "encoder"), 0.6),
        (("attn", "attend"), 0.8),
        (("patch", "conv"), 0.3),
        (("pos", "position"), 1.0),
        (("token", "embed"), 0.2),
        (("head", "out"), 0.4),
        (("lm", "out"), 0.3),
        (("added", "text"), 0.7),
        (("added", "context"), 0.7),
    )
}

# Concepts of which a module is one or the other: roles, sides, kinds of parts.
EXCLUSIVE: tuple[frozenset[str], ...] = tuple(
    frozenset(words.split())
    for words in (
        "encoder decoder",
        "text image audio video speech depth",
        "generator discriminator",
        "actor critic policy v reward",
        "student teacher",
        "q query doc document passage context item user",
        "source target src tgt",
        "in out input",
        "start end begin",
        "mean std var logvar sigma mu variance",
        "box class mask keypoint objectness",
        "pos token type patch segment",
        "left right",
        "up down gate",
        "q k v out",
        "self cross attn mlp norm conv",
        "head embed",
        "forward backward",
        "high low mid",
        "min max",
        "real imag",
        "local global",
        "row col column",
        "x y z h w",
        "prior posterior",
        "main aux auxiliary",
        "lm classifier regressor",
        "scale shift bias",
        "online momentum",
        "a b c d e",
        "positive negative pos neg",
        "fine coarse",
        "shared routed",
        "spatial temporal",
        "pre post",
        "pre-attn post-attn pre-mlp post-mlp",
    )
)
# Concepts that make another module, or tower, of the one without them.
SETTING_APART = frozenset({"aux", "auxiliary"})
# Concepts that say after or before what a norm stands, not what it normalises.
NORM_PLACES = frozenset({"pre", "post", "before", "after", "pre-attn", "post-attn", "pre-mlp", "post-mlp"})

# Words that hardly tell one module from another.
FAINT = {"layer", "model", "module", "linear", "proj", "body", "net", "encoder_layer", "base"}

# Modules that put neighbouring positions side by side before they project them.
MERGING = {"downsample", "reduction", "merge", "merging", "merger", "unshuffle", "patch_merging"}

# Tokens that wrappers put in, which name nothing.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "model"}

# Words for what kind of module it is, which say nothing of which one.
JUST_NORM = {"norm", "layer", "group", "batch", "rms"}
KINDS = FAINT | {"norm", "conv", "linear", "batch", "group", "rms", "weight", "bias", "scale"}

# Concepts that say what a module is made of or where it lies, and may be left out of a name.
STRUCTURE = KINDS | {"attn", "self", "mlp", "embed", "head", "layer", "stage", "token"}

# Copies of the weights that are not the ones a user means unless they say so.
SHADOWS = {"ema", "momentum", "shadow", "averaged", "swa", "avg"}

# Names of two equal towers of which the first is the one that people go on with.
TWINS = (("q", "k"), ("query", "key"), ("teacher", "student"), ("online", "target"), ("base", "momentum"))

# Where in a block a concept stands: what numbers mean when the other side has names. pre/post move it by 5.
STAGES: dict[str, int] = {
    "input": 10,
    "before": 10,
    "in": 10,
    "self": 20,
    "attn": 21,
    "temporal": 22,
    "q": 30,
    "k": 31,
    "v": 32,
    "cross": 40,
    "encoder_attn": 40,
    "gate": 50,
    "mlp": 55,
    "after": 58,
    "up": 60,
    "down": 65,
    "out": 70,
    "final": 80,
}

# Parts that are stored fused: in the order in which the parts lie.
# Gated units have no one order. Where the name of the whole does not spell it, the gate is taken to lie first; but
# last where the name speaks of ff, as code does that follows torch.nn.functional.glu.
FUSED: tuple[tuple[str, ...], ...] = (
    ("q", "k", "v"),
    ("k", "v"),
    ("q", "k"),
    ("gate", "up"),
    ("up", "gate"),
)
UNSPELLED = frozenset(("gate", "up"))
GATE_FIRST, GATE_LAST = ("gate", "up"), ("up", "gate")
GLU_WORDS = {"ff", "geglu", "swiglu", "glu"}
