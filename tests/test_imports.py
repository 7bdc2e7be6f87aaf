"""The import rule: data flows to the right, and no room knows the one that uses it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: room → the rooms it may import, besides itself
ALLOWED = {
    "shards": set[str](),
    "gdt": set[str](),
    "pipelines": {"shards", "gdt"},
    "models": {"gdt"},
    "tools": {"shards", "gdt", "pipelines", "models"},
}


def imported_packages(source: str) -> set[str]:
    """Top-level names that a module imports, anywhere in it; relative imports stay in the room."""
    packages = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            packages.add(node.module.partition(".")[0])
    return packages


def violations(room: str, source: str) -> set[str]:
    forbidden = (set(ALLOWED) - ALLOWED[room] - {room}) | {"tests"}
    if room == "shards":
        forbidden |= {"torch", "torchvision", "torchaudio", "lightning"}
    return imported_packages(source) & forbidden


MODULES = [(room, path) for room in ALLOWED for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize(
    ("room", "path"), MODULES, ids=[str(path.relative_to(ROOT)) for _, path in MODULES]
)
def test_a_room_imports_only_the_rooms_before_it(room: str, path: Path) -> None:
    assert violations(room, path.read_text()) == set()


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("gdt", "from shards import Dataset", {"shards"}),
        ("shards", "def f():\n    import torch.nn", {"torch"}),
        ("models", "import pipelines.loading.stream as s", {"pipelines"}),
        ("pipelines", "from tools.runs.config import Config", {"tools"}),
        ("models", "from gdt import Plan\nfrom . import heads", set()),
        ("tools", "from gdt import Plan\nimport shards, models", set()),
    ],
)
def test_the_rule_can_fail(room: str, source: str, found: set[str]) -> None:
    assert violations(room, source) == found


def test_there_are_modules_to_check() -> None:
    assert {room for room, _ in MODULES} == set(ALLOWED)
