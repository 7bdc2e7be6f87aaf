"""What the stream does when shards, samples, decoders or our own code are broken."""

import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from gdt.plan import Plan
from pipelines.color import i420_to_rgb
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.evaluation import evaluation_batches
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.stream import Stream, StreamOptions
from pipelines.skips import SkipLog, TooManySkipsError
from shards import Dataset, IndexedSample, IndexFormatError, ShardError
from tests.pipelines.conftest import Clip, constant_rate, members_of, noise, write_shards

BOTH = ("video", "audio")
SEGMENT = SegmentOptions(seconds=0.5, num_frames=4)
SOUND_ONLY = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["audio"]},
        "augmentation": {"relation": "invariant", "draws": 2},
    }
)


@pytest.fixture(scope="module")
def clips() -> list[dict[str, bytes]]:
    """Twelve clips of 0.8 s."""
    options = {"g": "4", "bf": "0"}
    return [
        members_of(Clip(constant_rate(10, 0.8), noise(0.8, seed=i), codec_options=options))
        for i in range(12)
    ]


@pytest.fixture
def dataset(clips: list[dict[str, bytes]], tmp_path: Path) -> Dataset:
    return write_shards(tmp_path / "shards", clips, samples_per_shard=6)


def delivered(dataset: Dataset, skip_log: SkipLog | None = None) -> dict[str, RawBatch]:
    """Every sample's own batch, by key."""
    batches = evaluation_batches(dataset, BOTH, SEGMENT, 2, batch_size=1, skip_log=skip_log)
    return {batch.keys[0]: batch for batch in batches}


def spoil_sound(dataset: Dataset, index: int) -> None:
    sample = dataset.sample(index)
    assert sample.audio is not None
    for offset in sample.audio.packets.offset.tolist():
        overwrite(dataset, sample.shard, offset + 20, bytes(20))


def overwrite(dataset: Dataset, shard: str, offset: int, content: bytes) -> None:
    with (Path(dataset.path) / shard).open("r+b") as file:
        file.seek(offset)
        file.write(content)


def test_a_corrupt_member_costs_its_sample_and_no_other(dataset: Dataset, tmp_path: Path) -> None:
    sample = dataset.sample(7)
    member = sample.members["flac"]
    overwrite(dataset, sample.shard, member.offset + member.size // 2, bytes(member.size // 3))
    skip_log = SkipLog(tmp_path / "skips.jsonl")
    assert set(delivered(dataset, skip_log)) == {f"clip-{i:04d}" for i in range(12) if i != 7}
    (line,) = (tmp_path / "skips.jsonl").read_text().splitlines()
    assert '"key": "clip-0007"' in line
    assert '"stage": "checksum"' in line
    assert f'"shard": "{sample.shard}"' in line


def test_flipped_bits_are_never_decoded(dataset: Dataset) -> None:
    """Wherever a bit is flipped: a sample comes as it was written, or is skipped for it."""
    expected = delivered(dataset)
    rng = random.Random(4)
    for shard in {dataset.sample(i).shard for i in range(12)}:
        path = Path(dataset.path) / shard
        content = bytearray(path.read_bytes())
        for _ in range(4):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    skip_log = SkipLog()
    got = delivered(Dataset.open(dataset.path), skip_log)
    assert skip_log.seen.skipped >= 2
    assert skip_log.causes == {"checksum": skip_log.seen.skipped}
    assert len(got) + skip_log.seen.skipped == 12
    assert got
    for key, batch in got.items():
        for name in ("frames", "audio", "start_seconds"):
            assert torch.equal(getattr(batch, name), getattr(expected[key], name))


def test_a_missing_shard_or_index_stops_and_is_named(dataset: Dataset) -> None:
    folder = Path(dataset.path)
    for name in ("shard-000001.tar.index", "shard-000001.tar"):
        (folder / name).rename(folder / "aside")
        with pytest.raises(
            ShardError, match=rf"{re.escape(name)} is in the manifest .* but not on"
        ):
            delivered(Dataset.open(folder))
        (folder / "aside").rename(folder / name)
    assert len(delivered(Dataset.open(folder))) == 12


def test_the_index_of_another_shard_stops_and_is_named(dataset: Dataset) -> None:
    folder = Path(dataset.path)
    shutil.copy(folder / "shard-000000.tar.index", folder / "shard-000001.tar.index")
    with pytest.raises(IndexFormatError, match=r"shard-000001\.tar\.index is not the one that the"):
        delivered(Dataset.open(folder))


def test_a_tar_cut_at_a_sample_boundary_stops_and_is_named(dataset: Dataset) -> None:
    """Readers of plain tars take this for a shorter shard."""
    path = Path(dataset.path) / "shard-000001.tar"
    last = min(member.offset for member in dataset.sample(11).members.values())
    with path.open("r+b") as file:
        file.truncate(last - 512)  # before the header of the last sample's first member
    with pytest.raises(IndexFormatError, match=r"shard-000001\.tar of \d+ bytes, and the file has"):
        delivered(Dataset.open(dataset.path))


def test_a_decoder_that_refuses_is_a_skip(clips: list[dict[str, bytes]], tmp_path: Path) -> None:
    """Packets that are what was indexed, and no H.264: there is no checksum to tell."""
    bad = dict(clips[3])
    with av.open(str(write(tmp_path / "a.mp4", bad["mp4"]))) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(bad["mp4"])
    rng = np.random.default_rng(0)
    for place, size in places[1:]:
        assert place is not None
        content[place + 6 : place + size] = rng.bytes(size - 6)  # length and kind stay
    bad["mp4"] = bytes(content)
    dataset = write_shards(tmp_path / "shards", [*clips[:3], bad, *clips[4:]])
    skip_log = SkipLog()
    got = delivered(dataset, skip_log)
    assert set(got) == {f"clip-{i:04d}" for i in range(12) if i != 3}
    assert skip_log.causes == {"decode": 1}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_decoder_that_raises_is_a_skip_and_its_thread_goes_on(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = delivered(dataset)
    create: Any = av.CodecContext.create

    class Refusing:
        """A codec context that breaks off at the fifth flush."""

        def __init__(self, context: Any) -> None:
            object.__setattr__(self, "context", context)

        def __getattr__(self, name: str) -> Any:
            if name == "flush_buffers":
                flushes.append(1)
                if len(flushes) == 5:
                    raise av.error.ExternalError(542398533, "Generic error in an external library")
            return getattr(self.context, name)

        def __setattr__(self, name: str, value: Any) -> None:
            setattr(self.context, name, value)

    flushes: list[int] = []

    class Codecs:
        @staticmethod
        def create(codec: str, mode: str) -> Refusing:
            return Refusing(create(codec, mode))

    monkeypatch.setattr("pipelines.decoding.backends.av.av.CodecContext", Codecs)
    skip_log = SkipLog()
    got = delivered(dataset, skip_log)
    assert skip_log.causes == {"decode": 1}
    assert len(got) == 11
    for key, batch in got.items():
        assert batch.frames is not None
        assert torch.equal(batch.frames, expected[key].frames)  # type: ignore[arg-type]


def test_five_percent_of_bad_samples_stop_the_run(
    clips: list[dict[str, bytes]], tmp_path: Path
) -> None:
    dataset = write_shards(tmp_path / "shards", [clips[i % 12] for i in range(40)], 40)
    for index in (8, 31):
        spoil_sound(dataset, index)
    skip_log = SkipLog(tmp_path / "skips.jsonl")
    stream = Stream(dataset, SOUND_ONLY, SEGMENT, StreamOptions(batch_size=8), 0, skip_log=skip_log)
    epochs = (batch for _ in range(100) for batch in stream)
    with pytest.raises(TooManySkipsError, match=r"5\d of 10\d\d samples .*, which is 5\.\d%"):
        list(epochs)
    assert skip_log.seen.total < 1040  # at once when there are enough to judge by
    assert len((tmp_path / "skips.jsonl").read_text().splitlines()) == skip_log.seen.skipped


def test_sixty_bad_samples_in_a_row_stop_the_run(
    clips: list[dict[str, bytes]], tmp_path: Path
) -> None:
    dataset = write_shards(tmp_path / "shards", [clips[0]] * 64, 64)
    for index in range(2, 62):
        spoil_sound(dataset, index)
    skip_log = SkipLog()
    with pytest.raises(TooManySkipsError, match=r"50 samples in a row.*checksum 50.*clip-0051"):
        list(evaluation_batches(dataset, ("audio",), SEGMENT, skip_log=skip_log))
    assert (skip_log.seen.delivered, skip_log.seen.skipped) == (2, 50)


def test_a_bug_in_a_transform_fails_and_names_the_samples(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_log = SkipLog()
    stream = Stream(dataset, SOUND_ONLY, SEGMENT, StreamOptions(batch_size=4), 0, skip_log=skip_log)
    transform = DeviceTransform(SOUND_ONLY, DeviceOptions(), seed=0)
    raw = next(iter(stream))
    stream.close()

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("pipelines.device.transform.mask_spectrogram", broken)
    with pytest.raises(ZeroDivisionError) as caught:
        transform(raw)
    (note,) = caught.value.__notes__
    assert note.startswith("This happened in epoch 0 step 0, to one of the samples 'clip-")
    assert all(repr(key) in note for key in raw.keys)
    assert skip_log.seen.skipped == 0


def test_clips_of_other_colours_are_brought_to_the_first_ones(
    clips: list[dict[str, bytes]], tmp_path: Path
) -> None:
    """As tars of others have them; what the same planes mean in the other colours is known."""
    full = {"bf": "0", "g": "4", "qp": "1", "color_range": "pc", "colorspace": "bt709"}
    other = members_of(Clip(constant_rate(10, 0.8), noise(0.8), codec_options=full))
    dataset = write_shards(tmp_path / "shards", [*clips[:3], other])
    alone = write_shards(tmp_path / "alone", [other])
    theirs, ours = (
        next(evaluation_batches(data, ("video",), SEGMENT)) for data in (alone, dataset)
    )
    assert theirs.frames is not None
    assert ours.frames is not None
    assert (theirs.color_matrix, theirs.color_range) == ("bt709", "full")
    assert (ours.color_matrix, ours.color_range) == ("bt601", "limited")
    expected = i420_to_rgb(theirs.frames[0], 48, 160, "bt709", "full", "bilinear")
    got = i420_to_rgb(ours.frames[3], 48, 160, "bt601", "limited", "bilinear")
    as_if = i420_to_rgb(theirs.frames[0], 48, 160, "bt601", "limited", "bilinear")
    assert psnr(got, expected) > 35 > 30 > psnr(as_if, expected)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10(((a - b) ** 2).mean()))


def test_where_colours_cannot_be_brought_the_clip_is_skipped_with_what_to_do(
    clips: list[dict[str, bytes]], tmp_path: Path
) -> None:
    pytest.importorskip("decord")
    full = {"bf": "0", "g": "4", "color_range": "pc", "colorspace": "bt709"}
    other = members_of(Clip(constant_rate(10, 0.8), noise(0.8), codec_options=full))
    dataset = write_shards(tmp_path / "shards", [*clips[:3], other])
    skip_log = SkipLog(tmp_path / "skips.jsonl")
    segment = replace(SEGMENT, decoder="decord")
    assert (
        len(list(evaluation_batches(dataset, BOTH, segment, batch_size=1, skip_log=skip_log))) == 3
    )
    text = (tmp_path / "skips.jsonl").read_text()
    assert "its colours are bt709 full, the data set's are bt601 limited" in text
    assert "decoder 'av' converts video, and `gdt shards build` brings all to one" in text


class _Claiming:
    """A data set whose index says another size, as a hostile one may."""

    def __init__(self, dataset: Dataset, width: int, height: int) -> None:
        self._dataset, self._width, self._height = dataset, width, height

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def sample(self, i: int) -> IndexedSample:
        sample = self._dataset.sample(i)
        assert sample.video is not None
        video = replace(sample.video, width=self._width, height=self._height)
        return replace(sample, video=video)


@pytest.mark.parametrize("size", [(100_000, 100_000), (0, 0), (161, 48)])
def test_sizes_that_no_batch_can_have_are_refused(dataset: Dataset, size: tuple[int, int]) -> None:
    claiming: Any = _Claiming(dataset, *size)
    with pytest.raises(ValueError, match=f"first frames are {size[0]}×{size[1]}; without segm"):
        SegmentReader(claiming, SEGMENT)


def test_samples_without_frames_at_the_front_are_skipped(
    clips: list[dict[str, bytes]], tmp_path: Path
) -> None:
    silent = [{"flac": clips[i]["flac"]} for i in range(3)]
    dataset = write_shards(tmp_path / "shards", [*silent, *clips[3:6]])
    skip_log = SkipLog()
    assert set(delivered(dataset, skip_log)) == {"clip-0003", "clip-0004", "clip-0005"}
    assert skip_log.causes == {"cover": 3}
    only = write_shards(tmp_path / "only", silent)
    with pytest.raises(
        ValueError, match=r"none of its first 3 samples has a video track, and the plan nee"
    ):
        SegmentReader(only, SEGMENT)
