"""Segments against the numbers in their pixels and against decoding the whole container."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.decoding.backends.av import PacketDecoder
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.skips import SkipError
from shards import Dataset

RATES = {
    "12 fps": Fraction(12),
    "29.97 fps": Fraction(30000, 1001),
    "30 fps": Fraction(30),
    "59.94 fps": Fraction(60000, 1001),
}


def numbers_on_screen(
    times: list[Fraction], start: Fraction, length: Fraction, n: int
) -> list[int]:
    """The definition, in exact fractions: the last frame at or before each interval's middle."""
    middles = [start + (i + Fraction(1, 2)) * length / n for i in range(n)]
    return [max(k for k, time in enumerate(times) if time <= middle) for middle in middles]


def decode_whole(data: bytes) -> tuple[list[Fraction], NDArray[np.uint8]]:
    """The slow way: open the container, decode every frame, sort by time."""
    with av.open(io.BytesIO(data), mode="r") as container:
        frames: list[Any] = list(container.decode(video=0))
        frames.sort(key=lambda frame: frame.pts)
        times = [frame.pts * frame.time_base for frame in frames]
        planes = np.stack([frame.to_ndarray(format="yuv420p").reshape(-1) for frame in frames])
    return times, planes


GROUPS = {
    "no B-frames": {"bf": "0"},
    "B-frames": {"bf": "3"},
    "open groups": {"bf": "3", "x264-params": "open-gop=1"},
}


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("groups", GROUPS)
def test_frames_are_those_on_screen_and_equal_a_whole_decode(
    corpus: Any, tmp_path: Path, name: str, groups: str
) -> None:
    options = {"g": "12", "b-adapt": "0", "sc_threshold": "0", **GROUPS[groups]}
    times = corpus.constant_rate(RATES[name], 2.5)
    clip = corpus.clip(times, corpus.noise(2.5), codec_options=options)
    members = corpus.members(clip)
    reader = SegmentReader(corpus.write(tmp_path, [members]), SegmentOptions(num_frames=30))
    starts = [Fraction(0), Fraction(1, 7), Fraction(61, 100), Fraction(1499, 1000)]
    container_times, planes = decode_whole(members["mp4"])
    for start, segment in zip(starts, reader.segments(0, [float(s) for s in starts]), strict=True):
        assert segment.video is not None
        expected = numbers_on_screen(times, start, Fraction(1), 30)
        assert corpus.numbers(segment.video, segment.width) == expected
        assert np.array_equal(segment.video, planes[expected])
    assert len(container_times) == len(times)


def test_variable_frame_rate_repeats_and_leaves_out_by_time(corpus: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    steps = rng.choice([300, 1500, 3003, 9000, 40_000], size=80)
    times = [Fraction(int(t), 90_000) for t in np.concatenate([[0], np.cumsum(steps)])]
    clip = corpus.clip(times, corpus.noise(float(times[-1]) + 1), codec_options={"bf": "2"})
    reader = SegmentReader(corpus.write(tmp_path, [corpus.members(clip)]), SegmentOptions())
    starts = [Fraction(i, 11) for i in range(0, int(11 * (times[-1] - 1)), 5)]
    segments = reader.segments(0, [float(s) for s in starts])
    for start, segment in zip(starts, segments, strict=True):
        assert segment.video is not None
        expected = numbers_on_screen(times, start, Fraction(1), 30)
        assert corpus.numbers(segment.video, segment.width) == expected
    repeats = [len(set(corpus.numbers(s.video, s.width))) for s in segments]
    assert min(repeats) < 30


def test_sound_is_cut_by_the_sample_clock(corpus: Any, tmp_path: Path) -> None:
    sound = corpus.noise(3.0)
    clip = corpus.clip(corpus.constant_rate(10, 3), sound)
    reader = SegmentReader(corpus.write(tmp_path, [corpus.members(clip)]), SegmentOptions())
    starts = [0.0, 0.00003, 0.5, 0.777777, 1.2345, 2.0]
    for start, segment in zip(starts, reader.segments(0, starts), strict=True):
        first = round(start * 24_000)
        assert segment.audio is not None
        assert segment.audio.dtype == np.float32
        assert np.array_equal(segment.audio, sound[first : first + 24_000] / np.float32(32768))
    assert segment.stop_seconds == 3.0


@pytest.mark.parametrize(("seconds", "audio_seconds"), [(0.5, 2.0), (1.5, 0.5)])
def test_picture_and_sound_of_different_length_have_one_middle(
    corpus: Any, tmp_path: Path, seconds: float, audio_seconds: float
) -> None:
    sound, times = corpus.noise(4.0), corpus.constant_rate(20, 4)
    options = SegmentOptions(seconds=seconds, audio_seconds=audio_seconds, num_frames=5)
    members = corpus.members(corpus.clip(times, sound))
    reader = SegmentReader(corpus.write(tmp_path, [members]), options, speeds=(1.0, 2.0))
    window = max(seconds, audio_seconds)
    assert reader.room(reader.dataset.sample(0)) == pytest.approx(4 - 2 * window)
    rows = reader.segments(0, [0.0, 4 - 2 * window])
    for segment, (start, speed) in zip(
        rows, [(s, v) for s in (0.0, 4 - 2 * window) for v in (1, 2)], strict=True
    ):
        middle = Fraction(start + speed * window / 2)
        assert (segment.start_seconds, segment.stop_seconds) == (start, start + speed * window)
        length = speed * Fraction(seconds)
        expected = numbers_on_screen(times, middle - length / 2, length, 5)
        assert corpus.numbers(segment.video, reader.width) == expected
        first = round(float(middle) * 24_000 - speed * audio_seconds * 12_000)
        assert segment.audio is not None
        assert len(segment.audio) == audio_seconds * 24_000
        if speed == 1:
            piece = sound[first : first + round(audio_seconds * 24_000)] / np.float32(32768)
            assert np.array_equal(segment.audio, piece)


@pytest.mark.parametrize(("rate", "wanted"), [(48_000, 24_000), (44_100, 24_000), (16_000, 24_000)])
def test_another_rate_gives_what_resampling_the_whole_track_gives(
    corpus: Any, tmp_path: Path, rate: int, wanted: int
) -> None:
    import torch
    from torchaudio.functional import resample

    sound = corpus.noise(3.0, rate)
    clip = corpus.clip(corpus.constant_rate(10, 3), sound, sample_rate_hz=rate)
    options = SegmentOptions(sample_rate_hz=wanted)
    reader = SegmentReader(corpus.write(tmp_path, [corpus.members(clip)]), options)
    whole = resample(torch.from_numpy(sound / np.float32(32768)), rate, wanted).numpy()
    starts = [0.0, 0.7771, 1.3, 2.0]
    for start, segment in zip(starts, reader.segments(0, starts), strict=True):
        first = round(start * wanted)
        assert segment.audio is not None
        np.testing.assert_allclose(segment.audio, whole[first : first + wanted], atol=2e-6)


def test_other_sizes_are_scaled_by_swscale(corpus: Any, tmp_path: Path) -> None:
    members = corpus.members(corpus.clip(corpus.constant_rate(10, 1.5), None, size=(192, 64)))
    options = SegmentOptions(num_frames=3, frame_size=(96, 32))
    dataset = corpus.write(tmp_path, [members])
    segment = SegmentReader(dataset, options, audio=False).segments(0, [0.25])[0]
    assert (segment.width, segment.height) == (96, 32)
    with av.open(io.BytesIO(members["mp4"]), mode="r") as container:
        frames = list(container.decode(video=0))
    assert segment.video is not None
    for got, number in zip(segment.video, (4, 7, 10), strict=True):
        expected = frames[number].reformat(96, 32, "yuv420p").to_ndarray().reshape(-1)
        assert np.array_equal(got, expected)


def test_only_the_groups_of_pictures_that_are_needed_are_read(corpus: Any, tmp_path: Path) -> None:
    clip = corpus.clip(corpus.constant_rate(30, 4), None)  # a keyframe every 15 frames
    dataset = corpus.write(tmp_path, [corpus.members(clip)])
    reader = SegmentReader(dataset, SegmentOptions(seconds=0.2, num_frames=6), audio=False)
    sample = dataset.sample(0)
    packets = sample.video.packets
    ranges: list[tuple[int, int]] = []

    def read(offset: int, size: int) -> bytes:
        ranges.append((offset, offset + size))
        return bytes(dataset.read(sample, offset, size))

    from pipelines.decoding.backends.backend import FrameRequest
    from pipelines.decoding.segment import frames_on_screen

    starts = np.array([1.1, 3.55])  # frames 33-38 and 106/107-112: groups from 30 and from 105
    out = np.empty((12, reader.frame_bytes), np.uint8)
    wanted = frames_on_screen(sample.video, starts, reader.options)
    request = FrameRequest(read, sample.video, wanted.ravel(), reader.height, reader.width)
    reader.backend.frames(request, out)
    starts_of, last = packets.offset.tolist(), wanted.max(axis=1).tolist()
    assert ranges == [
        (starts_of[30], starts_of[last[0]] + int(packets.size[last[0]])),
        (starts_of[105], starts_of[last[1]] + int(packets.size[last[1]])),
    ]
    assert corpus.numbers(out, reader.width) == wanted.ravel().tolist()


def test_frames_may_have_times_of_their_own_and_go_back(corpus: Any, tmp_path: Path) -> None:
    clip = corpus.clip(corpus.constant_rate(30, 4), None)
    dataset = corpus.write(tmp_path, [corpus.members(clip)])
    options = SegmentOptions(seconds=1.0, num_frames=4, frame_times=(0.0, 0.26, 0.99, 0.1))
    (plain,) = SegmentReader(dataset, options, audio=False).segments(0, [1.0])
    fast = SegmentReader(dataset, options, audio=False, speeds=(2.0,)).segments(0, [1.0])
    assert plain.video is not None
    assert fast[0].video is not None
    assert corpus.numbers(plain.video, plain.width) == [30, 37, 59, 33]
    assert corpus.numbers(fast[0].video, plain.width) == [30, 45, 89, 36]


def test_one_context_serves_all_clips_of_one_kind(small_dataset: Dataset) -> None:
    reader = SegmentReader(small_dataset, SegmentOptions(num_frames=5))
    for index in range(len(small_dataset)):
        reader.segments(index, [0.1])
    decoder = reader.backend
    assert isinstance(decoder, PacketDecoder)
    codecs = [key[0] for key in decoder._contexts()]
    assert sorted(codecs) == ["flac", "h264"]


def test_a_clip_as_long_as_a_segment_is_enough(corpus: Any, tmp_path: Path) -> None:
    clip = corpus.clip(corpus.constant_rate(30, 1), corpus.noise(1))
    reader = SegmentReader(corpus.write(tmp_path, [corpus.members(clip)]), SegmentOptions())
    starts = reader.starts(reader.dataset.sample(0), np.array([0.0, 0.5, 1.0]))
    assert np.allclose(starts, 0, atol=1e-3)
    assert corpus.numbers(reader.segments(0, [0.0])[0].video, 160) == list(range(30))


def test_what_cannot_cover_its_second_is_a_skip_with_the_numbers(
    corpus: Any, tmp_path: Path
) -> None:
    short = corpus.members(corpus.clip(corpus.constant_rate(30, 0.7), corpus.noise(3)))
    silent = corpus.members(corpus.clip(corpus.constant_rate(30, 2), None))
    reader = SegmentReader(corpus.write(tmp_path, [short, silent]), SegmentOptions())
    with pytest.raises(SkipError, match="clip-0000") as caught:
        reader.segments(0, [0.0])
    assert "video [0.000, 0.700) s and audio [0.000, 3.000) s have 0.700 s in common" in str(
        caught.value
    )
    assert (caught.value.stage, caught.value.shard) == ("cover", "shard-000000.tar")
    with pytest.raises(SkipError, match=r"no audio track \(members: \.mp4\)"):
        reader.segments(1, [0.0])
    video_only = SegmentReader(reader.dataset, SegmentOptions(), audio=False)
    with pytest.raises(SkipError, match=r"from 1.500 s lies outside \[0.000, 2.000\) s"):
        video_only.segments(1, [1.5])


def flip_a_bit(dataset: Dataset, offset: int) -> None:
    with (Path(dataset.path) / dataset.sample(0).shard).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_flipped_bit_is_a_skip_that_names_the_packet(
    corpus: Any, tmp_path: Path, kind: str
) -> None:
    clip = corpus.clip(corpus.constant_rate(10, 2), corpus.noise(2))
    dataset = corpus.write(tmp_path, [corpus.members(clip)])
    packets = getattr(dataset.sample(0), kind).packets
    flip_a_bit(dataset, int(packets.offset[3]) + int(packets.size[3]) // 2)
    reader = SegmentReader(dataset, SegmentOptions(num_frames=10))
    with pytest.raises(SkipError, match=r"checksum: packet 3 has crc32 [0-9a-f]{8}, the index"):
        reader.segments(0, [0.0])


def test_a_decoder_that_refuses_is_a_skip(corpus: Any, tmp_path: Path) -> None:
    clip = corpus.clip(corpus.constant_rate(10, 2), None)
    reader = SegmentReader(
        corpus.write(tmp_path, [corpus.members(clip)]), SegmentOptions(num_frames=10), audio=False
    )
    sample = reader.dataset.sample(0)
    out = np.empty((1, reader.frame_bytes), np.uint8)
    import zlib
    from dataclasses import replace

    from pipelines.decoding.backends.backend import FrameRequest, MediaError

    assert sample.video is not None
    packets = sample.video.packets
    junk = b"\0\0\0\4\x65junk" * 100
    fake = replace(
        packets,
        size=np.full_like(packets.size, len(junk)),
        crc32=np.full_like(packets.crc32, zlib.crc32(junk)),
    )
    track = replace(sample.video, packets=fake)
    request = FrameRequest(lambda offset, size: junk[:size], track, np.array([0]), 48, 160)
    with pytest.raises(MediaError, match="decode"):
        reader.backend.frames(request, out)
    segment = reader.segments(0, [0.0])[0]  # the thread's next clip is not harmed
    assert corpus.numbers(segment.video, 160) == list(range(10))


def test_sizes_that_differ_are_refused_with_both(corpus: Any, tmp_path: Path) -> None:
    times = corpus.constant_rate(10, 1.5)
    samples = [
        corpus.members(corpus.clip(times, None, size=size)) for size in ((160, 48), (192, 64))
    ]
    reader = SegmentReader(corpus.write(tmp_path, samples), SegmentOptions(), audio=False)
    with pytest.raises(ValueError, match=r"192×64.*160×48: set segment.frame_size"):
        reader.segments(1, [0.0])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seconds": 0.0}, "seconds = 0.0, must be positive"),
        ({"num_frames": 3, "frame_times": (0.0, 0.5)}, "2, and num_frames = 3: there must be a"),
        (
            {"num_frames": 2, "frame_times": (0.0, 1.0)},
            r"\[0.0, 1.0\], must be at least 0 and less",
        ),
        ({"num_frames": 1, "frame_times": (-0.1,)}, r"\[-0.1\], must be at least 0 and less than"),
        ({"audio_seconds": 0.0}, "audio_seconds = 0.0, must be positive; leave it out"),
        ({"frame_size": (101, 64)}, r"frame_size = \[101, 64\], must be an even"),
    ],
)
def test_options_say_what_is_allowed(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SegmentOptions(**options)
