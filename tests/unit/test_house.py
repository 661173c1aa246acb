"""Rules of the house that no linter of ours knows."""

import ast
import re
import subprocess
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import conformance

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
CPNS = len((ROOT / "src" / "cpns").parts)
ROOMS_OF_PEERS = {"transport", "service", "server", "gateway", "pne", "node"}

# In two halves each, so that this file is not its own finding.
FOREIGN = [
    "../" + "shared",
    "/work" + "/",
    "pypi" + ".org",
    "python" + "hosted",
    "registry." + "npmjs",
    "crates" + ".io",
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def repository() -> list[Path]:
    """Return the files that are, or would be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    else:
        left_out = {".git", ".venv", "build", "dist", "__pycache__"}
        paths = [p for p in ROOT.rglob("*") if not any(p_ in left_out or p_.endswith("_cache") for p_ in p.parts)]
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_source(path: Path) -> None:
    """A file answers one question, a function fits a screen, and nothing hangs on a statement that -O removes."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= MAX_FILE_LINES
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(tree) if f.end_lineno is not None}
    assert {name: lines for name, lines in long.items() if lines > MAX_FUNCTION_LINES} == {}
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_lines_end_at_lf_alone(path: Path) -> None:
    """These end lines at U+2028 and a dozen other characters, which a text may hold."""
    assert not re.search(r"\b(splitlines|iter_lines|aiter_lines)\(", path.read_text(encoding="utf-8"))


def test_there_are_sources() -> None:
    assert len(SOURCES) > 10
    assert any(path.name == "test_house.py" for path in repository())


# No circle between files: whoever reads one need not read another that needs the first


MODULES = {
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES
}


def imports(source: str, modules: Container[str]) -> set[str]:
    """Return which of *modules* a source imports, wherever in it, and be it for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inside = {f"{node.module}.{one.name}" for one in node.names}
            found.update(one if one in modules else node.module for one in inside)
    return {one for one in found if one in modules}


def in_circles(graph: Mapping[str, set[str]]) -> set[str]:
    """Return the names in *graph* that lead back to themselves, and those on a way between two such."""
    left = set(graph)
    while True:
        used = {other for name in left for other in graph[name] & left}
        inside = {name for name in left & used if graph[name] & left}
        if inside == left:
            return left
        left = inside


def test_no_file_leads_back_to_itself() -> None:
    graph = {name: imports(path.read_text(encoding="utf-8"), MODULES) for name, path in MODULES.items()}
    rooms: dict[str, set[str]] = {}
    for name, others in graph.items():
        room = ".".join(name.split(".")[:2])
        rooms.setdefault(room, set()).update(".".join(other.split(".")[:2]) for other in others)
    assert in_circles(graph) == set()
    assert in_circles({room: others - {room} for room, others in rooms.items()}) == set()


@pytest.mark.parametrize(
    "source",
    [
        "from room.b import thing",
        "from room import b",
        "import room.b",
        "def late():\n    from room.b import thing",
        "if TYPE_CHECKING:\n    from room import b",
    ],
)
def test_a_circle_is_found_however_it_is_written(source: str) -> None:
    modules = {"room", "room.a", "room.b", "room.c", "room.d"}
    graph = {"room.a": imports(source, modules), "room.b": {"room.a"}, "room.c": {"room.a"}, "room.d": set[str]()}
    assert in_circles(graph) == {"room.a", "room.b"}
    assert in_circles({**graph, "room.b": {"room.d"}}) == set()


def test_nothing_foreign_is_named() -> None:
    found: list[str] = []
    for path in repository():
        text = path.read_bytes().decode(errors="ignore").lower()
        found.extend(f"{name_of(path)}: {needle}" for needle in FOREIGN if needle in text)
    assert found == []


def test_the_locks_hold_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        lines = (ROOT / name).read_text().splitlines()
        packages = [line for line in lines if not line.startswith((" ", "#"))]
        assert len(packages) > 20
        assert all("==" in line and line.endswith("\\") for line in packages), name
        assert not any("://" in line or line.startswith("-") for line in lines), name


def test_the_development_lock_holds_the_runtime_lock() -> None:
    """So that `make test` tests what `make demo` runs."""
    runtime, development = (
        (ROOT / name).read_text().splitlines() for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert set(runtime) <= set(development)


# The table of clauses


def numbered(prefix: str, last: int, first: int = 1) -> list[str]:
    return [f"{prefix}{number}" for number in range(first, last + 1)]


def test_every_clause_is_in_the_table_once() -> None:
    clauses = conformance.read_clauses(conformance.REQUIREMENTS.read_text(encoding="utf-8"))
    assert list(clauses) == [
        *numbered("DEF-", 9),
        *numbered("SES-", 6),
        "AUTH-0",
        *numbered("AUTH-P", 7),
        *numbered("AUTH-G", 6),
        *numbered("AUTH-S", 4),
        "AUTH-7.5.5",
        "CM-0",
        "CM-A",
        "CM-B",
        *numbered("CM-", 18),
        *numbered("FN-", 11),
    ]
    assert all(len(text) > 5 for text in clauses.values())


def test_an_id_that_comes_twice_is_found() -> None:
    with pytest.raises(ValueError, match="CM-1 comes twice"):
        conformance.read_clauses("| CM-1 | one |\n| CM-1 | two |")


OUR_OWN = {
    "will look again: %s",
    "will look again for revocations: %s",
    "not every process has confirmed that %s is out: it finds it in the store",
    "the kept key of %s does not open: another will be asked for",
    "refusals are not written down yet: %s",
    "NATS: %s",
    "NATS at %s is away: what is behind other processes can't be reached",
    "NATS is back",
    "the certificate %s was read anew; it ends on %s",
    "the certificate %s can't be read anew (%s): the older one serves on",
    "the certificate %s ended on %s: no gateway takes it",
    "the certificate %s ends on %s: write a new one there",
}
"""Lines of the log that no peer can cause."""


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[CPNS] in ROOMS_OF_PEERS], ids=name_of)
def test_a_line_of_the_log_names_who_caused_it(path: Path) -> None:
    """Else all who can cause it share one pace, and one of them buries the lines of the others."""
    for call in (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "_log":
            said = call.args[0]
            ours = isinstance(said, ast.Constant) and said.value in OUR_OWN
            named = call.func.attr == "setLevel" or any(word.arg == "extra" for word in call.keywords)
            assert named or ours, f"line {call.lineno}: who causes it? Say so with extra=by(...)"
