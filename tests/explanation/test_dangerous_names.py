"""What a file asks for is never advised to be allowed, and what can run anything is called that."""

from __future__ import annotations

import pytest

import ckptkit
from ckptkit.code_names import runs_code

DANGEROUS = [
    "posix.system",
    "nt.system",
    "builtins.eval",
    "builtins.getattr",
    "subprocess.Popen",
    "torch.hub.load",
    "torch.storage._load_from_bytes",
    "runpy.run_path",
    "numpy.os.system",
    "os.path.os.system",
    "types.FunctionType",
]
UNKNOWN = [
    "project.nets.Net",
    "functools.partial",
    "numpy._core.multiarray._reconstruct",
    "builtins.set",
    "code.models.Net",
]
WORDS = (
    "_pickle.UnpicklingError: Weights only load failed. In PyTorch 2.6, we changed the default value of `weights_only`. "
    "Re-running `torch.load` with `weights_only` set to `False` will likely succeed. WeightsUnpickler error: Unsupported "
    "global: GLOBAL {0} was not an allowed global by default. Please use `torch.serialization.add_safe_globals([{0}])`."
)


@pytest.mark.parametrize("name", [*DANGEROUS, *UNKNOWN])
def test_no_answer_advises_to_allow_a_name_or_to_switch_checks_off(name: str) -> None:
    """G2: whatever the file asks for, and although torch's own words say how to allow it."""
    explanation = ckptkit.explain(WORDS.format(name))
    words = str(explanation)
    assert explanation.findings[0].cause == "weights_only"
    assert name in words, "the name is what tells a harmless class from an attack"
    assert "convert FILE weights.safetensors" in words
    for way in ("safe_globals", "weights_only=False", "allow ", "set to `False`"):
        assert way not in words, words


@pytest.mark.parametrize("name", DANGEROUS)
def test_what_can_run_anything_is_named_as_that(name: str) -> None:
    """G2."""
    assert runs_code(name)
    finding = ckptkit.explain(WORDS.format(name)).findings[0]
    assert finding.title.startswith(f"the file asks for {name}, which can run anything")
    assert finding.fix is not None and "open it with nothing that unpickles" in finding.fix.advice


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_class_of_a_project_is_not_called_an_attack(name: str) -> None:
    assert not runs_code(name)
    assert "attack" not in str(ckptkit.explain(WORDS.format(name)))


def test_a_line_that_tells_how_to_switch_checks_off_is_not_quoted() -> None:
    """G2: torch's words stand in the text that was pasted; they are not repeated as evidence."""
    words = "Weights only load failed: Ran out of input. Re-run with weights_only=False or add_safe_globals"
    finding = ckptkit.explain(f"UnpicklingError: {words}").findings[0]
    assert (finding.cause, finding.evidence) == ("file_corrupt", "Ran out of input")


def test_thousands_of_names_are_a_short_answer() -> None:
    words = "Weights only load failed " + " ".join(f"GLOBAL {'m' * 300}{i}.x" for i in range(600))
    assert len(str(ckptkit.explain(words))) < 2000
