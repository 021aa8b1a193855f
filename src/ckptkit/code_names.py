"""Names in a pickle that no checkpoint needs: what runs programs, evaluates text, or opens files and connections."""

from __future__ import annotations

_MODULES = frozenset(
    {
        "_io", "_pickle", "_posixsubprocess", "_socket", "_thread", "asyncio", "bdb", "builtins", "__builtin__", "cProfile",
        "cloudpickle", "ctypes", "dill", "distutils", "doctest", "ensurepip", "fileinput", "ftplib", "gc", "http",
        "importlib", "inspect", "joblib", "linecache", "marshal", "multiprocessing", "nt", "ntpath", "operator",
        "_operator", "os", "pdb", "pickle", "pip", "pkgutil", "posix", "posixpath", "pty", "pydoc", "requests", "runpy",
        "setuptools", "shutil", "signal", "smtplib", "socket", "socketserver", "ssl", "subprocess", "sys", "tempfile",
        "threading", "timeit", "urllib", "venv", "webbrowser", "xmlrpc", "zipimport",
    }
)  # fmt: skip
# Of builtins, what makes a value and cannot do anything else.
_VALUES = frozenset(
    {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set", "slice",
     "str", "tuple"}
)  # fmt: skip
_BUFFERS = frozenset({"BytesIO", "StringIO"})  # of _io, bytes and text in memory
# In any module: what loads, imports or evaluates, however it is spelled around that.
_CALLS = frozenset(
    {"CodeType", "FunctionType", "__import__", "_load_from_bytes", "call", "check_output", "compile", "eval", "exec",
     "getattr", "hub", "import_module", "load", "loads", "open", "os", "popen", "Popen", "subprocess", "sys", "system"}
)  # fmt: skip


def runs_code(name: str) -> bool:
    """Whether a global of a pickle is a known way to run code, rather than a class of some project.

    Args:
        name: module and name with dots between them.
    """
    module, _, rest = name.partition(".")
    parts = rest.split(".")
    if module in ("builtins", "__builtin__") and parts[-1] in _VALUES:
        return False
    if module == "_io" and rest in _BUFFERS:
        return False
    return module in _MODULES or not _CALLS.isdisjoint(parts)
