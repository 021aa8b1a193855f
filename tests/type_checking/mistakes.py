"""What type checkers must see: each line with `# wrong` is an error, and no other line is (see test_type_checkers.py)."""

# ruff: noqa: B018
from __future__ import annotations

from torch import nn

import ckptkit

MODEL = nn.Linear(2, 2)
ckptkit.Rnme  # wrong
ckptkit.rules.Rnme  # wrong
ckptkit.load(MODEL, "a.pt", strct=False)  # wrong
ckptkit.load(MODEL, "a.pt", strict="no")  # wrong
ckptkit.load(MODEL, "a.pt", on_mismatch="ignore")  # wrong
ckptkit.freeze(MODEL, unfrezze=["a"])  # wrong
ckptkit.param_groups(MODEL, lr="1e-3")  # wrong
ckptkit.RemapConfig(rules=3)  # wrong
ckptkit.plan("a.pt", 3)  # wrong
ckptkit.remap("a.pt", 3)  # wrong
ckptkit.check(MODEL, "a.pt", 3)  # wrong
ckptkit.load(MODEL, "a.pt", 3)  # wrong
ckptkit.load_hook(3)  # wrong
ckptkit.freeze(MODEL, 3)  # wrong
ckptkit.param_groups(MODEL, 3)  # wrong
ckptkit.LoadConfig(allow_mising=["a"])  # wrong
ckptkit.rules.Drop()  # wrong
ckptkit.rules.StripPrefix(prefx="a")  # wrong
ckptkit.explain(3)  # wrong
ckptkit.check(MODEL, "a.pt").coverage.paramters  # wrong
