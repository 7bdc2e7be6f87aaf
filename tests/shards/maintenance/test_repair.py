"""A build is damaged in every way, and repaired to the bytes that it had."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shards import BuildOptions
from shards.building.array_part import Portion
from shards.building.build import build
from shards.building.engines import LocalEngine
from shards.maintenance.merge import merge_portions
from shards.maintenance.repair import Repair, repair
from shards.maintenance.verify import verify
from tests.shards.building.test_build import digests
from tests.shards.small import write_data_set

OPTIONS = BuildOptions(
    clip_seconds=1.0, fps=10, short_side=64, clips_per_shard=2, holdout=0.34, gap_seconds=0
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos, and a build of them (train: 2 shards, val: 1); never changed."""
    from tests.films import Film, make_film

    root = tmp_path_factory.mktemp("made")
    (root / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        make_film(root / "videos" / name, Film(seconds=3))
    (root / "videos/notes.mp4").write_text("a text")
    build([root / "videos"], root / "out", OPTIONS)
    return root


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


def repaired(folder: Path) -> Repair:
    return repair(folder, LocalEngine(1, 60))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


#: What is done to which files: a byte is flipped (at a place), or the file is "cut" or "gone".
DAMAGE: dict[str, dict[str, int | str]] = {
    "an index is missing": {"train/shard-000000.tar.index": "gone"},
    "an index is damaged": {"val/shard-000000.tar.index": 900},
    "a manifest is missing": {"train/manifest.json": "gone"},
    "a manifest's shards are damaged": {"val/manifest.json": -300},
    "a manifest's options are damaged": {"val/manifest.json": 300},
    "manifest and index": {"train/manifest.json": "gone", "train/shard-000001.tar.index": "gone"},
    "a byte of a tar": {"train/shard-000001.tar": 5000},
    "padding of a tar": {"val/shard-000000.tar": -1},
    "a tar is cut short": {"val/shard-000000.tar": "cut"},
    "a tar is missing": {"train/shard-000000.tar": "gone"},
    "tar and index": {"val/shard-000000.tar": "gone", "val/shard-000000.tar.index": "gone"},
    "tar and manifest": {"train/shard-000000.tar": 5000, "train/manifest.json": "gone"},
    "nothing": {},
}


def damage(out: Path, what: str) -> None:
    for name, how in DAMAGE[what].items():
        path = out / name
        if isinstance(how, int):
            flip(path, how)
        elif how == "cut":
            path.write_bytes(path.read_bytes()[:1000])
        else:
            path.unlink()


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_becomes_what_it_was(made: Path, out: Path, what: str) -> None:
    damage(out, what)
    assert (digests(out) == digests(made / "out")) == (what == "nothing")
    found = repaired(out)
    assert found.problems == []
    assert digests(out) == digests(made / "out")
    assert bool(found.repaired) == (what != "nothing")
    assert repaired(out) == Repair(whole=3)


def test_what_cannot_be_repaired_is_said_by_name(
    film: Callable[..., Path], made: Path, tmp_path: Path
) -> None:
    film("videos/a.mp4", seconds=2)
    film("videos/b.mp4", seconds=2)
    out = tmp_path / "out"
    build(
        [tmp_path / "videos"], out, BuildOptions(clip_seconds=1, short_side=64, clips_per_shard=2)
    )
    for name in ("shard-000000.tar", "shard-000001.tar"):
        flip(out / name, 2000)
    (tmp_path / "videos/a.mp4").unlink()
    before = digests(out)["shard-000000.tar"]
    found = repaired(out)
    (problem,) = found.problems
    assert f"{out}/shard-000000.tar is damaged: it cannot be made again (open: " in problem
    assert found.repaired == [f"{out}/shard-000001.tar: made again from its sources"]
    assert digests(out)["shard-000000.tar"] == before  # what is left of it stays
    (out / ".build/plan.jsonl.gz").unlink()
    (problem,) = repaired(out).problems
    assert "what it was made of is not known: .build/plan.jsonl.gz of the build is not" in problem
    (out / "manifest.json").unlink()
    (problem,) = repaired(out).problems
    assert "has no manifest.json" in problem
    assert "It cannot be made again" in problem


def test_without_a_manifest_no_shard_comes_back_with_fewer_clips(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    film("videos/a.mp4", seconds=3)
    gone = film("videos/b.mp4", seconds=3)
    out = tmp_path / "out"
    options = BuildOptions(clip_seconds=1, short_side=64, clips_per_shard=2)
    build([tmp_path / "videos"], out, options)  # shards of a a, a b and b b
    gone.unlink()
    (out / "manifest.json").unlink()
    (out / "shard-000001.tar").unlink()
    flip(out / "shard-000002.tar", 2000)
    before = digests(out)
    found = repaired(out)
    assert found.whole == 1
    assert found.repaired == []
    assert len(found.problems) == 3
    for problem, number in zip(found.problems, (1, 2), strict=False):
        said = f"{out}/shard-00000{number}.tar is damaged: it cannot be made again (open: "
        assert problem.startswith(said)
    assert "It waits for the shards above." in found.problems[2]
    assert digests(out) == before


def test_a_data_set_of_unknown_making_gets_its_indexes_back(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "set")
    whole = digests(folder)
    for path in folder.glob("*.index"):
        path.unlink()
    assert repaired(folder).problems == []
    assert digests(folder) == whole


@pytest.mark.slow
def test_the_parts_of_an_array_job_and_their_merge_are_repaired(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in (1, 2):
        build([made / "videos"], out, OPTIONS, portion=Portion(number, 2))
    merge_portions(out)
    whole = digests(out)
    (out / "val/manifest.json").unlink()
    for path in [*out.rglob("*.index"), *out.glob("train/part-*/shard-000000.tar")]:
        path.unlink()
    found = repaired(out)
    assert found.problems == []
    assert digests(out) == whole
    assert verify(out).problems == []
