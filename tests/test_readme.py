"""What README and docs say of the repository is so: commands exist, generated parts are current."""

import re
from pathlib import Path

import pytest

from docs.generate import PARTS, ROOT, first_line, renewed

README = (ROOT / "README.md").read_text()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
@pytest.mark.parametrize(("page", "name"), list(PARTS), ids=[name for _, name in PARTS])
def test_generated_parts_are_current(page: str, name: str) -> None:
    text = (ROOT / page).read_text()
    assert renewed(text, name, PARTS[page, name]()) == text, "run `python docs/generate.py`"


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
