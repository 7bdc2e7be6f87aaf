"""What is said of a source that is not what it was when an interrupted build began."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shards import BuildError, BuildOptions, Dataset
from shards.building.build import build
from shards.building.plan_diff import first_change
from shards.building.planned_source import PlannedSource
from shards.building.planning import plan_source
from shards.building.worker_pool import WorkerFailure
from shards.errors import SourceError
from shards.format.json_text import jsonl_bytes
from shards.sources.source import Source
from shards.storage.opening import Location
from tests.shards.s3_server import file_system, quick, s3_server

OPTIONS = BuildOptions(clip_seconds=1.0, fps=10, short_side=64, clips_per_shard=2)
LINES: list[dict[str, Any]] = [
    {
        "number": n,
        "name": f"{n}.mp4",
        "location": [f"/videos/{n}.mp4"],
        "size": 1000,
        "version": "1700000000000000001",
        "row": {},
        "clips": 3,
    }
    for n in (1, 2, 3)
]
SKIPPED = {"number": 2, "name": "2.mp4", "location": ["/videos/2.mp4"]}
TIMED_OUT = SKIPPED | {"skip": ["worker", "took too long", ""]}
BACK = "Put it back as it was to go on"


def changed(**what: Any) -> list[dict[str, Any]]:
    return [LINES[0], LINES[1] | what, LINES[2]]


def renumbered(*lines: dict[str, Any]) -> list[dict[str, Any]]:
    return [line | {"number": n} for n, line in enumerate(lines, start=1)]


@pytest.mark.parametrize(
    ("now", "said", "way_on"),
    [
        (LINES, "", ""),
        (changed(size=1), "2.mp4: 1,000 bytes then, 1 byte now", BACK),
        (
            changed(version="1700000000000000002"),
            "2.mp4: changed 2023-11-14 22:13:20.000000001 UTC then, "
            "2023-11-14 22:13:20.000000002 UTC now",
            BACK,
        ),
        (changed(version='"etag"', size=2), "2.mp4: 1,000 bytes then, 2 bytes now; changed", BACK),
        (changed(row={"label": "dog"}), "2.mp4: other labels, caption or metadata", BACK),
        (
            changed(location=["/mnt/2.mp4"]),
            "2.mp4: at /videos/2.mp4 then, at /mnt/2.mp4 now",
            BACK,
        ),
        (
            [LINES[0], TIMED_OUT, LINES[2]],
            "2.mp4: it could be used then, it was left out (worker: took too long) now",
            "Give the --time-limit it had to go on",
        ),
        (renumbered(LINES[0], LINES[2]), "2.mp4 is not there any more", BACK),
        (LINES[:2], "3.mp4 is not there any more", BACK),
        (
            renumbered(LINES[0], LINES[1] | {"name": "15.mp4"}, *LINES[1:]),
            "15.mp4 is new",
            "Leave it out to go on",
        ),
        ([*LINES, LINES[2] | {"name": "4.mp4"}], "4.mp4 is new", "Leave it out to go on"),
    ],
)  # fmt: skip
def test_the_first_change_is_named(
    tmp_path: Path, now: list[dict[str, Any]], said: str, way_on: str
) -> None:
    for name, lines in (("before", LINES), ("now", now)):
        (tmp_path / name).write_bytes(jsonl_bytes(lines))
    change, way = first_change(tmp_path / "before", tmp_path / "now")
    assert (change[: len(said)] if said else change, way) == (said, way_on)


def test_what_took_too_long_to_survey_is_planned_alike_under_any_limit() -> None:
    def planned(cause: str, detail: str) -> PlannedSource:
        failure = WorkerFailure(SourceError("worker", cause, detail))
        return plan_source(2, Source("2.mp4", Location("/videos/2.mp4")), failure, OPTIONS)

    assert planned("took too long", "limit 9 s") == planned("took too long", "limit 90 s")
    assert planned("crashed its worker", "SIGSEGV").skip == (
        "worker",
        "crashed its worker",
        "SIGSEGV",
    )


class Interrupted(BaseException):
    pass


def interrupt(stage: str, done: int, _total: int | None) -> None:
    if stage == "build" and done >= 4:
        raise Interrupted


@pytest.mark.parametrize("finished", [False, True])
def test_a_changed_source_is_named_and_put_back_the_build_goes_on(
    film: Callable[..., Path], tmp_path: Path, finished: bool
) -> None:
    path = film("videos/a.mp4", seconds=2)
    film("videos/b.mp4", seconds=2)
    film("videos/c.mp4", seconds=2)
    out = tmp_path / "out"
    if finished:
        build([tmp_path / "videos"], out, OPTIONS)
    else:
        with pytest.raises(Interrupted):
            build([tmp_path / "videos"], out, OPTIONS, progress=interrupt)
    kept = (out / "shard-000000.tar").stat().st_mtime_ns
    data, times = path.read_bytes(), path.stat()
    path.write_bytes(data + b"more")
    said = (
        rf"out already holds a build of other sources: a\.mp4: {len(data):,} bytes then, "
        rf"{len(data) + 4:,} bytes now; changed .* now\. Put it back as it was to go on; or build "
        "anew: choose another folder with --out, or remove that one"
    )
    for _ in range(2):  # it is still known the second time
        with pytest.raises(BuildError, match=said):
            build([tmp_path / "videos"], out, OPTIONS)
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    summary = build([tmp_path / "videos"], out, OPTIONS)
    assert (summary.clips, summary.already_built) == (6, finished)
    assert (out / "shard-000000.tar").stat().st_mtime_ns == kept


def test_where_the_plan_of_before_is_damaged_no_change_is_named(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    path = film("videos/a.mp4", seconds=2)
    build([tmp_path / "videos"], tmp_path / "out", OPTIONS)
    path.touch()
    plan = tmp_path / "out/.build/plan.jsonl.gz"
    whole = plan.read_bytes()
    for damaged in (whole[:-6], b"no gzip", whole[:20] + bytes(9) + whole[29:], b""):
        plan.write_bytes(damaged)
        with pytest.raises(BuildError, match=r"other sources \(or they have changed\)\. To build"):
            build([tmp_path / "videos"], tmp_path / "out", OPTIONS)


@pytest.mark.slow
def test_what_is_staged_outlives_a_changed_source(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    """Of a build to a URL: what went up before is not made again."""
    pytest.importorskip("moto", reason="moto[server] speaks S3 here")
    options = replace(OPTIONS, clips_per_shard=1)  # the first is up before the fourth is made
    path = film("videos/a.mp4", seconds=2)
    film("videos/b.mp4", seconds=2)
    film("videos/c.mp4", seconds=2)
    with s3_server() as port:
        fs = file_system(port)
        fs.mkdir("bucket")
        remote = quick(port, cache_folder=str(tmp_path / "cache"))
        given: dict[str, Any] = {"staging": tmp_path / "staging", "remote": remote}
        with pytest.raises(Interrupted):
            build([tmp_path / "videos"], "s3://bucket/x", options, progress=interrupt, **given)
        states = sorted(p.name for p in (tmp_path / "staging/.build").glob("*.json"))
        assert states[0] == "all-000000.json"
        times = path.stat()
        path.touch()
        with pytest.raises(BuildError, match=r"of other sources: a\.mp4: changed "):
            build([tmp_path / "videos"], "s3://bucket/x", options, **given)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert sorted(p.name for p in (tmp_path / "staging/.build").glob("*.json")) == states
        build([tmp_path / "videos"], "s3://bucket/x", options, **given)
        assert len(Dataset.open("s3://bucket/x", remote=remote)) == 6
