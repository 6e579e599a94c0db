"""What the package's source never does: rules that hold for each line of it, read and not run."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from attrs import frozen

import nebula_async

PACKAGE = Path(nebula_async.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

RUNS_TEXT = {"eval", "exec", "compile", "__import__", "execfile"}
LOADS_CODE = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "yaml",
    "code",
    "imp",
}
STARTS = {"os.system", "os.popen", "pty.spawn", "asyncio.create_subprocess_shell", "asyncio.create_subprocess_exec"}
STARTS |= {"anyio.run_process", "anyio.open_process", "multiprocessing.Process", "runpy.run_path", "runpy.run_module"}
UNSAFE_TLS = {"_create_unverified_context", "create_default_context", "CERT_NONE", "CERT_OPTIONAL", "PROTOCOL_TLSv1"}
CLIENTS = {"httpx.AsyncClient", "httpx.Client", "httpx.get", "httpx.post", "httpx.stream", "httpx.request"}
OTHER_CLIENTS = {"urllib.request", "http.client", "requests", "aiohttp", "urllib3", "ftplib"}
STARTER = "bulk/gallery/decoding.py"
OWN_TEXT = re.compile(r"['\"]|_?[A-Z_]+\.")
XML = ("xml.", "lxml", "defusedxml")


@frozen
class Source:
    """A module, read once: its nodes, what it calls by which dotted name, and what it imports anywhere in it."""

    nodes: list[ast.AST]
    calls: list[tuple[str, ast.Call]]
    imported: set[str]

    @property
    def called(self) -> set[str]:
        """The dotted names that are called."""
        return {name for name, _ in self.calls}


@cache
def read(module: str) -> Source:
    """Read a module."""
    nodes = list(ast.walk(ast.parse((PACKAGE / module).read_text())))
    calls = [(dotted(node.func), node) for node in nodes if isinstance(node, ast.Call)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return Source(nodes, calls, names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)})


def dotted(node: ast.expr) -> str:
    """Return the name by which something is called; text of the source's own is `'…'`."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
        case ast.Constant():
            return "'…'"
    return "…"


def broken(rule: Callable[[str, Source], Iterable[object]]) -> dict[str, list[object]]:
    """Return what breaks a rule, by module."""
    found = {module: list(rule(module, read(module))) for module in MODULES}
    return {module: what for module, what in found.items() if what}


def test_no_data_becomes_code():
    """No module evaluates text, unpickles, or loads YAML: what a file or a server says stays data (S25)."""

    def rule(_module, source):
        return (source.called & RUNS_TEXT) | ({name.partition(".")[0] for name in source.imported} & LOADS_CODE)

    assert {} == broken(rule)


def test_no_text_of_users_is_a_format():
    """No text but the source's own, or a constant, is a format: those could read attributes of objects (S25)."""

    def rule(_module, source):
        formats = [name for name, _ in source.calls if name.endswith((".format", ".format_map"))]
        yield from (each for each in formats if not OWN_TEXT.match(each))
        yield from (name for name in source.called if name.endswith("Template"))

    assert {} == broken(rule)


def test_processes_are_started_without_a_shell():
    """One module starts a process, by a list of words, and nothing starts a shell (S27)."""

    def rule(module, source):
        yield from source.called & STARTS
        yield from (name for name in source.called if name.startswith(("os.exec", "os.spawn", "os.posix_spawn")))
        for name, node in source.calls:
            if name.startswith("subprocess."):
                is_list = isinstance(node.args[0], ast.List | ast.Name)
                yield from [] if is_list and module == STARTER else [ast.unparse(node)]
                yield from (keyword.arg for keyword in node.keywords if keyword.arg == "shell")

    assert {} == broken(rule)
    assert "subprocess.Popen" in read(STARTER).called


def test_nothing_speaks_http_past_the_engine():
    """No module makes an httpx client, which follows the environment, logs URLs and has a pool that can die (S6, S12),
    and none opens a URL by other means.
    """
    assert {} == broken(lambda _module, source: (source.called & CLIENTS) | (source.imported & OTHER_CLIENTS))


def test_tls_is_never_weakened():
    """No module makes a TLS context that does not verify, or one by the defaults that write session keys (S8, S13)."""

    def rule(module, source):
        names = {node.attr for node in source.nodes if isinstance(node, ast.Attribute)}
        yield from names & UNSAFE_TLS
        given = {keyword.arg for _, node in source.calls for keyword in node.keywords}
        yield from given & {"verify", "trust_env"}

    assert {} == broken(rule)


def test_no_document_is_read_by_a_parser_of_xml():
    """XML is searched for as bytes, by rules of our own: no entity is ever expanded."""
    assert {} == broken(lambda _module, source: (name for name in source.imported if name.startswith(XML)))


def test_archives_are_written_and_never_unpacked():
    """No module unpacks an archive, by whose names files could land elsewhere (S24)."""

    def rule(_module, source):
        called = {name.rpartition(".")[2] for name in source.called}
        yield from called & {"extractall", "unpack_archive"}
        yield from source.imported & {"zipfile"}
        yield from (name for name, node in source.calls if name == "tarfile.open" and "'r" in ast.unparse(node))

    assert {} == broken(rule)


def test_no_table_for_spreadsheets_is_written():
    """No module writes CSV, whose cells a spreadsheet may run: results are JSON lines, and Parquet (S21)."""
    assert {} == broken(lambda _module, source: source.called & {"csv.writer", "csv.DictWriter"})
