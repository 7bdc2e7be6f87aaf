"""The command from a folder of films to shards, and what it says of them."""

import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shards.building.report import BuildSummary
from tools.cli import app
from tools.display.build_summary import print_summary


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["shards", *arguments], terminal_width=200)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def out(film: Callable[..., Path], tmp_path: Path) -> str:
    film("videos/film.mp4", seconds=2.5)
    (tmp_path / "videos/labels.csv").write_text("file,label\nfilm.mp4,countdown\nother.mp4,x\n")
    (tmp_path / "videos/notes.mp4").write_text("a text")
    return str(tmp_path / "out")


def build(out: str, *more: str) -> str:
    videos = Path(out).parent / "videos"
    choices = ["--clip-seconds", "1", "--short-side", "64", "--workers", "1"]
    labels = ["--labels", str(videos / "labels.csv")]
    status, output = run("build", str(videos), "--out", out, *choices, *labels, *more)
    assert status == 0
    return output


def test_build_verify_and_inspect(out: str) -> None:
    output = build(out)
    assert "2 sources = 1 made + 1 skipped" in output
    assert "skipped: not media: a text file" in output
    assert "left out: a tail shorter than a clip" in output
    assert "labels for 1 file that this build does not have: other.mp4" in output

    assert "is complete already" in build(out)

    status, output = run("verify", out)
    assert status == 0
    assert "1 shard, 2 samples, all " in output
    assert "bytes as they were written" in output

    picture = Path(out).parent / "sheet.png"
    status, output = run("inspect", out, "--out", str(picture))
    assert status == 0
    for word in ("film-", "112×64", "15 to 15 frames from keyframe", "countdown", "24000 Hz × 1"):
        assert word in output.replace("\n", "")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_damaged_clip_is_named_when_it_is_to_be_drawn(out: str) -> None:
    build(out)
    (tar,) = Path(out).glob("*.tar")
    content = bytearray(tar.read_bytes())
    place = content.index(b"mdat") + 64  # packets of the first clip's pictures
    content[place : place + 200] = bytes(200)
    tar.write_bytes(content)
    key = content[: content.index(b".")].decode()
    status, output = run("inspect", out, "--key", key, "--out", f"{out}.png")
    assert status == 1
    assert f"error: shard-000000.tar: sample '{key}': checksum: packet 0" in " ".join(
        output.split()
    )


def test_brackets_in_names_are_no_markup(out: str) -> None:
    video = Path(out).parent / "videos/film.mp4"
    video.rename(video.with_name("[bold]film.mp4"))
    output = build(out + "[red]")
    assert "out[red]/report.jsonl" in output
    status, output = run("inspect", out + "[red]")
    assert status == 0
    assert "[bold]film.mp4" in output
    assert "out[red]" in output


@pytest.mark.parametrize(("option", "value"), [("--workers", "0"), ("--time-limit", "-1")])
def test_numbers_that_mean_nothing_are_refused(out: str, option: str, value: str) -> None:
    status, output = run("build", str(Path(out).parent / "videos"), "--out", out, option, value)
    assert status == 2
    assert f"Invalid value for '{option}'" in output
    assert not Path(out).exists()


def test_a_staging_folder_is_for_urls(out: str) -> None:
    videos = str(Path(out).parent / "videos")
    status, output = run("build", videos, "--out", out, "--staging", "x")
    assert status == 2
    assert "--staging is for shards that go to a URL" in output


def test_verify_lists_what_is_damaged(out: str) -> None:
    build(out)
    tar = Path(out) / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[5000] ^= 1
    tar.write_bytes(data)
    status, output = run("verify", out)
    assert status == 1
    assert "1 problem in 1 shard, 2 samples" in output
    assert "shard-000000.tar, sample film-" in output
    assert "is damaged" in output
    assert "`gdt shards repair`" in output
    assert run("verify", "--quick", out)[0] == 0


def test_stats_count_what_is_there(out: str) -> None:
    build(out)
    picture = Path(out).parent / "[b]stats.png"
    status, output = run("stats", out, "--out", str(picture))
    assert status == 0
    lines = [" ".join(line.split()) for line in output.splitlines()]
    for line in (
        "samples 2 in 1 shard",
        "sources 1",
        "length 2.0 s",
        "coded size 2 112×64",
        "frame rate 2 30/s",
        "label 2 countdown",
        "sources left out 1 not media: a text file",
        "clips left out 1 a tail shorter than a clip",
    ):
        assert line in lines
    assert picture.read_bytes().startswith(b"\x89PNG")
    status, output = run("stats", out, "--json")
    found = json.loads(output)
    assert (found["samples"], found["labels"], found["clip_seconds"]["max"]) == (
        2,
        {"countdown": 2},
        1,
    )
    assert found["bytes"] == (Path(out) / "shard-000000.tar").stat().st_size


def test_index_files_for_dali_are_written_when_asked_for(out: str) -> None:
    output = build(out, "--dali-index")
    assert f"1 index files for DALI are in {out}" in output
    index = Path(out) / "shard-000000.idx"
    before = index.read_bytes()
    assert before.startswith(b"v1.2 2\nmp4 512 ")
    index.unlink()
    assert run("dali-index", out)[0] == 0
    assert index.read_bytes() == before
    status, output = run("build", out, "--out", out, "--dali-index", "--part", "1/2")
    assert status == 2
    assert "merge the parts" in output


def test_repair_brings_back_what_is_lost(out: str) -> None:
    build(out)
    index = Path(out) / "shard-000000.tar.index"
    before = index.read_bytes()
    index.unlink()
    status, output = run("repair", out, "--workers", "1")
    assert status == 0
    assert "made again from its tar" in output
    assert "whole: 0 shards; made again: 1 file" in output
    assert index.read_bytes() == before
    (Path(out) / "shard-000000.tar").unlink()
    (Path(out).parent / "videos/film.mp4").unlink()
    status, output = run("repair", out, "--workers", "1")
    assert status == 1
    assert "1 could not be:" in output
    assert "shard-000000.tar is damaged: it cannot be made again" in output


def test_the_parts_of_an_array_job_are_merged(out: str) -> None:
    for part in ("1/2", "2/2"):
        build(out, "--part", part)
    status, output = run("merge", out)
    assert status == 0
    assert f"{out}: 2 data sets, 1 shard, 2 samples" in output
    assert run("verify", out)[0] == 0


def test_a_list_names_what_to_take(out: str) -> None:
    clips = Path(out).parent / "videos/clips.csv"
    clips.write_text("path,start,stop\nfilm.mp4,0.5,1.5\ngone.mp4,,\n")
    choices = ["--clip-seconds", "1", "--short-side", "64", "--workers", "1"]
    status, output = run("build", str(clips), "--out", out, *choices)
    assert status == 0
    assert "2 sources = 1 made + 1 skipped" in output
    assert "skipped: no such file" in output


def test_tars_of_others_are_indexed(out: str) -> None:
    tar = Path(out).parent / "tars/a.tar"
    tar.parent.mkdir()
    with tarfile.open(tar, "w") as file:
        file.add(Path(out).parent / "videos/film.mp4", "one.mp4")
        file.add(Path(out).parent / "videos/notes.mp4", "two.mp4")
    status, output = run("index", str(tar), "--workers", "1")
    assert status == 0
    assert "indexed: 1 sample of 1 tar" in output
    assert "left out: 1 sample: no video and no audio" in output
    status, output = run("inspect", str(tar.parent))
    assert status == 0
    assert "sample one" in output


def test_train_and_held_out_parts_are_counted(out: str) -> None:
    output = build(out, "--holdout", "0.5", "--gap-seconds", "0")
    assert "made: train" in output
    assert "made: val" in output
    assert re.search(r"^made +1 +\d+ *$", output, re.MULTILINE)
    status, output = run("inspect", f"file://{out}/val")
    assert status == 0
    assert "number" in output
    status, output = run("inspect", out)
    assert status == 1
    assert "holds the data sets train, val" in output


def test_what_took_too_long_comes_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    summary = BuildSummary(sources=2, made=1, clips=3)
    print_summary(summary, "out", 1.0)
    assert "--time-limit" not in capsys.readouterr().out
    summary.skipped_sources["took too long"] += 1  # in the survey
    print_summary(summary, "out", 1.0)
    assert "a longer --time-limit may have them" in capsys.readouterr().out
