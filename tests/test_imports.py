"""The import rule: data flows to the right, and no room knows the one that uses it."""

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: package → the packages it may import, besides itself
ALLOWED = {
    "shards": set[str](),
    "gdt": set[str](),
    "pipelines": {"shards", "gdt"},
    "models": {"gdt"},
    "tools": {"shards", "gdt", "pipelines", "models"},
}

#: package → its modules that belong to no room and lie below all of them
FOUNDATIONS = {
    "shards": {"errors", "options", "plural", "shown"},
    "pipelines": {"color", "skips"},
    "tools": {"say", "terminal"},
}

#: package → room → the rooms it may import, besides itself and the foundations
ROOMS = {
    "shards": {
        "storage": set[str](),
        "format": {"storage"},
        "media": {"storage", "format"},
        "reading": {"storage", "format", "media"},
        "sources": {"storage", "format", "media"},
        "encoding": {"storage", "format", "media", "sources"},
        "building": {"storage", "format", "media", "reading", "sources", "encoding"},
        "maintenance": {"storage", "format", "media", "reading", "encoding", "building"},
    },
    "pipelines": {
        "sampling": set[str](),
        "decoding": {"sampling"},
        "loading": {"sampling", "decoding"},
        "device": {"sampling", "decoding", "loading"},
    },
    "tools": {
        "display": set[str](),
        "runs": set[str](),
        "sample_data": set[str](),
        "evaluation": {"display", "runs"},
        "propagation": {"display", "runs", "sample_data", "evaluation"},
        "training": {"runs", "evaluation"},
        "search": {"display", "runs", "evaluation"},
        "commands": {
            "display",
            "runs",
            "sample_data",
            "evaluation",
            "propagation",
            "search",
            "training",
        },
    },
}


def imported_modules(source: str, in_functions: bool = True) -> set[str]:
    """Dotted names that a module imports, anywhere in it; `from a import b` is `a.b`."""
    found = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if in_functions or not isinstance(node, ast.FunctionDef):
            waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(package: str, source: str) -> set[str]:
    """The packages that a module of this one imports and may not."""
    forbidden = (set(ALLOWED) - ALLOWED[package] - {package}) | {"tests"}
    if package == "shards":
        forbidden |= {"torch", "torchvision", "torchaudio", "lightning"}
    return {name.partition(".")[0] for name in imported_modules(source)} & forbidden


def room_violations(package: str, room: str, source: str) -> set[str]:
    """The rooms that a module of this room imports and may not.

    A package's own names (`from shards import Dataset`) are for other packages: its `__init__`
    lies above the rooms.
    """
    allowed = {room, *FOUNDATIONS[package], *ROOMS[package].get(room, ())}
    inside = (name.partition(".") for name in imported_modules(source))
    return {rest.partition(".")[0] or top for top, _, rest in inside if top == package} - allowed


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def circle(modules: Mapping[str, str]) -> list[str]:
    """Modules, of these (name → source), that need each other to be loaded; empty if none do.

    What a function imports when it is called, as a table of backends does, is not counted.
    """
    graph = {}
    for module, source in modules.items():
        names = imported_modules(source, in_functions=False)
        names |= {name.rpartition(".")[0] for name in names}
        graph[module] = (names & modules.keys()) - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


MODULES = [
    (package, path) for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))
]
IN_ROOMS = [
    (package, room, path)
    for package in ROOMS
    for room in [*sorted(FOUNDATIONS[package]), *ROOMS[package]]
    for path in [ROOT / package / f"{room}.py", *sorted((ROOT / package / room).rglob("*.py"))]
    if path.exists()
]


@pytest.mark.parametrize(
    ("package", "path"), MODULES, ids=[str(path.relative_to(ROOT)) for _, path in MODULES]
)
def test_a_package_imports_only_the_packages_before_it(package: str, path: Path) -> None:
    assert violations(package, path.read_text()) == set()


@pytest.mark.parametrize(
    ("package", "room", "path"),
    IN_ROOMS,
    ids=[str(path.relative_to(ROOT)) for _, _, path in IN_ROOMS],
)
def test_a_room_imports_only_the_rooms_below_it(package: str, room: str, path: Path) -> None:
    assert room_violations(package, room, path.read_text()) == set()


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_is_in_the_table_and_the_table_has_no_circle(package: str) -> None:
    folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert folders == set(ROOMS[package])
    TopologicalSorter(ROOMS[package]).prepare()
    assert all(below <= set(ROOMS[package]) for below in ROOMS[package].values())


@pytest.mark.parametrize("package", ALLOWED)
def test_no_modules_import_each_other(package: str) -> None:
    assert circle({module_of(p): p.read_text() for name, p in MODULES if name == package}) == []


@pytest.mark.parametrize(
    ("package", "source", "found"),
    [
        ("gdt", "from shards import Dataset", {"shards"}),
        ("shards", "def f():\n    import torch.nn", {"torch"}),
        ("models", "import pipelines.loading.stream as s", {"pipelines"}),
        ("pipelines", "from tools.runs.config import Config", {"tools"}),
        ("models", "from gdt import Plan\nfrom . import heads", set()),
        ("tools", "from gdt import Plan\nimport shards, models", set()),
    ],
)
def test_the_rule_for_packages_can_fail(package: str, source: str, found: set[str]) -> None:
    assert violations(package, source) == found


@pytest.mark.parametrize(
    ("package", "room", "source", "found"),
    [
        ("shards", "format", "def f():\n    from shards.media import demux", {"media"}),
        ("shards", "reading", "from shards.sources.source import Source", {"sources"}),
        ("shards", "storage", "import shards\nfrom shards import Dataset", {"shards", "Dataset"}),
        ("shards", "options", "import shards.storage.globs", {"storage"}),
        ("pipelines", "sampling", "from pipelines.loading.stream import Stream", {"loading"}),
        ("tools", "runs", "from tools.commands import plan", {"commands"}),
        ("shards", "media", "import av\nfrom shards.storage.opening import Location", set()),
    ],
)
def test_the_rule_for_rooms_can_fail(package: str, room: str, source: str, found: set[str]) -> None:
    assert room_violations(package, room, source) == found


def test_a_circle_is_found() -> None:
    modules = {"a.x": "from a.y import Y", "a.y": "import a.z", "a.z": "def f():\n    import a.x"}
    assert circle(modules) == []
    assert set(circle(modules | {"a.z": "from a import x"})) == {"a.x", "a.y", "a.z"}


def test_there_are_modules_to_check() -> None:
    assert {package for package, _ in MODULES} == set(ALLOWED)
    assert {package for package, _, _ in IN_ROOMS} == set(ROOMS)
