"""A real Ray, started on this machine: the bytes of the local engine, and its isolation."""

import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shards import BuildError, BuildOptions
from shards.building import ray_engine
from shards.building.build import build
from shards.building.jobs import Layout, ShardJob
from tests.shards.building.crashing import build_task, crashing, crashing_build_task
from tests.shards.building.test_build import OPTIONS, digests
from tests.shards.s3_server import file_system, quick, s3_server

ray = pytest.importorskip("ray")
pytest.importorskip("moto", reason="moto[server] speaks S3 here")


@pytest.mark.slow(seconds=60)
def test_ray_builds_the_same_bytes_and_loses_only_what_crashes(
    film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.mp4", "crash.mp4", "d.mp4"):
        film(f"videos/{name}", seconds=2)
    (tmp_path / "videos/notes.mp4").write_text("no video")
    videos, options = [tmp_path / "videos"], {**OPTIONS.as_dict(), "clips_per_shard": 2}
    options |= {"size": None, "require": ("audio",)}
    monkeypatch.setattr("shards.building.engines.transcode", crashing)
    monkeypatch.setattr("shards.building.ray_engine._build", crashing_build_task)
    build(videos, tmp_path / "local", BuildOptions(**options))
    seen: list[tuple[str, int, int | None]] = []
    with ray_engine.RayEngine(num_workers=2) as engine:
        assert ray.cluster_resources()["CPU"] == 2
        summary = build(
            videos,
            tmp_path / "ray",
            BuildOptions(**options),
            engine=engine,
            progress=lambda *step: seen.append(step),
        )
        assert ray.is_initialized()  # still: the build did not open it
        with s3_server() as port:
            fs = file_system(port)
            fs.mkdir("bucket")
            given: dict[str, Any] = {"staging": tmp_path / "staging", "remote": quick(port)}
            one = [tmp_path / "videos/a.mp4"]
            build(one, "s3://bucket/ray", BuildOptions(**options), engine=engine, **given)
            fs.get("bucket/ray", str(tmp_path / "s3"), recursive=True)
    assert not ray.is_initialized()
    assert seen[-1] == ("build", 6, 6)
    assert (summary.clips, summary.made, summary.sources) == (4, 2, 4)
    assert summary.skipped_sources["worker: crashed its worker"] == 1
    assert "ended by SIGSEGV" in (tmp_path / "ray/report.jsonl").read_text()
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")
    build(one, tmp_path / "one", BuildOptions(**options))
    assert digests(tmp_path / "s3") == digests(tmp_path / "one")


def test_a_machine_without_ray_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with (
        pytest.raises(BuildError, match=r"needs ray .*pip install 'gdt-stream\[ray\]'"),
        ray_engine.RayEngine(),
    ):
        pass


def test_an_address_where_nobody_answers_is_one_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    for address in (f"127.0.0.1:{free}", f"ray://127.0.0.1:{free}"):
        with (
            pytest.raises(BuildError, match=rf"Ray at {address} cannot be reached: .*refused"),
            ray_engine.RayEngine(address),
        ):
            pass


def test_a_node_that_does_not_see_the_target_says_so(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "elsewhere")
    with pytest.raises(BuildError, match=r"Node .* of the Ray cluster does not see .*elsewhere"):
        build_task(ShardJob("", 0, ()), OPTIONS, layout, 60)


def test_nodes_are_told_the_whole_path_of_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Layout] = []
    task = SimpleNamespace(remote=lambda _job, _options, layout, _limit: told.append(layout))
    engine = ray_engine.RayEngine(num_workers=4)
    engine._ray = SimpleNamespace(remote=lambda **_: lambda _function: task)
    monkeypatch.setattr(engine, "_first", lambda pending, _advance: pending.pop())
    list(engine.build([ShardJob("", 0, ())], OPTIONS, Layout(Path("shards")), lambda _: None))
    assert [layout.path for layout in told] == [Path.cwd() / "shards"]
