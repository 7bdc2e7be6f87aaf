"""What the README says of the repository is so: its file tree is the tree, its commands exist."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TREE = README.split("## What is where")[1].split("```")[1]
FOLDERS = ("gdt", "models", "pipelines", "shards", "tools")


def listed_files(tree: str) -> set[str]:
    """Paths of a tree in which a line is `name  purpose`, folders end with / and indent by two."""
    paths: set[str] = set()
    folders: list[str] = []
    for line in tree.splitlines():
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders = folders[:depth]
        if name.endswith("/"):
            folders.append(name)
        else:
            paths.add("".join(folders) + name)
    return paths


def tracked_modules() -> set[str]:
    listing = subprocess.run(
        ["git", "ls-files", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {
        path
        for path in listing.stdout.splitlines()
        if not path.endswith(("__init__.py", "py.typed"))
    }


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_tree_lists_every_module_with_its_purpose() -> None:
    listed = {path for path in listed_files(TREE) if path.startswith(FOLDERS)}
    assert listed == tracked_modules()
    for line in TREE.splitlines():
        assert not line.strip() or len(line.split()) > 1, f"no purpose: {line}"


def test_a_missing_line_would_be_noticed() -> None:
    assert listed_files("a/  first\n  b.py  second\n  c/  third\n    d.py  x\ne.py  y\n") == {
        "a/b.py",
        "a/c/d.py",
        "e.py",
    }


def test_make_targets_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets
