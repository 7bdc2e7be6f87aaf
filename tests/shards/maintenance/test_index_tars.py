"""Tars that the webdataset package made, indexed as they are and read back by us."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards import BuildError, Dataset
from shards.encoding.audio import encode_audio
from shards.maintenance import index_tars as index_tars_module
from shards.maintenance.index_tar import ANOTHER_RECORDING
from shards.maintenance.index_tars import index_tars
from shards.maintenance.verify import verify
from tests.films import onsets, read_number
from tests.shards.encoding.test_transcode import _with_matrix
from tests.shards.maintenance.crashing_index import MARK, crashing_task
from tests.shards.media.test_hdr import BT2020, HLG, make_film
from tests.shards.small import write_data_set


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def plain_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            add(tar, name, data)
    return path


@pytest.fixture
def clip(film: Callable[..., Path]) -> bytes:
    """2 s of 25 frames a second with sound, B-frames and all."""
    return film("clip.mp4", seconds=2, video_options={}).read_bytes()


def report(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(s) for s in (folder / "index-report.jsonl").read_text().splitlines()]


def test_a_tar_of_the_webdataset_package_is_read_as_it_is(
    film: Callable[..., Path], clip: bytes, tmp_path: Path
) -> None:
    webdataset = pytest.importorskip("webdataset")
    from pipelines.decoding.segment import SegmentOptions
    from pipelines.decoding.segment_reader import SegmentReader

    mkv = film("clip.mkv", seconds=2, container="matroska").read_bytes()
    silent = film("silent.mp4", seconds=2, audio_codec=None).read_bytes()
    flac = film("a.flac", seconds=2, video_codec=None, audio_codec="flac", container="flac")
    folder = tmp_path / "tars"
    folder.mkdir()
    samples = [
        {"__key__": "000/clip one", "mp4": clip, "json": {"caption": "räder"}, "cls": 3},
        {"__key__": "000/two", "mkv": mkv, "txt": "two"},
        {"__key__": "three", "mp4": silent, "flac": flac.read_bytes()},
    ]
    path = folder / "00000.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    summary = index_tars([folder])
    assert (summary.tars, summary.samples, summary.skipped) == (1, 3, {})
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    names = {p.name for p in folder.iterdir()}
    assert names == {"00000.tar", "00000.tar.index", "manifest.json", "index-report.jsonl"}

    data_set = Dataset.open(folder)
    theirs = list(webdataset.WebDataset([str(path)], shardshuffle=False, empty_check=False))
    assert [data_set.sample(i).key for i in range(3)] == [s["__key__"] for s in theirs]
    for i, sample in enumerate(theirs):
        ours = data_set.sample(i)
        extensions = {name for name in sample if not name.startswith("__")}
        assert set(ours.members) == extensions
        for extension in extensions:
            assert data_set.read_member(ours, extension) == sample[extension]
    assert data_set.metadata(0) == {"caption": "räder", "label": "3"}
    assert verify(folder).problems == []

    reader = SegmentReader(data_set, SegmentOptions(seconds=1.0, num_frames=10))
    for i in range(3):
        (segment,) = reader.segments(i, [0.5])
        assert segment.video is not None
        assert segment.audio is not None
        luma = segment.video[:, : segment.height * segment.width]
        shown = [read_number(frame.reshape(segment.height, segment.width)) for frame in luma]
        assert shown == [int((0.5 + (n + 0.5) / 10) * 25) for n in range(10)]
        assert onsets(segment.audio, 24000) == pytest.approx([0.5], abs=0.01)


def test_what_cannot_be_indexed_is_left_out_and_counted(clip: bytes, tmp_path: Path) -> None:
    members = {
        "good.mp4": clip,
        "text.mp4": b"not a film",
        "text.json": b"{}",
        "broken.mp4": clip[:400],
        "noext": b"webdataset leaves this out, and so do we",
        "twice.mp4": clip,
        "twice.MP4": clip,
        "other.MP4": clip,
        "good.txt": b"its sample is over",
        "bell\x07.mp4": clip,
        "x" * 600 + ".mp4": clip,
    }
    plain_tar(tmp_path / "tars/a.tar", members)
    (tmp_path / "tars/b.tar").write_bytes(b"no tar at all" * 100)
    plain_tar(tmp_path / "tars/c.tar", {"only.txt": b"text"})
    summary = index_tars([tmp_path / "tars"], num_workers=2)
    data_set = Dataset.open(tmp_path / "tars")
    assert [data_set.sample(i).key for i in range(len(data_set))] == ["good", "other"]
    assert set(data_set.sample(0).members) == {"mp4"}
    assert summary.skipped == {
        "no video and no audio": 2,
        "the header cannot be read": 1,
        "two members of one name": 1,
        "the key was there before": 1,
        "a key with control characters, or that is not text": 1,
        "a key of more than 512 bytes": 1,
    }
    assert summary.skipped_tars == {"not a plain tar": 1}
    assert [(line["tar"], line["samples"]) for line in report(tmp_path / "tars")] == [
        ("a.tar", 2),
        ("b.tar", 0),
        ("c.tar", 0),
    ]


def test_a_tar_that_is_cut_anywhere_loses_what_is_cut_and_says_so(
    clip: bytes, tmp_path: Path
) -> None:
    members = {f"{n}.{e}": d for n in range(3) for e, d in (("mp4", clip), ("json", b"{}"))}
    whole = plain_tar(tmp_path / "whole.tar", members).read_bytes()
    sample = 512 + -(-len(clip) // 512) * 512 + 1024
    folder = tmp_path / "cut"
    folder.mkdir()
    # where no later sample has begun, the last one may have lost members: it is left out
    for size, left in (
        (2 * sample, ["0"]),
        (2 * sample + 100, ["0"]),
        (2 * sample + 512, ["0", "1"]),
        (3 * sample - 700, ["0", "1"]),
        (3 * sample, ["0", "1"]),
    ):
        (folder / "cut.tar").write_bytes(whole[:size])
        summary = index_tars([folder / "cut.tar"])
        keys = [Dataset.open(folder).sample(i).key for i in range(summary.samples)]
        assert keys == left, size
        assert summary.skipped == {"the tar is cut short or damaged": 1}, size
    # a header that is damaged ends a tar for tarfile without a word
    damaged = bytearray(whole)
    damaged[2 * sample + 150] ^= 1
    (folder / "cut.tar").write_bytes(damaged)
    summary = index_tars([folder])
    assert (summary.samples, summary.skipped) == (1, {"the tar is cut short or damaged": 1})
    (folder / "cut.tar").write_bytes(whole + whole)
    summary = index_tars([folder])
    assert summary.samples == 3
    (cause,) = summary.skipped
    assert "are several tars joined?" in cause


def test_indexing_again_or_with_more_workers_gives_the_same_bytes(
    clip: bytes, tmp_path: Path
) -> None:
    for n in range(3):
        plain_tar(tmp_path / f"tars/{n}.tar", {f"{n}-{i}.mp4": clip for i in range(2)})

    def bytes_of() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (tmp_path / "tars").iterdir()}

    index_tars([tmp_path / "tars"], num_workers=2)
    first = bytes_of()
    index_tars([tmp_path / "tars" / f"{n}.tar" for n in (2, 0, 1)])
    assert bytes_of() == first
    assert len(Dataset.open(tmp_path / "tars")) == 6


def test_keys_are_unique_in_the_data_set(clip: bytes, tmp_path: Path) -> None:
    plain_tar(tmp_path / "a.tar", {"x.mp4": clip, "0.mp4": clip})
    plain_tar(tmp_path / "b.tar", {"1.mp4": clip, "2.mp4": clip, "x.mp4": clip})
    with pytest.raises(
        BuildError, match=r"a\.tar and b\.tar both have a sample 'x', and 1 key in all is used"
    ):
        index_tars([tmp_path])
    assert not (tmp_path / "manifest.json").exists()


def test_audio_alone_is_a_sample_and_its_cover_is_no_video(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    wave = film("a.wav", seconds=2, video_codec=None, audio_codec="pcm_s16le", container="wav")
    members = {"a.wav": wave.read_bytes(), "b.flac": with_cover(wave)}
    plain_tar(tmp_path / "tars/a.tar", members)
    index_tars([tmp_path / "tars"])
    for i in range(2):
        sample = Dataset.open(tmp_path / "tars").sample(i)
        assert sample.video is None
        assert sample.audio is not None
        assert np.isclose(sample.audio.stop_seconds - sample.audio.start_seconds, 2)


def with_cover(wave: Path) -> bytes:
    """The sound as FLAC with a cover picture: a metadata block 6, RFC 9639 §8.8."""
    import av

    picture = io.BytesIO()
    container: Any
    with av.open(picture, "w", format="image2pipe") as container:
        stream = container.add_stream("png")
        stream.width = stream.height = 16
        stream.pix_fmt = "rgb24"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    png = picture.getvalue()
    kind, text = (3).to_bytes(4, "big"), b"image/png"
    block = kind + len(text).to_bytes(4, "big") + text + bytes(4)
    block += b"".join(n.to_bytes(4, "big") for n in (16, 16, 24, 0, len(png))) + png
    with av.open(str(wave)) as container:
        sound = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)
    mono = np.ascontiguousarray(sound.reshape(-1, 2)[:, 0]).astype(np.int16)
    flac = encode_audio(mono[None], 44100)
    # the first block, STREAMINFO, takes 4 + 34 bytes after the mark
    return flac[:42] + bytes([6]) + len(block).to_bytes(3, "big") + block + flac[42:]


@pytest.mark.parametrize("part", ["", "train", "val"])
@pytest.mark.parametrize("portion", ["", "part-0002-of-0003"])
def test_an_unfinished_build_is_not_made_to_look_finished(
    clip: bytes, tmp_path: Path, part: str, portion: str
) -> None:
    folder = tmp_path / part / portion
    tar = plain_tar(folder / "shard-000000.tar", {"x.mp4": clip})
    home = tmp_path / portion
    home.mkdir(exist_ok=True)
    (home / "build.json").write_text('{"format": "gdt-build"}')
    for given in (folder, tar):
        with pytest.raises(BuildError, match="has not finished: run its `gdt shards build` again"):
            index_tars([given])
    (home / "report.jsonl").write_text("")
    with pytest.raises(BuildError, match=f"lost its manifest: run `gdt shards repair {home}`"):
        index_tars([folder])
    assert sorted(p.name for p in folder.glob("*.tar*")) == ["shard-000000.tar"]
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.parametrize("content", ['{"format": "other"}', "[]", "no json", "\xff"])
def test_a_build_json_of_another_program_is_no_build_of_ours(
    clip: bytes, tmp_path: Path, content: str
) -> None:
    folder = tmp_path / "train"
    plain_tar(folder / "a.tar", {"x.mp4": clip})
    for place in (folder, tmp_path):
        (place / "build.json").write_bytes(content.encode("latin-1"))
    assert index_tars([folder]).samples == 1


def test_what_is_no_place_for_an_index_is_refused(clip: bytes, tmp_path: Path) -> None:
    built = write_data_set(tmp_path / "built", num_shards=1, samples_each=1)
    with pytest.raises(BuildError, match="is a data set already"):
        index_tars([built])
    with pytest.raises(BuildError, match="does not exist; check the path"):
        index_tars([tmp_path / "gone.tar"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError, match="There is no tar to index"):
        index_tars([tmp_path / "empty"])
    one = plain_tar(tmp_path / "one/a.tar", {"x.mp4": clip})
    two = plain_tar(tmp_path / "two/a.tar", {"x.txt": b"text"})
    with pytest.raises(BuildError, match="lie in 2 folders"):
        index_tars([one, two])
    with pytest.raises(BuildError, match=r"No sample of 1 tar in .* 1 × no video and no audio"):
        index_tars([two])


def test_a_sample_that_crashes_costs_no_other(
    clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_tars_module, "index_task", crashing_task)
    names = [f"{n:03d}" for n in range(5)]
    for tar in ("a.tar", "b.tar"):
        members = {f"{tar[0]}{n}.mp4": clip for n in names}
        for n in ("001", "003"):
            members[f"{tar[0]}{n}.mp4"] = clip + MARK
        plain_tar(tmp_path / tar, members)
    summary = index_tars([tmp_path], num_workers=2)
    assert (summary.tars, summary.samples) == (2, 6)
    assert summary.skipped == {"crashed its worker": 4}
    assert not summary.skipped_tars
    for line in report(tmp_path):
        assert "SIGABRT" in line["details"][0]
        assert "001" in line["details"][0]


def test_a_sample_whose_packets_overlap_is_left_out_alone(
    clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shards.maintenance.index_tar import index_tar
    from shards.media import demux

    original, calls = demux._offsets_in_one_piece, []

    def twice(*arguments: Any) -> list[int | None]:
        offsets = original(*arguments)
        calls.append(offsets)
        return [offsets[0], *offsets[:-1]] if len(calls) == 1 else offsets

    monkeypatch.setattr(demux, "_offsets_in_one_piece", twice)
    made = index_tar(plain_tar(tmp_path / "a.tar", {"bad.mp4": clip, "good.mp4": clip}))
    assert made.num_samples == 1
    assert "packets of its video overlap" in made.details[0]


def test_films_that_are_not_shown_as_coded_are_left_out(
    film: Callable[..., Path], clip: bytes, tmp_path: Path
) -> None:
    wide = film("w.mp4", seconds=1, sample_aspect_ratio=Fraction(4, 3)).read_bytes()
    members = {"flat.mp4": clip, "wide.mp4": wide}
    for name, signs in {"turned": (0, 1, -1, 0), "upside": (-1, 0, 0, -1)}.items():
        members[f"{name}.mp4"] = _with_matrix(clip, *signs)
    members["mirror.mp4"] = _with_matrix(clip, -1, 0, 0, 1)
    make_film(tmp_path / "h.mp4", (0.5, 0.5, 0.5), HLG, BT2020)
    members["hdr.mp4"] = (tmp_path / "h.mp4").read_bytes()
    plain_tar(tmp_path / "tars/a.tar", members)
    summary = index_tars([tmp_path / "tars"])
    assert summary.samples == 1
    assert summary.skipped == {
        "a rotated or mirrored video": 3,
        "pixels that are not square": 1,
        "HDR or wide colours": 1,
    }
    details = report(tmp_path / "tars")[0]["details"]
    assert all("build shards of it with `gdt shards build`" in detail for detail in details)
    assert any("4:3" in detail for detail in details)


def test_another_film_in_a_sample_is_counted_and_links_are_followed(
    clip: bytes, tmp_path: Path
) -> None:
    path = plain_tar(tmp_path / "a.tar", {"day 10.30.mp4": clip, "day 10.45.mkv": clip})
    with tarfile.open(path, "a") as tar:
        for name, target in (("two.mp4", "day 10.30.mp4"), ("three.mp4", "nowhere.mp4")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    summary = index_tars([tmp_path])
    assert summary.samples == 2
    assert summary.skipped == {
        "another video in one sample: the first is taken": 1,
        "a link to nothing in the tar": 1,
    }
    dataset = Dataset.open(tmp_path)
    first, second = dataset.sample(0), dataset.sample(1)
    assert dataset.read_member(second, "mp4") == clip == dataset.read_member(first, "30.mp4")
    verify(tmp_path)


def test_a_json_that_is_not_quite_one_says_the_same_as_in_a_build(
    clip: bytes, tmp_path: Path
) -> None:
    plain_tar(tmp_path / "a.tar", {"000.mp4": clip, "000.json": b'{"a": NaN, "label": "dog"}'})
    index_tars([tmp_path])
    assert Dataset.open(tmp_path).metadata(0) == {"a": None, "label": "dog"}


def test_a_sample_whose_header_could_not_be_read_again_is_left_out_alone(
    clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shards.maintenance.index_tar import index_tar
    from shards.media import demux

    original, calls = demux._header, []

    def endless(*arguments: Any) -> Any:
        calls.append(arguments)
        header = original(*arguments)
        odd = Fraction(1, 10**13)  # more digits than an index may hold
        return replace(header, time_base=odd) if len(calls) <= 2 else header

    monkeypatch.setattr(demux, "_header", endless)
    made = index_tar(plain_tar(tmp_path / "a.tar", {"bad.mp4": clip, "good.mp4": clip}))
    assert made.num_samples == 1
    assert "a codec header" in made.details[0]


def test_recordings_joined_in_one_member_are_counted(clip: bytes, tmp_path: Path) -> None:
    plain_tar(tmp_path / "a.tar", {"one.mp4": clip + clip, "two.mp4": clip})
    summary = index_tars([tmp_path])
    assert summary.samples == 2
    assert summary.skipped == {ANOTHER_RECORDING: 1}
    video = [Dataset.open(tmp_path).sample(i).video for i in range(2)]
    assert video[0] is not None
    assert video[1] is not None
    assert (video[0].packets.pts == video[1].packets.pts).all()
