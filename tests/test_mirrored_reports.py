"""A report has the names of its JSON document as attributes, with the same meaning, all the way down."""

from __future__ import annotations

import json
import keyword
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ckptkit


def differences(value: Any, document: Any, where: str) -> list[str]:
    """Where an object does not say what its document says.

    A mapping by key stands for a list of entries with a key, and pairs stand for a mapping that has no fixed names.
    """
    if isinstance(document, dict):
        if str(document.get("format")).startswith("ckptkit."):
            document = {name: each for name, each in document.items() if name not in ("format", "version")}
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            value = dict(value)
        if isinstance(value, Mapping) and not hasattr(value, "to_json"):
            if set(value) != set(document):
                return [f"{where}: {sorted(value)} is not {sorted(document)}"]
            parts = {name: value[name] for name in document}
        else:
            names = {name: f"{name}_" if keyword.iskeyword(name) else name for name in document}
            lost = [name for name, own in names.items() if not hasattr(value, own)]
            if lost:
                return [f"{where}.{name}: a {type(value).__name__} has no such attribute" for name in lost]
            parts = {name: getattr(value, own) for name, own in names.items()}
        return [
            d for name, part in parts.items() for d in differences(part, document[name], f"{where}.{name}")
        ]
    if isinstance(document, list):
        if isinstance(value, Mapping):
            if list(value) != [entry["key"] for entry in document]:
                return [f"{where}: other keys"]
            bare = [{name: each for name, each in entry.items() if name != "key"} for entry in document]
            pairs = list(zip(value.values(), bare, strict=True))
        elif not isinstance(value, list | tuple) or len(value) != len(document):
            return [f"{where}: {value!r} is not {document!r}"]
        else:
            pairs = list(zip(value, document, strict=True))
        return [d for i, (each, entry) in enumerate(pairs) for d in differences(each, entry, f"{where}[{i}]")]
    if document in ("nan", "inf", "-inf"):
        document = float(document)
    same = value == document or (isinstance(value, float) and math.isnan(value) and math.isnan(document))
    return (
        []
        if same and isinstance(value, bool) == isinstance(document, bool)
        else [f"{where}: {value!r} is not {document!r}"]
    )


def mirrored(report: Any) -> list[str]:
    document = json.loads(json.dumps(report.to_json()))
    assert document["format"].startswith("ckptkit.")
    assert document["version"] == 1
    return differences(report, document, type(report).__name__)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 2)
        self.norm = nn.BatchNorm1d(2)
        self.head = nn.Linear(2, 4, bias=False)
        self.head.weight = self.embed.weight


def state() -> dict[str, torch.Tensor]:
    return {f"net.{key}": value for key, value in Tied().state_dict().items()}


RULES: list[dict[str, Any]] = [
    {"op": "strip_prefix", "prefix": "net."},
    {"op": "drop", "keys": "*.num_batches_tracked"},
    {"op": "cast", "dtype": "bf16", "keys": "norm.*"},
    {"op": "split", "pattern": "norm.weight", "into": ["norm.a", "norm.b"], "dim": 0},
    {"op": "resize", "keys": "embed.weight", "shape": [6, 2], "method": "pad", "fill": "zero"},
]


def checked() -> ckptkit.LoadReport:
    wrong = {key.removeprefix("net."): value for key, value in state().items() if "head" not in key}
    wrong["norm.weight"] = torch.ones(3)
    wrong["extra"] = wrong.pop("norm.bias")
    return ckptkit.check(Tied(), wrong)


def adapted() -> ckptkit.LoadReport:
    longer = {key.removeprefix("net."): value for key, value in state().items()}
    longer["norm.weight"] = torch.ones(3)
    return ckptkit.check(Tied(), longer, adapt=[{"keys": "norm.weight", "method": "crop"}])


def failed() -> ckptkit.IncompatibleKeysError:
    with pytest.raises(ckptkit.IncompatibleKeysError) as caught:
        ckptkit.load(Tied(), state())
    return caught.value


def misread() -> ckptkit.ConfigError:
    with pytest.raises(ckptkit.ConfigError) as caught:
        ckptkit.LoadConfig.parse({"strct": True, "dtype": "flaot"})
    return caught.value


def differing() -> ckptkit.DiffReport:
    a = {
        "a": torch.ones(3),
        "b": torch.ones(2),
        "c": torch.tensor([1.0, math.inf]),
        "d": torch.ones(2),
        "old": torch.rand(5),
    }
    b = {
        "a": torch.ones(4),
        "b": torch.ones(2).half(),
        "c": torch.tensor([math.nan, 1]),
        "e": torch.zeros(7),
        "new": a["old"],
    }
    return ckptkit.diff(a, b, values=True)


def frozen() -> ckptkit.FreezeReport:
    model = Tied()
    model.more = nn.Linear(2, 2)
    return ckptkit.freeze(model, ["embed.*", "norm.*"])


def inferred() -> ckptkit.Inference:
    source = {key: value for key, value in state().items() if "head" not in key}
    return ckptkit.infer(source | {"spare.x": torch.ones(9)}, Tied())


def written(tmp_path: Path) -> ckptkit.Written:
    return ckptkit.save(ckptkit.remap(ckptkit.open(state()), RULES), tmp_path / "out.safetensors")


def damaged(tmp_path: Path) -> ckptkit.Verification:
    save_file({"a": torch.ones(64)}, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(data[:-8])
    return ckptkit.verify(tmp_path / "a.safetensors")


def nested(tmp_path: Path) -> ckptkit.Signature:
    torch.save({"model": state(), "ema": state(), "epoch": 3}, tmp_path / "run.pt")
    return ckptkit.signature(tmp_path / "run.pt")


MISSING = 'Missing key(s) in state_dict: "a.weight". Unexpected key(s) in state_dict: "module.a.weight".'
SIZES = "size mismatch for b: copying a param with shape torch.Size([2]) from checkpoint, the shape in current model is"
REPORTS: dict[str, Callable[[Path], Any]] = {
    "load_report": lambda _: checked(),
    "load_report_that_fits": lambda _: ckptkit.load(Tied(), state(), RULES[:1]),
    "load_report_adapted": lambda _: adapted(),
    "explanation": lambda _: ckptkit.explain(
        f"RuntimeError: Error(s) in loading state_dict for Net:\n\t{MISSING}\n\t{SIZES}"
    ),
    "diff": lambda _: differing(),
    "verification": damaged,
    "freeze_report": lambda _: frozen(),
    "inference": lambda _: inferred(),
    "written": written,
    "written_as_it_is": lambda path: ckptkit.save(state(), path / "out.pt"),
    "plan": lambda _: ckptkit.plan(state(), RULES),
    "inverse": lambda _: ckptkit.plan(state(), RULES[:1]).invert(),
    "signature": nested,
    "error": lambda _: failed(),
    "config_error": lambda _: misread(),
}


@pytest.mark.parametrize("name", REPORTS)
def test_every_name_of_a_document_is_an_attribute_of_the_same_meaning(name: str, tmp_path: Path) -> None:
    assert not mirrored(REPORTS[name](tmp_path))


def test_the_reports_of_this_file_fill_every_list_of_their_documents(tmp_path: Path) -> None:
    """An empty list would hide the names of its entries."""
    of_text = {
        "diff.notes",
        "freeze_report.notes",
        "load_report.notes",
        "verification.notes",
        "written.notes",
    }
    of_text |= {"written.left_out", "inference.missing"}
    filled: dict[str, bool] = {}
    for make in REPORTS.values():
        document = make(tmp_path).to_json()
        for field, value in document.items():
            if isinstance(value, list):
                place = f"{document['format'].removeprefix('ckptkit.')}.{field}"
                filled[place] = filled.get(place, False) or bool(value)
    assert {place for place, any_of in filled.items() if not any_of} <= of_text


def test_what_users_look_for_is_there() -> None:
    report = checked()
    assert report.coverage.parameters < 1.0
    assert {m.key: m.source_shape for m in report.mismatched} == {"norm.weight": (3,)}
    findings = failed().findings
    assert findings[0].fix is not None
    assert findings[0].fix.remap == ({"op": "strip_prefix", "prefix": "net."},)


def test_the_findings_of_an_error_are_those_of_the_report() -> None:
    report = ckptkit.check(Tied(), state())
    with pytest.raises(ckptkit.IncompatibleKeysError) as caught:
        report.raise_for_errors()
    assert report.findings
    assert [id(finding) for finding in caught.value.findings] == [id(finding) for finding in report.findings]


def test_the_fix_of_a_report_is_a_config_that_loads() -> None:
    model = Tied()
    report = ckptkit.check(model, state())
    assert report.fix == ckptkit.LoadConfig(rules=RULES[:1], description=report.findings[0].title)
    assert ckptkit.load(model, state(), report.fix).ok
    assert ckptkit.check(model, Tied()).fix is None


def test_the_fix_of_a_load_with_a_config_holds_that_config_too() -> None:
    twice = {f"module.{key}": value for key, value in state().items()} | {"extra": torch.ones(2)}
    before = ckptkit.LoadConfig(rules=[{"op": "strip_prefix", "prefix": "module."}], allow_unexpected="extra")
    report = ckptkit.check(Tied(), twice, before)
    assert not report.ok
    assert report.fix is not None
    assert report.fix.rules[0] is before.rules[0]
    assert ckptkit.load(Tied(), twice, report.fix).ok


def test_the_fix_of_an_explanation_is_what_the_command_writes(tmp_path: Path) -> None:
    from ckptkit.__main__ import main

    explanation = ckptkit.explain(MISSING)
    (tmp_path / "error.txt").write_text(MISSING)
    assert main(["explain", str(tmp_path / "error.txt"), "-o", str(tmp_path / "fix.yaml")]) == 0
    assert explanation.fix == ckptkit.LoadConfig.from_file(tmp_path / "fix.yaml")
    assert ckptkit.explain("all is well").fix is None


def test_the_comparison_sees_what_differs() -> None:
    finding = ckptkit.Finding("a", "b", "c", ("k",))
    document = finding.to_json()
    assert differences(finding, document, "f") == []
    assert differences(finding, {**document, "reason": 1}, "f") == [
        "f.reason: a Finding has no such attribute"
    ]
    assert differences(finding, {**document, "keys": ["k", "l"]}, "f") == ["f.keys: ('k',) is not ['k', 'l']"]
    assert differences(finding, {**document, "title": "x"}, "f") == ["f.title: 'b' is not 'x'"]
