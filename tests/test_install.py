"""What someone has who installs the package: the README's commands, and names that stay ours."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.cli import PACKAGES
from tools.sample_data.synthetic import SyntheticOptions, build_corpus

ROOT = Path(__file__).parent.parent
COMMANDS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)[0]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's files alone, so that building leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel, its `gdt` in bin/."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(site)]
    subprocess.run([*command, str(source)], check=True)
    return site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A new user's folder, in which things are called as our packages are."""
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").touch()
    return tmp_path


def run(words: list[str], folder: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    first, *_ = path
    return subprocess.run(
        words,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PATH": f"{first / 'bin'}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow(seconds=60)
def test_the_commands_of_the_readme_work_as_pasted(installed: Path, folder: Path) -> None:
    options = SyntheticOptions(num_train=2, num_val=0, seconds=120, size=32, frames_per_second=10)
    build_corpus(folder / "made", options)
    (folder / "made" / "train").rename(folder / "videos")
    lines = COMMANDS.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["gdt", "shards"],
        ["gdt", "pretrain"],
        ["gdt", "evaluate"],
    ]
    # decoding in processes of their own, which have this folder on their path
    short = {"pretrain": ["--set", "trainer.max_steps=2", "--set", "data.isolate=true"]}
    for line in lines:
        words = shlex.split(line)
        done = run([*words, *short.get(words[1], [])], folder, installed)
        assert done.returncode == 0, done.stderr
    assert (folder / "runs" / "first" / "checkpoints" / "last.ckpt").exists()
    assert "R@1" in done.stdout

    where = "import tools, shards; print(tools.__file__, shards.__file__)"
    found = run([sys.executable, "-c", where], folder, installed).stdout.split()
    assert [Path(name).parents[1] for name in found] == [installed, installed]


def test_configs_and_version_travel_with_the_wheel(installed: Path, folder: Path) -> None:
    listed = run(["gdt", "configs"], folder, installed)
    assert all(path.stem in listed.stdout for path in (ROOT / "configs").glob("*.toml"))
    shown = run(["gdt", "configs", "show", "gdt"], folder, installed)
    assert shown.stdout == (ROOT / "configs" / "gdt.toml").read_text()
    assert run(["gdt", "--version"], folder, installed).stdout.startswith("gdt-stream ")
    module = run([sys.executable, "-m", "tools", "--version"], folder, installed)
    assert module.stdout.startswith("gdt-stream ")


def test_an_editable_install_puts_a_real_folder_on_the_path(
    source: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Else a folder called `shards` is taken for the package, wherever the folder is on the path.

    Processes that decode (`data.isolate`) have the folder on it that the command runs in.
    """
    site = tmp_path_factory.mktemp("editable")
    build = f"from setuptools import build_meta; build_meta.build_editable({str(site)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = site.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    script = (
        "import importlib.util, site, sys\n"
        "ours = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '')]\n"
        f"sys.meta_path[:] = ours; sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]\n"
        f"site.addsitedir({str(site)!r})\n"
        f"print(*[importlib.util.find_spec(name).origin for name in {PACKAGES}])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(source / name / "__init__.py") for name in PACKAGES]


@pytest.mark.parametrize(("name", "file"), [("models", "models.py"), ("gdt", "gdt/__init__.py")])
def test_a_module_that_shadows_one_of_ours_is_named(tmp_path: Path, name: str, file: str) -> None:
    theirs = tmp_path / file
    theirs.parent.mkdir(exist_ok=True)
    theirs.touch()
    done = run([sys.executable, "-m", "tools", "configs"], tmp_path, tmp_path, ROOT)
    assert done.returncode == 1
    assert f"{theirs} shadows {ROOT / name / '__init__.py'}" in done.stderr
    assert "Rename it, or take its folder off the path" in done.stderr
    assert "Traceback" not in done.stderr
    theirs.unlink()
    assert run([sys.executable, "-m", "tools", "configs"], tmp_path, tmp_path, ROOT).returncode == 0
