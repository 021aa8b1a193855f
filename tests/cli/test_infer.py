"""The infer command as people and scripts use it."""

from __future__ import annotations

import json

from .conftest import Shell

SIGNATURE = {"format": "ckptkit.signature", "version": 1, "tied": [], "metadata": {}}


def write(shell: Shell, name: str, shapes: dict[str, list[int]]) -> None:
    tensors = [{"key": k, "shape": s, "dtype": "float32"} for k, s in shapes.items()]
    (shell.folder / name).write_text(json.dumps({**SIGNATURE, "tensors": tensors}))


def prepare(shell: Shell) -> None:
    write(shell, "old.json", {"module.a.weight": [3, 4], "module.b.weight": [5, 3], "step": [1]})
    write(shell, "new.json", {"a.weight": [3, 4], "b.weight": [5, 3]})
    write(shell, "more.json", {"a.weight": [3, 4], "head.weight": [9, 9]})


def test_a_complete_answer_exits_0_and_its_recipe_makes_the_target(shell: Shell) -> None:
    prepare(shell)
    ran = shell("infer", "old.json", "new.json", "-o", "recipe.yaml", "--drop-unused", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["missing"] == []
    assert ran.document["unused"] == ["step"]
    made = shell("remap", "old.json", "--config", "recipe.yaml", "--dry-run", "--json")
    assert {o["key"] for o in made.document["outputs"]} == {"a.weight", "b.weight"}


def test_a_target_key_without_a_source_exits_1_and_the_rest_is_written_all_the_same(shell: Shell) -> None:
    prepare(shell)
    ran = shell("infer", "old.json", "more.json", "-o", "recipe.json")
    assert ran.code == 1
    assert "without a source: head.weight" in ran.out
    assert json.loads((shell.folder / "recipe.json").read_text())["rules"]


def test_like_stands_for_the_target(shell: Shell) -> None:
    prepare(shell)
    assert shell("infer", "old.json", "--like", "new.json").out == shell("infer", "old.json", "new.json").out


def test_no_target_or_two_are_a_mistake(shell: Shell) -> None:
    prepare(shell)
    for arguments in (["old.json"], ["old.json", "new.json", "--like", "new.json"]):
        ran = shell("infer", *arguments)
        assert ran.code == 2
        assert "infer needs one of TARGET, --like CKPT and --model" in ran.err


def test_inferring_needs_no_torch(shell: Shell) -> None:
    prepare(shell)
    ran = shell.process("infer", "old.json", "new.json", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert ran.code == 0
    assert "ckptkit.inference" in ran.err
    assert "| torch\n" not in ran.err


def test_rules_never_replace_a_file_unasked_and_an_input_never(shell: Shell) -> None:
    prepare(shell)
    before = {name: (shell.folder / name).read_bytes() for name in ("old.json", "new.json")}
    (shell.folder / "recipe.yaml").write_text("rules: []  # mine\n")
    ran = shell("infer", "old.json", "new.json", "-o", "recipe.yaml")
    assert (ran.code, ran.out) == (2, "")
    assert "recipe.yaml: exists already" in ran.err
    assert (shell.folder / "recipe.yaml").read_text() == "rules: []  # mine\n"
    (shell.folder / "link.json").symlink_to("old.json")
    for name in ("old.json", "new.json", "link.json"):
        ran = shell("infer", "old.json", "new.json", "-o", name, "--overwrite")
        assert ran.code == 2
        assert "which this command reads; choose another file to write" in ran.err
    assert {name: (shell.folder / name).read_bytes() for name in before} == before
    assert shell("infer", "old.json", "new.json", "-o", "recipe.yaml", "--overwrite").code == 0
    assert "op: rename" in (shell.folder / "recipe.yaml").read_text()
