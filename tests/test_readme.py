"""What README and docs say of the repository is so: commands exist, generated parts are current."""

import importlib
import re
from pathlib import Path

import pytest

from docs.generate import PARTS, ROOT, first_line, pictures, renewed

README = (ROOT / "README.md").read_text()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
@pytest.mark.parametrize(("page", "name"), list(PARTS), ids=[name for _, name in PARTS])
def test_generated_parts_are_current(page: str, name: str) -> None:
    text = (ROOT / page).read_text()
    assert renewed(text, name, PARTS[page, name]()) == text, "run `python docs/generate.py`"


def test_pictures_are_current() -> None:
    for name, picture in pictures().items():
        assert (ROOT / name).read_text() == picture, f"{name}: run `python docs/generate.py`"


def test_every_module_says_what_it_is() -> None:
    packages = ("gdt", "shards", "pipelines", "models", "tools", "benchmarks", "examples")
    modules = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    assert [path for path in modules if not first_line(path)] == []


def test_an_outdated_part_would_be_noticed() -> None:
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
    assert renewed(page, "x", "new") == page.replace("old", "new")
    with pytest.raises(ValueError, match="no lines"):
        renewed(page, "y", "new")


def test_make_targets_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (Path(ROOT) / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 150


def test_the_python_of_the_readme_is_that_of_the_example() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    example = iter((ROOT / "examples" / "own_loop.py").read_text().splitlines())
    for line in block.splitlines():
        assert any(line == other for other in example), f"not in the example, or not here: {line}"


def test_links_and_pictures_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page}: {target}"
    for path in re.findall(r"`(docs/[^`*]+)`", README):
        assert (ROOT / path).exists(), path


def test_every_page_is_on_the_site() -> None:
    """A new page is named in mkdocs.yml's nav."""
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = set(re.findall(r"[\w/]+\.md", nav)) - {"index.md", "contributing.md"}
    docs = ROOT / "docs"
    assert named == {str(path.relative_to(docs)) for path in docs.rglob("*.md")}


@pytest.mark.parametrize(
    "name",
    [
        line.removeprefix("::: ")
        for page in sorted((ROOT / "docs" / "api").glob("*.md"))
        for line in page.read_text().splitlines()
        if line.startswith("::: ")
    ],
)
def test_what_the_reference_names_exists(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute)
