"""One version of each tool: the hooks that run on commit use what `make check` uses."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PIN = re.compile(r"(ruff|mypy)==([\d.]+)")


def test_hooks_and_lock_use_the_pins_of_the_dev_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(PIN.findall(" ".join(project["optional-dependencies"]["dev"])))
    assert set(pins) == {"ruff", "mypy"}
    for file in (".pre-commit-config.yaml", "requirements/test.txt"):
        found = PIN.findall((ROOT / file).read_text())
        assert found, f"{file} pins nothing"
        for tool, version in found:
            assert version == pins[tool], f"{file}: {tool} {version}, pyproject has {pins[tool]}"


def test_the_run_lock_is_part_of_the_test_lock() -> None:
    run, test = (
        set((ROOT / f"requirements/{name}.txt").read_text().splitlines())
        for name in ("run", "test")
    )
    assert run - test == set()
