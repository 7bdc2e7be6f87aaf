"""Builds whose target is S3, against a server that speaks it; and what may go wrong there."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shards import BuildError, BuildOptions, Dataset
from shards.building.build import build
from shards.building.jobs import BuiltShard, Layout
from tests.shards.building.test_build import digests
from tests.shards.s3_server import endpoint, file_system, quick, s3_server

pytest.importorskip("moto", reason="moto[server] speaks S3 here")
pytest.importorskip("s3fs")

OPTIONS = BuildOptions(
    clip_seconds=1.0, fps=10, short_side=64, clips_per_shard=1, holdout=0.25, gap_seconds=0
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_server() as number:
        file_system(number).mkdir("bucket")
        yield number


@pytest.fixture
def videos(film: Callable[..., Path], tmp_path: Path) -> list[Path]:
    film("videos/a.mp4", seconds=4)
    (tmp_path / "videos/b.mp4").write_text("a text")
    return [tmp_path / "videos"]


def stored(port: int, url: str) -> dict[str, str]:
    """SHA-256 of every object of a build under s3://bucket/…, by name."""
    fs, folder = file_system(port), url.removeprefix("s3://")
    return {
        name.removeprefix(folder + "/"): hashlib.sha256(fs.cat_file(name)).hexdigest()
        for name in sorted(fs.find(folder))
        if "/.build/" not in name
    }


def test_a_build_on_s3_has_the_bytes_of_one_here(
    videos: list[Path], port: int, tmp_path: Path
) -> None:
    build(videos, tmp_path / "here", OPTIONS)
    url, staging = "s3://bucket/one", tmp_path / "staging"
    given: dict[str, Any] = {"staging": staging, "remote": quick(port)}
    summary = build(videos, url, OPTIONS, **given)
    assert stored(port, url) == digests(tmp_path / "here")
    assert not staging.exists()
    far = Dataset.open(f"{url}/train", remote=quick(port, cache_folder=str(tmp_path / "cache")))
    assert far.fingerprint == Dataset.open(tmp_path / "here/train").fingerprint
    again = build(videos, url, OPTIONS, **given)
    assert (again.already_built, again.clips) == (True, summary.clips)
    with pytest.raises(BuildError, match=r"s3://bucket/one already holds another build: its holdo"):
        build(videos, url, replace(OPTIONS, holdout=0.5), **given)
    file_system(port).pipe_file("bucket/other/notes.txt", b"mine")
    with pytest.raises(BuildError, match=r"s3://bucket/other already holds other files \(notes.tx"):
        build(videos, "s3://bucket/other", OPTIONS, **given)


class Interrupted(BaseException):
    pass


@pytest.mark.slow
def test_an_interrupted_upload_goes_on_where_it_was(
    videos: list[Path], port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, staging = "s3://bucket/two", tmp_path / "staging"
    given: dict[str, Any] = {"staging": staging, "remote": quick(port)}
    taken: list[str] = []
    real = Layout.take

    def take(layout: Layout, built: BuiltShard, folder: Path) -> BuiltShard:
        if len(taken) == 2:
            raise Interrupted
        taken.append(built.job.name)
        return real(layout, built, folder)

    monkeypatch.setattr(Layout, "take", take)
    with pytest.raises(Interrupted):
        build(videos, url, OPTIONS, **given)
    kept = stored(port, url)
    assert len([name for name in kept if name.endswith(".tar")]) == 2
    assert not any(name.endswith("manifest.json") for name in kept)
    monkeypatch.setattr(Layout, "take", real)
    first = f"bucket/two/train/{taken[0]}"
    file_system(port).pipe_file(first, b"cut short")  # found by its size, and made again
    build(videos, url, OPTIONS, **given)
    whole = stored(port, url)
    build(videos, tmp_path / "here", OPTIONS)
    assert whole == digests(tmp_path / "here")
    # without manifests and staging, all is made again, to the same bytes
    file_system(port).rm_file("bucket/two/train/manifest.json")
    assert not staging.exists()
    build(videos, url, OPTIONS, **given)
    assert stored(port, url) == whole


def test_a_missing_bucket_and_wrong_credentials_are_found_before_any_work(
    videos: list[Path], port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = tmp_path / "staging"
    with pytest.raises(
        BuildError, match=r"s3://gone/x/.build/builder could not be written: .*exist"
    ):
        build(videos, "s3://gone/x", OPTIONS, staging=staging, remote=quick(port))
    with (
        s3_server(INITIAL_NO_AUTH_ACTION_COUNT="0") as strict,
        pytest.raises(BuildError, match=r"s3://bucket/x could not be listed: .*credentials"),
    ):
        build(videos, "s3://bucket/x", OPTIONS, staging=staging, remote=quick(strict))
    with pytest.raises(BuildError, match=r"http://host/x cannot be written: name a folder of this"):
        build(videos, "http://host/x", OPTIONS)
    assert not staging.exists()


def test_a_server_that_goes_away_is_one_message_and_what_arrived_is_kept(
    videos: list[Path], tmp_path: Path
) -> None:
    with ExitStack() as servers:
        port = servers.enter_context(s3_server())
        file_system(port).mkdir("bucket")

        def progress(stage: str, done: int, _total: int | None) -> None:
            if stage == "build" and done:
                servers.close()

        given: dict[str, Any] = {"staging": tmp_path / "staging", "remote": quick(port)}
        with pytest.raises(
            BuildError,
            match=r"shard-00000[01].tar could not be written: gave up after 2 attempts .*run the",
        ):
            build(videos, "s3://bucket/x", OPTIONS, progress=progress, **given)
    assert (tmp_path / "staging/build.json").exists()


@pytest.mark.slow
def test_a_build_killed_while_it_uploads_goes_on_to_the_same_bytes(
    videos: list[Path], port: int, tmp_path: Path
) -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": endpoint(port)["endpoint_url"],
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    command = [sys.executable, "-c", "from tools.cli import app; app()", "shards", "build"]
    choices = ["--clip-seconds", "1", "--short-side", "64", "--clips-per-shard", "1"]
    arguments = [str(videos[0]), *choices, "--fps", "10", "--workers", "1"]

    def start(out: str) -> subprocess.Popen[bytes]:
        given: dict[str, Any] = {"env": os.environ | environment, "start_new_session": True}
        return subprocess.Popen([*command, *arguments, "--out", out], **given)

    process = start("s3://bucket/killed")
    fs = file_system(port)
    while process.poll() is None and not fs.exists("bucket/killed/shard-000001.tar"):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not fs.exists("bucket/killed/manifest.json")
    assert start("s3://bucket/killed").wait(120) == 0
    assert start(str(tmp_path / "here")).wait(120) == 0
    assert stored(port, "s3://bucket/killed") == digests(tmp_path / "here")
