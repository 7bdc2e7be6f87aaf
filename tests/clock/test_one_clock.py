"""The right second, whatever the container: read from the pixels and the sound that come out."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from shards import Dataset
from tests.clock.corpus import CORPUS, SECONDS, Variant
from tests.clock.measure import (
    CLIP_SECONDS,
    NUM_FRAMES,
    Errors,
    answer_of,
    ask,
    clip_start,
    errors_of,
)
from tests.clock.readable_clock import (
    HEIGHT,
    UnreadableClockError,
    picture,
    read_audio,
    read_picture,
    sound,
)

HALF_A_FRAME = 0.5 / NUM_FRAMES
A_SAMPLE = 1 / 24_000
OPTIONS = SegmentOptions(decoder="av")

each_variant = pytest.mark.parametrize("variant", CORPUS, ids=lambda v: v.name)

# One worker makes the corpus once.
pytestmark = pytest.mark.xdist_group("clock")


def test_the_clock_can_be_read_at_any_size_and_from_any_window() -> None:
    for seconds in (0.0, 1.2345, 3.3333, 6.5535):
        luma = picture(seconds)[:HEIGHT]
        assert read_picture(luma) == pytest.approx(seconds, abs=5e-5)
        assert read_picture(luma[::2, ::2]) == pytest.approx(seconds, abs=5e-5)
    with pytest.raises(UnreadableClockError, match="a block and its opposite agree"):
        read_picture(np.full((96, 160), 128, np.uint8))
    for rate in (24_000, 44_100):
        for first in (0, rate // 3, 5 * rate):
            window = sound(rate)[first : first + rate // 20]
            assert read_audio(window, rate) == pytest.approx(first / rate, abs=1e-6)
    with pytest.raises(UnreadableClockError, match="matches none"):
        read_audio(np.zeros(1200, np.float32), 24_000)


def test_between_two_samples_the_sound_tells_the_time_too() -> None:
    every_other = sound(48_000)[20_001::2][:1200]
    assert read_audio(every_other, 24_000) == pytest.approx(20_001 / 48_000, abs=2e-6)


@each_variant
def test_the_corpus_is_what_it_says(variant: Variant, videos: dict[str, Path]) -> None:
    """By an independent road: every frame and sample in order, with the times FFmpeg gives them."""
    tolerance = HALF_A_FRAME if variant.cut_seconds else 0.001  # FFmpeg moves the first frame to 0
    with av.open(str(videos[variant.name])) as container:
        frames: list[Any] = list(container.decode(video=0))
    shown = [read_picture(frame.to_ndarray()[:HEIGHT]) for frame in frames]
    times = [frame.time + variant.offset for frame in frames]
    assert np.allclose(shown, times, rtol=0, atol=tolerance)
    visible = [t for t in variant.frame_times() if t >= variant.cut_seconds]
    assert np.allclose(shown, [float(t) for t in visible], rtol=0, atol=1e-4)
    with av.open(str(videos[variant.name])) as container:
        pieces: list[Any] = list(container.decode(audio=0))
    full_scale = 32768 if pieces[0].format.name.startswith("s16") else 1
    wave = np.concatenate([p.to_ndarray().reshape(-1) for p in pieces]).astype(np.float32)
    rate = pieces[0].sample_rate
    for at in (0.4, 1.5, 2.7):
        window = wave[round(at * rate) :][: rate // 20] / np.float32(full_scale)
        heard = pieces[0].time + variant.offset + round(at * rate) / rate
        assert read_audio(window, rate) == pytest.approx(heard, abs=0.001)


@each_variant
def test_unprepared_files_are_read_on_one_clock(variant: Variant, unprepared: Dataset) -> None:
    reader = SegmentReader(unprepared, OPTIONS)
    number = CORPUS.index(variant)
    errors = ask(variant, lambda start: answer_of(reader.segments(number, [start])[0]))
    assert errors.whole
    # An mp4's own edit list may cut between frames; every other frame is found exactly.
    assert errors.video_seconds <= (HALF_A_FRAME if variant.cut_seconds else 0.0005)
    assert errors.audio_seconds <= 2 * A_SAMPLE


@each_variant
def test_unprepared_files_begin_and_end_with_what_a_player_shows(
    variant: Variant, unprepared: Dataset
) -> None:
    reader = SegmentReader(unprepared, OPTIONS)
    number = CORPUS.index(variant)
    first, stop = reader.span(unprepared.sample(number))
    begin = max(variant.cut_seconds, variant.video_start, variant.audio_start)
    priming = 0.024 if variant.name in ("late_sound", "mpeg_ts") else 0.0  # not marked as such
    assert begin - priming - 0.001 <= first + variant.offset <= begin + 0.001
    assert stop + variant.offset <= SECONDS + 0.001
    answers = reader.segments(number, [first, stop - 1])
    for segment in answers[0 if not priming else 1 :]:
        start = segment.start_seconds + variant.offset
        errors = errors_of(variant, start, answer_of(segment))
        assert errors.whole
        assert errors.video_seconds <= (HALF_A_FRAME if variant.cut_seconds else 0.0005)
        assert errors.audio_seconds <= 2 * A_SAMPLE


@each_variant
def test_shards_are_on_one_clock(variant: Variant, built: Dataset) -> None:
    reader = SegmentReader(built, OPTIONS)
    errors = []
    for number in range(len(built)):
        metadata = built.metadata(number)
        if metadata["source"] != variant.file_name:
            continue
        starts = [0.0, 0.0421, CLIP_SECONDS - 1]
        for segment in reader.segments(number, starts):
            start = clip_start(variant, metadata) + segment.start_seconds
            errors.append(errors_of(variant, start, answer_of(segment)))
    assert len(errors) >= 3 * 2
    largest = Errors.largest(errors)
    assert largest.whole
    assert largest.video_seconds <= HALF_A_FRAME + 0.0005  # and the rounding of the source's clock
    assert largest.audio_seconds <= 0.001
