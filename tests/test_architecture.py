"""The laws of docs/architecture.md, read off the source: who imports whom, who prints, what is never called.

Each check returns lines ``file:line: what is wrong``, so that it can be tried on made-up source too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
PACKAGE = REPO / "src" / "ckptkit"

# A room is a module or folder directly in the package. In each line a room may import the rooms left of it,
# and whatever those may import. `config` reads files, which know nothing of rules.
LINES = (
    "findings errors",
    "dialect errors text regexes",
    "naming patterns",
    "errors collector dtypes sizes text regexes rewriting dtype_names patterns signatures resize expr rules config plans",
    "signatures files formats checkpoint",
    "yaml_text files config",
    "threads formats checkpoint",
    "threads expr plans",
    "text freeze_report modules",
    "config plans matching diagnosis",
    "config composing load_report",
    "text load_report matching diagnosis modules",
    "plans checkpoint named_metadata planned",
    "plans checkpoint module_paths state_metadata computed planned stale plan_file execute api roundtrips fit",
    "api modules planning",
    "plans checkpoint inference diagnosis",
    "checkpoint planned content comparison cli",
    "text diff_report comparison cli",
    "checkpoint content stats verification cli",
    "text patterns vetoes diagnosis",
    "text patterns resize vetoes yaml_text composing explanation cli",
    "code_names explanation cli",
    "plans matching explanation diagnosis",
    "explanation modules explained",
    "code_names verification",
    "fit distributed modules render cli __main__",
    "checkpoint stats render",
)
APART = {
    "formats": {"rules", "plans", "inference"},
    "files": {"rules", "plans", "inference"},
    "rules": {"formats"},
}

# Functions may import torch, packages that not every command needs, and modules that not every platform has.
LAZY = {
    "torch",
    "safetensors",
    "numpy",
    "yaml",
    "rich",
    "jinja2",
    "fsspec",
    "shtab",
    "regex",
    "fcntl",
    "resource",
    "ctypes",
    "multiprocessing",
    "concurrent",
    "shutil",
}
# Opening a file imports the reader of its format and no other, as the cli imports one command: a start without
# the other readers and the writers is faster than a third of what `inspect` may take. A fix is a config for whoever asks
# for one: the configs take several times as long to import as an error takes to be explained.
DISPATCH = {"formats.opening": "formats", "formats.memory": "formats", "composing": "config"}
TORCH_AT_THE_TOP = {"distributed"}  # its classes extend classes of torch
OUTSIDE_WORLD = {"cli", "__main__"}
# While a model is half filled, signals wait; the handlers stand again before `load` is over.
MAY = {"modules.interrupts": {"signal.signal"}}
NEVER_IMPORTED = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
NEVER_CALLED = {"torch.load", "eval", "exec", "__import__"}
MOST_LINES = 400


@dataclass(frozen=True)
class Module:
    """One source file; `name` is dotted and relative to the package: ``formats.base``, ``__init__``."""

    name: str
    file: str
    tree: ast.Module
    is_package: bool

    @property
    def room(self) -> str:
        return self.name.split(".")[0]

    def at(self, node: ast.AST, message: str) -> str:
        return f"{self.file}:{getattr(node, 'lineno', 1)}: {message}"


@dataclass(frozen=True)
class Imported:
    """One import: of a module of the package (`inner`, relative to it) or of another package (`outer`)."""

    node: ast.stmt
    inner: str | None
    outer: str | None
    function: str | None
    for_types: bool


Modules = dict[str, Module]


def parse(sources: dict[str, str]) -> Modules:
    """Modules from paths relative to the package and their text."""
    modules = {}
    for file, text in sources.items():
        parts = file.removesuffix(".py").split("/")
        is_package = parts[-1] == "__init__" and len(parts) > 1
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = Module(name, f"src/ckptkit/{file}", ast.parse(text), is_package or name == "__init__")
    return modules


def imports(module: Module, modules: Modules) -> Iterator[Imported]:
    """Every import statement, with the function that holds it and whether it is for type checkers only."""

    def visit(node: ast.AST, function: str | None, for_types: bool) -> Iterator[Imported]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield resolved(child, alias.name, function, for_types)
            elif isinstance(child, ast.ImportFrom):
                base = absolute(child)
                inside = base == "ckptkit" or base.startswith("ckptkit.")
                for alias in child.names:
                    submodule = f"{base}.{alias.name}".removeprefix("ckptkit.")
                    deeper = inside and submodule in modules
                    yield resolved(child, f"ckptkit.{submodule}" if deeper else base, function, for_types)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield from visit(child, getattr(child, "name", "lambda"), for_types)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for statement in child.body:
                    yield from visit(ast.Module([statement], []), function, True)
                for statement in child.orelse:
                    yield from visit(ast.Module([statement], []), function, for_types)
            else:
                yield from visit(child, function, for_types)

    def absolute(node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = [] if module.name == "__init__" else module.name.split(".")
        folder = parts if module.is_package else parts[:-1]
        folder = folder[: len(folder) - node.level + 1]
        return ".".join(["ckptkit", *folder, *([node.module] if node.module else [])])

    def resolved(node: ast.stmt, name: str, function: str | None, for_types: bool) -> Imported:
        if name == "ckptkit":
            return Imported(node, "__init__", None, function, for_types)
        if name.startswith("ckptkit."):
            return Imported(node, name.removeprefix("ckptkit."), None, function, for_types)
        return Imported(node, None, name.split(".", maxsplit=1)[0], function, for_types)

    return visit(module.tree, None, False)


def below() -> dict[str, set[str]]:
    """For each room all the rooms that it may import."""
    reach: dict[str, set[str]] = {}
    for line in LINES:
        rooms = line.split()
        for number, room in enumerate(rooms):
            reach.setdefault(room, set()).update(rooms[:number])
    for _ in reach:
        for rooms_below in reach.values():
            rooms_below.update(*(reach[room] for room in list(rooms_below)))
    return reach


def reaches_render(item: Imported) -> bool:
    return item.function == "_repr_html_" and str(item.inner).split(".")[0] == "render"


def wrong_directions(modules: Modules) -> list[str]:
    reach, found = below(), []
    for module in modules.values():
        if module.name == "__init__":  # loads every public name, on first use
            continue
        if module.room not in reach:
            found.append(f"{module.file}:1: the room {module.room!r} has no place yet; give it one in LINES")
            continue
        for item in imports(module, modules):
            if item.inner is None:
                continue
            room = item.inner.split(".")[0]
            if reaches_render(item):
                continue
            if room == "__init__":
                if module.room not in OUTSIDE_WORLD | {"render"}:
                    found.append(module.at(item.node, "imports the package itself; import from the module"))
            elif room != module.room and room not in reach[module.room]:
                found.append(module.at(item.node, f"{module.room} must not import {room}"))
    return found


def cycles(modules: Modules) -> list[str]:
    """Importing a submodule runs its packages too, so a module depends on the packages of what it imports."""
    graph: dict[str, set[str]] = {}
    for module in modules.values():
        if module.name == "__init__":
            continue
        needs = graph.setdefault(module.name, set())
        for item in imports(module, modules):
            if item.inner not in (None, "__init__") and not item.for_types and item.inner != module.name:
                needs.add(str(item.inner))
                package = str(item.inner).rpartition(".")[0]
                if package and not f"{module.name}.".startswith(f"{package}."):
                    needs.add(package)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        chain = error.args[1]
        first = modules.get(chain[0])
        return [f"{first.file if first else chain[0]}:1: imports in a circle: {' -> '.join(reversed(chain))}"]
    return []


def hidden_imports(modules: Modules) -> list[str]:
    found = []
    for module in modules.values():
        for item in imports(module, modules):
            if item.function is None or item.for_types or item.outer in LAZY:
                continue
            dispatches = DISPATCH.get(module.name) == str(item.inner).split(".")[0]
            if reaches_render(item) or dispatches or module.room in OUTSIDE_WORLD:
                continue
            name = item.inner or item.outer
            found.append(module.at(item.node, f"{item.function}() imports {name}; move it to the top"))
    return found


def torch_at_the_top(modules: Modules) -> list[str]:
    return [
        module.at(item.node, "imports torch when it is imported; do so in the function that needs it")
        for module in modules.values()
        for item in imports(module, modules)
        if item.outer == "torch"
        and not item.function
        and not item.for_types
        and module.room not in TORCH_AT_THE_TOP
    ]


def prints_and_exits(modules: Modules) -> list[str]:
    calls = {"print", "input", "exit", "quit", "sys.exit", "os._exit", "os.abort", "signal.signal"}
    streams = {"sys.stdout", "sys.stderr", "sys.stdin", "sys.argv"}
    found = []
    for module in modules.values():
        if module.room in OUTSIDE_WORLD:
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in calls - MAY.get(module.name, set()):
                found.append(module.at(node, f"calls {ast.unparse(node.func)}; only cli may"))
            elif isinstance(node, ast.Attribute) and ast.unparse(node) in streams:
                found.append(module.at(node, f"uses {ast.unparse(node)}; only cli may"))
            elif isinstance(node, ast.Raise) and node.exc and "SystemExit" in ast.unparse(node.exc):
                found.append(module.at(node, "raises SystemExit; only cli may"))
    return found


def unsafe_code(modules: Modules) -> list[str]:
    found = []
    for module in modules.values():
        for item in imports(module, modules):
            if item.outer in NEVER_IMPORTED:
                found.append(module.at(item.node, f"imports {item.outer}; the input is never unpickled"))
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in NEVER_CALLED:
                found.append(module.at(node, f"calls {ast.unparse(node.func)}"))
    return found


def loose_strings(modules: Modules) -> list[str]:
    """A string that is a statement and no docstring: the second half of a text that the first half lost."""
    found = []
    for module in modules.values():
        docs = {
            node.body[0]
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
        }
        for node in ast.walk(module.tree):
            loose = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.JoinedStr)
            if loose and node not in docs and ast.unparse(node) != "...":
                found.append(module.at(node, "this string belongs to nothing"))
    return found


CHECKS: tuple[Callable[[Modules], list[str]], ...] = (
    wrong_directions,
    cycles,
    hidden_imports,
    torch_at_the_top,
    prints_and_exits,
    unsafe_code,
    loose_strings,
)


@pytest.fixture(scope="module")
def package() -> Modules:
    return parse({p.relative_to(PACKAGE).as_posix(): p.read_text("utf-8") for p in PACKAGE.rglob("*.py")})


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_the_package_keeps_the_laws(check: Callable[[Modules], list[str]], package: Modules) -> None:
    found = check(package)
    assert not found, "\n" + "\n".join(found)


def test_the_order_of_the_rooms_keeps_formats_and_rules_apart() -> None:
    reach = below()
    assert not [(room, other) for room, others in APART.items() for other in others if other in reach[room]]
    assert not [room for room in reach if room in reach[room]]


def test_no_module_is_named_like_a_public_name(package: Modules) -> None:
    """Importing a submodule sets its name on the package, and would take the place of the function."""
    init = package["__init__"].tree
    public = next(
        ast.literal_eval(node.value)
        for node in init.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    clash = {module.room for module in package.values()} & set(public) - {
        "rules"
    }  # the module itself is public
    assert not clash, f"{sorted(clash)}: name the module otherwise"


def test_no_file_outgrows_one_idea(package: Modules) -> None:
    counts = {m.file: len((REPO / m.file).read_text("utf-8").splitlines()) for m in package.values()}
    long = [
        f"{file}:{lines}: more than {MOST_LINES} lines"
        for file, lines in counts.items()
        if lines > MOST_LINES
    ]
    assert not long, "\n".join(long)


RULES_IN_A_CIRCLE = {
    "rules/__init__.py": "from .a import A",
    "rules/a.py": "from . import b",
    "rules/b.py": "import ckptkit.rules",
}
BROKEN: list[tuple[Callable[[Modules], list[str]], int, dict[str, str]]] = [
    (wrong_directions, 1, {"formats/x.py": "from ..rules import Rule", "rules/__init__.py": ""}),
    (wrong_directions, 2, {"files/x.py": "import os\nimport ckptkit.plans", "plans.py": ""}),
    (wrong_directions, 1, {"rules/keys.py": "from .. import formats", "formats/__init__.py": ""}),
    (wrong_directions, 2, {"errors.py": "def f():\n    from .text import fold", "text.py": ""}),
    (wrong_directions, 1, {"plans.py": "from . import open"}),
    (wrong_directions, 1, {"unheard_of.py": ""}),
    (cycles, 1, {"text.py": "from .sizes import a", "sizes.py": "def f():\n    import ckptkit.text"}),
    (cycles, 1, RULES_IN_A_CIRCLE),
    (hidden_imports, 2, {"plans.py": "def f():\n    from .text import fold", "text.py": ""}),
    (hidden_imports, 2, {"load_report.py": "def _repr_html_():\n    import json"}),
    (torch_at_the_top, 2, {"plans.py": "try:\n    import torch.nn\nexcept ImportError: pass"}),
    (prints_and_exits, 2, {"execute.py": "def f():\n    print(1)"}),
    (prints_and_exits, 2, {"api.py": "import sys\nsys.exit(2)"}),
    (prints_and_exits, 1, {"api.py": "raise SystemExit(2)"}),
    (unsafe_code, 1, {"formats/x.py": "import pickle"}),
    (loose_strings, 3, {"plans.py": '"""A module."""\ntitle = "a sentence of "\n"two halves"'}),
    (unsafe_code, 2, {"checkpoint.py": "import torch\ntorch.load(path, weights_only=True)"}),
]


@pytest.mark.parametrize(("check", "line", "sources"), BROKEN)
def test_a_broken_law_is_found_with_its_file_and_line(
    check: Callable[[Modules], list[str]], line: int, sources: dict[str, str]
) -> None:
    found = check(parse(sources))
    assert len(found) == 1, found
    assert any(found[0].startswith(f"src/ckptkit/{file}:{line}: ") for file in sources)


TORCH_WHERE_IT_IS_NEEDED = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import torch
def f():
    import torch
"""
ALLOWED = [
    {"plans.py": TORCH_WHERE_IT_IS_NEEDED},
    {"load_report.py": "def _repr_html_():\n    from .render import html", "render/__init__.py": ""},
    {"cli/main.py": "def run():\n    from .. import api\n    print(api)", "api.py": ""},
    {
        "rules/__init__.py": "from .keys import Keep",
        "rules/keys.py": "from .base import R",
        "rules/base.py": "",
    },
]


@pytest.mark.parametrize("sources", ALLOWED)
def test_what_the_laws_allow_is_not_reported(sources: dict[str, str]) -> None:
    assert [line for check in CHECKS for line in check(parse(sources))] == []


def test_importing_the_package_imports_neither_torch_nor_pydantic() -> None:
    code = "import sys, ckptkit; print(sorted({'torch', 'pydantic', 'numpy', 'rich'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_opening_one_file_imports_neither_the_recogniser_of_folders_nor_pools_and_compressions(
    tmp_path: Path,
) -> None:
    """What it does not need is most of what there is, and every command starts with it."""
    path = tmp_path / "a.safetensors"
    header = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"x")
    unwanted = (
        "layouts.table",
        "layouts.finding",
        "ckptkit.rules",
        "ckptkit.plans",
        "concurrent",
        "lzma",
        "torch",
    )
    code = (
        "import sys, ckptkit; assert list(ckptkit.signature(sys.argv[1])) == ['w'];"
        f"print([name for name in sys.modules if any(part in name for part in {unwanted!r})])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
