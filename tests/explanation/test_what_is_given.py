"""`explain` takes what people have at hand: text, the exception itself, or what `load_state_dict` returned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import ckptkit
from ckptkit.__main__ import main

WRAPPED = {f"module.{key}": value for key, value in nn.Linear(2, 2).state_dict().items()}


def failure() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        nn.Linear(2, 2).load_state_dict(WRAPPED)
    return caught.value


def raised(make: Any) -> BaseException:
    try:
        make()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def from_cause() -> None:
    raise ValueError("the model could not be restored") from failure()


def in_context() -> None:
    try:
        nn.Linear(2, 2).load_state_dict(WRAPPED)
    except RuntimeError:
        raise ValueError("cannot go on")  # noqa: B904


def in_a_note() -> None:
    error = ValueError("cannot go on")
    error.add_note(str(failure()))
    raise error


def in_a_group() -> None:
    raise ExceptionGroup("workers failed", [OSError("gone"), failure()])


@pytest.mark.parametrize("make", [from_cause, in_context, in_a_note, in_a_group])
def test_the_cause_is_found_wherever_an_exception_carries_it(make: Any) -> None:
    expected = ckptkit.explain(str(failure()))
    found = ckptkit.explain(raised(make))
    assert [f.cause for f in found.findings] == [f.cause for f in expected.findings] == ["prefix_strip"]
    assert found.fix == expected.fix == ckptkit.LoadConfig(
        rules=[{"op": "strip_prefix", "prefix": "module."}], description=found.findings[0].title
    )  # fmt: skip


def test_what_was_raised_from_none_does_not_count() -> None:
    def suppressed() -> None:
        try:
            nn.Linear(2, 2).load_state_dict(WRAPPED)
        except RuntimeError:
            raise ValueError("cannot go on") from None

    assert not ckptkit.explain(raised(suppressed)).findings


def test_exceptions_in_a_circle_end() -> None:
    one, two = ValueError("a"), ValueError("b")
    one.__cause__, two.__cause__ = two, one
    assert not ckptkit.explain(one).findings


def test_the_keys_that_torch_returns_are_taken_as_they_are() -> None:
    model = nn.Linear(2, 2)
    result = model.load_state_dict(WRAPPED, strict=False)
    found = ckptkit.explain(result)
    assert found.parsed.missing == result.missing_keys
    assert found.parsed.unexpected == result.unexpected_keys
    assert found.findings[0].cause == "prefix_strip"
    assert ckptkit.load(model, WRAPPED, found.fix).ok
    assert not ckptkit.explain(model.load_state_dict(model.state_dict())).findings


def test_an_error_of_ours_brings_its_own_findings() -> None:
    with pytest.raises(ckptkit.IncompatibleKeysError) as caught:
        ckptkit.load(nn.Linear(2, 2), WRAPPED)
    assert ckptkit.explain(caught.value).findings is caught.value.findings


def test_a_bad_file_is_explained_from_the_error_too(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ckptkit.FormatError) as caught:
        ckptkit.open(tmp_path / "a.pt")
    assert ckptkit.explain(caught.value).findings[0].cause == "file_not_checkpoint"


def test_another_type_is_refused_in_words() -> None:
    with pytest.raises(ckptkit.UsageError) as caught:
        ckptkit.explain(3)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "explain takes the text of an error, an exception, or what load_state_dict returns, not a value of type int"
    )


def test_explaining_adds_one_note_and_none_to_what_explains_itself() -> None:
    def twice() -> None:
        with ckptkit.explaining(), ckptkit.explaining():
            nn.Linear(2, 2).load_state_dict(WRAPPED)

    def ours() -> None:
        with ckptkit.explaining():
            ckptkit.load(nn.Linear(2, 2), WRAPPED)

    (note,) = raised(twice).__notes__
    assert note.startswith(
        "\nckptkit explains:\n1. the checkpoint's keys carry the prefix 'module.', the model's do not"
    )
    assert not getattr(raised(ours), "__notes__", [])


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["explain", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_takes_the_text_itself(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, f"RuntimeError: {failure()}")
    assert (code, err) == (0, "")
    assert out.startswith("1. the checkpoint's keys carry more than the model's: the prefix 'module.'")


def test_text_that_says_nothing_tells_how_it_was_read(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "no such thing at all")
    assert code == 1
    assert out.startswith("Nothing here looks like a failure to load a checkpoint. Give the whole message")
    assert err == "note: there is no file of this name, so it was read as the text of an error\n"


@pytest.mark.parametrize("name", ["error.txt", "my error.txt", "logs/run"])
def test_a_missing_file_is_a_missing_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, name)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {name}: does not exist")


def test_a_file_counts_before_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "KeyError: 'a'").write_text(f"RuntimeError: {failure()}")
    assert run(capsys, "KeyError: 'a'")[1].startswith("1. the checkpoint's keys carry more")


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_argument_is_no_file_and_no_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", text]) == 2
    assert capsys.readouterr().err == (
        "error: the text is empty; give the words of the error, or the file that has them\n"
    )
