"""A few bytes that ask for gigabytes: each is one message or skip, and little memory.

The inputs are real: a table of 60 million samples, a colour profile that unpacks for ever so long,
checkpoints and indexes whose zip members are packed or share their bytes, texts without an end.
"""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdt import Plan
from gdt.table_files import read_table
from shards import BuildError, BuildOptions, Dataset, SourceError
from shards.building.build import build
from shards.maintenance.index_tars import index_tars
from shards.media.claimed_samples import FREE_SAMPLES, check_claimed_samples
from shards.media.demux import demux_tracks
from shards.media.still import still_track
from shards.reading.media_file import MediaFile
from shards.sources.labels import Labels
from shards.sources.source_lists import read_lists
from shards.sources.split_files import SplitFiles
from shards.storage.text_files import read_small
from tests.faults.test_strange_texts import write_tar
from tests.films import Film, make_film
from tools.evaluation.errors import EvaluationError
from tools.evaluation.protocol import load_protocol
from tools.runs.checkpoints import load_checkpoint
from tools.runs.config_files import ConfigError, read_tables
from tools.runs.plain_zip import refuse_packed
from tools.runs.run_folder import RunError
from tools.search.index import SearchIndex

CLAIM = "its tables claim more than it holds"
PACKED = "a packed profile or text that is a bomb"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("films")
    options = {"plain.mp4": {}, "pieces.mp4": {"movflags": "frag_keyframe+empty_moov"}}
    return {
        name: make_film(
            folder / name, Film(seconds=1.2, size=(64, 48), container_options=chosen)
        ).read_bytes()
        for name, chosen in options.items()
    }


def claiming(film: bytes, samples: int, size: int = 1) -> bytes:
    """The film, whose video has so many samples of this size (0: each with a row of its own)."""
    data = bytearray(film)
    at = {name: data.find(name) for name in (b"stsz", b"stts", b"stsc")}
    struct.pack_into(">II", data, at[b"stsz"] + 8, size, samples)
    struct.pack_into(">II", data, at[b"stts"] + 12, samples, 1)
    struct.pack_into(">III", data, at[b"stsc"] + 12, 1, samples, 1)
    return bytes(data)


def run_claiming(film: bytes, samples: int) -> bytes:
    """The film in pieces, whose first run has so many samples and says nothing of each."""
    data = bytearray(film)
    at = data.find(b"trun")
    (size,) = struct.unpack_from(">I", data, at - 4)
    struct.pack_into(">II", data, at + 4, 0, samples)
    assert size >= 16
    return bytes(data)


def png(profile: bytes, chunk: bytes = b"iCCP") -> bytes:
    """A picture of 8 × 8 with a packed profile, or another packed chunk."""

    def framed(name: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(8 * (1 + 3 * 8)))
    head = {b"iCCP": b"sRGB\0\0", b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0"}[chunk]
    parts = [(b"IHDR", header), (chunk, head + profile), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed(*part) for part in parts)


@pytest.fixture(scope="module")
def zeros() -> bytes:
    """A quarter of a gigabyte of zeros, packed into one megabyte."""
    packer, part = zlib.compressobj(1), bytes(16 << 20)
    return b"".join(packer.compress(part) for _ in range(16)) + packer.flush()


@contextmanager
def little_memory(most_mib: int = 200) -> Iterator[None]:
    """See that this process's peak does not grow by more."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = peak_kib()
    yield
    assert (peak_kib() - before) / 1024 < most_mib


def peak_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize("size", [0, 1, 1000])
@pytest.mark.parametrize("samples", [60_000_000, 2**32 - 1])
def test_a_table_of_samples_that_are_not_there(
    films: dict[str, bytes], size: int, samples: int
) -> None:
    bomb = claiming(films["plain.mp4"], samples, size)
    with little_memory(), pytest.raises(SourceError, match=rf"{CLAIM} \(\d+ samples in"):
        demux_tracks(bomb, "mp4")
    with pytest.raises(SourceError, match=CLAIM):
        MediaFile("bomb.mp4", bomb)


@pytest.mark.parametrize("samples", [60_000_000, 2**31])
def test_a_run_of_samples_that_are_not_there(films: dict[str, bytes], samples: int) -> None:
    with little_memory(), pytest.raises(SourceError, match=CLAIM):
        demux_tracks(run_claiming(films["pieces.mp4"], samples), "mp4")


def test_what_is_cut_short_claims_no_more_than_films_do(films: dict[str, bytes]) -> None:
    """A film may be cut to a tenth, and one that is whole may be long."""
    assert demux_tracks(films["plain.mp4"], "mp4")
    assert demux_tracks(films["pieces.mp4"], "mp4")
    check_claimed_samples(io.BytesIO(claiming(films["plain.mp4"], FREE_SAMPLES - 1000)))
    long = claiming(films["plain.mp4"], 2 * FREE_SAMPLES)
    check_claimed_samples(io.BytesIO(long + bytes(FREE_SAMPLES // 4)))
    with pytest.raises(SourceError, match=CLAIM):
        check_claimed_samples(io.BytesIO(long))


def test_boxes_in_boxes_without_end() -> None:
    """Neither for ever, nor deeper than Python goes."""
    nest = b"".join(struct.pack(">I4s", 16 + 8 * (20_000 - n), b"trak") for n in range(20_000))
    data = struct.pack(">I4s", 8 + len(nest), b"moov") + nest
    assert demux_tracks(data + bytes(64), "mp4") == []


@pytest.mark.parametrize("chunk", [b"iCCP", b"zTXt", b"iTXt"])
def test_a_picture_with_a_profile_that_is_a_bomb(zeros: bytes, chunk: bytes) -> None:
    with little_memory(64), pytest.raises(SourceError, match=PACKED):
        still_track(png(zeros, chunk), "png")


def test_a_picture_with_a_profile_as_they_are() -> None:
    profile = np.random.default_rng(0).integers(0, 9, 1 << 20).astype(np.uint8).tobytes()
    assert still_track(png(zlib.compress(profile)), "png").header.width == 8
    assert still_track(png(b"not packed at all"), "png").header.width == 8


def test_bombs_cost_themselves_alone_in_a_build_and_an_index(
    films: dict[str, bytes], zeros: bytes, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "bomb.mp4").write_bytes(claiming(films["plain.mp4"], 60_000_000))
    (videos / "run.mp4").write_bytes(run_claiming(films["pieces.mp4"], 60_000_000))
    (videos / "good.mp4").write_bytes(films["plain.mp4"])
    summary = build([videos], tmp_path / "out", BuildOptions(clip_seconds=1.0, short_side=48))
    assert (summary.sources, summary.made) == (3, 1)
    assert summary.skipped_sources == {CLAIM: 2}
    members = {path.name: path.read_bytes() for path in videos.iterdir()}
    members |= {"icc.png": png(zeros), "fine.png": png(zlib.compress(b"profile"))}
    write_tar(tmp_path / "tars" / "a.tar", members)
    found = index_tars([tmp_path / "tars"])
    assert found.samples == 2
    assert found.skipped == {CLAIM: 2, PACKED: 1}
    data_set = Dataset.open(tmp_path / "tars")
    assert {data_set.sample(i).key for i in range(2)} == {"good", "fine"}


def packed_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50 << 20))


def overlapping_zip(path: Path) -> None:
    """100 names for the same megabyte."""
    archive: Any
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data/0", bytes(1 << 20))
        first = archive.infolist()[0]
        for n in range(1, 100):
            twin = zipfile.ZipInfo(f"archive/data/{n}")
            for name in ("CRC", "compress_size", "file_size", "header_offset", "compress_type"):
                setattr(twin, name, getattr(first, name))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin  # written with the rest as it closes


@pytest.mark.parametrize("write", [packed_zip, overlapping_zip])
def test_zip_files_that_hold_more_than_they_are_long(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "last.ckpt"
    write(path)
    with little_memory(32):
        with pytest.raises(ValueError, match=r"is compressed|its members have 104857600 bytes"):
            refuse_packed(path)
        with pytest.raises(RunError, match="cannot be read as a checkpoint"):
            load_checkpoint(path)
        index = tmp_path / "index"
        index.mkdir()
        (index / "index.json").write_text('{"format": "gdt-search-index", "version": 1}')
        path.rename(index / "clips.npz")
        with pytest.raises(EvaluationError, match="is no search index"):
            SearchIndex(index)


ENDLESS: dict[str, tuple[str, type[Exception], Callable[[Path], Any]]] = {
    "a list": ("a.csv", BuildError, lambda path: list(read_lists([path]))),
    "a list of json": ("a.jsonl", BuildError, lambda path: list(read_lists([path]))),
    "labels": ("a.csv", BuildError, Labels),
    "a split": ("a.txt", BuildError, lambda path: SplitFiles([path])),
    "a config": ("a.toml", ConfigError, read_tables),
    "a protocol": ("a.toml", EvaluationError, lambda path: load_protocol(str(path))),
    "a table": ("a.csv", ValueError, lambda path: read_table(path, "plan.sample")),
    "an array": ("a.npy", ValueError, lambda path: read_table(path, "plan.sample")),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", ENDLESS)
@pytest.mark.parametrize("kind", ["device", "pipe", "one line"])
def test_a_text_without_an_end(tmp_path: Path, what: str, kind: str) -> None:
    name, error, read = ENDLESS[what]
    path = tmp_path / name
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(200 << 20)  # of zeros, and no line end
    with little_memory(130), pytest.raises(error) as failed:
        read(path)
    assert len(str(failed.value)) < 500


def test_a_small_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    assert read_small(tmp_path / "a", 100) == bytes(100)
    with pytest.raises(OSError, match="has more than 99 bytes"):
        read_small(tmp_path / "a", 99)


@pytest.mark.parametrize("draws", [20_000, 2**63, 10**400])
def test_draws_without_number_are_refused_before_a_table_is_made(draws: int) -> None:
    tables: dict[str, dict[str, Any]] = {
        "sample": {"relation": "distinctive"},
        "time_shift": {"relation": "distinctive", "draws": draws},
        "modality": {"relation": "invariant", "values": ["video", "audio"]},
    }
    with little_memory(32), pytest.raises(ValueError, match="must be from 1 to") as failed:
        Plan.from_tables(tables)
    assert len(str(failed.value)) < 1000
