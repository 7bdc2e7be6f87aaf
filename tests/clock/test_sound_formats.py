"""Every format of a member: what is heard is what was stored, at the time it was stored for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.decoding.backends.av import PacketDecoder
from pipelines.decoding.backends.backend import AudioRequest
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from shards import BuildError, BuildOptions, Dataset, Manifest
from shards.encoding.audio import AUDIO_FORMATS, encode_audio
from shards.format.writer import ShardWriter
from shards.media.demux import demux_tracks
from shards.options import AUDIO_RATES
from tests.clock.readable_clock import read_audio, sound

SECONDS = 3.0
EACH = [(n, c, r) for n, rates in AUDIO_RATES.items() for c in (1, 2) for r in rates]


def clock(rate: int, channels: int) -> Any:
    """The clock's sound as samples [C, S]; of two channels, one is louder than the other."""
    mono = sound(rate)[: round(SECONDS * rate)] * 32767
    return np.stack([mono * gain for gain in (1.0, 0.5)[:channels]]).round().astype(np.int16)


def data_set(folder: Path, name: str, channels: int, rate: int) -> Dataset:
    data = encode_audio(clock(rate, channels), rate, name)
    assert data == encode_audio(clock(rate, channels), rate, name)
    folder.mkdir()
    extension = AUDIO_FORMATS[name].extension
    with ShardWriter(folder / "sound.tar") as writer:
        writer.add("clip", {extension: data}, demux_tracks(data, extension))
        entry = writer.finish()
    Manifest((entry,)).write(folder)
    return Dataset.open(folder)


def heard(dataset: Dataset, first: int, count: int) -> Any:
    """Samples [first, first + count) at the track's own rate, and how many bytes that took."""
    sample, out, taken = dataset.sample(0), np.zeros(count, np.float32), []

    def read(offset: int, size: int) -> bytes:
        taken.append(size)
        return dataset.read(sample, offset, size)

    assert sample.audio is not None
    PacketDecoder().samples(AudioRequest(read, sample.audio, first), out)
    return out, sum(taken)


def test_the_formats_are_those_of_the_options() -> None:
    assert list(AUDIO_FORMATS) == list(AUDIO_RATES)


@pytest.mark.parametrize(("name", "channels", "rate"), EACH)
def test_sound_is_where_it_was_put(name: str, channels: int, rate: int, tmp_path: Path) -> None:
    dataset = data_set(tmp_path / "set", name, channels, rate)
    audio = dataset.sample(0).audio
    assert audio is not None
    assert (audio.sample_rate_hz, audio.num_channels) == (rate, channels)
    assert (audio.start_seconds, audio.stop_seconds) == pytest.approx((0, SECONDS), abs=1e-9)
    reader = SegmentReader(dataset, SegmentOptions(decoder="av"), video=False)
    for segment in reader.segments(0, [0.0, 0.0123, 0.7, 1.9999, 2.0]):
        assert segment.audio is not None
        for first in (0, 11_000, 22_800):
            at = segment.start_seconds + first / 24_000
            window = segment.audio[first : first + 1200]
            assert read_audio(window, 24_000, near=at) == pytest.approx(at, abs=0.0001)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", ["flac", "pcm"])
def test_what_loses_nothing_gives_every_bit(name: str, channels: int, tmp_path: Path) -> None:
    """The stream is mono: of two channels, their mean."""
    dataset = data_set(tmp_path / "set", name, channels, 24_000)
    stored = clock(24_000, channels).astype(np.float32).mean(axis=0) / 32768
    for first, count in ((0, 72_000), (31_234, 24_000), (48_000, 24_000)):
        np.testing.assert_array_equal(
            heard(dataset, first, count)[0], stored[first : first + count]
        )


def test_a_second_of_pcm_costs_its_own_bytes(tmp_path: Path) -> None:
    dataset = data_set(tmp_path / "set", "pcm", 1, 24_000)
    packet = int(dataset.sample(0).audio.packets.size[0])  # type: ignore[union-attr]
    assert packet <= 8192
    for first in (0, 13_579, 48_000):
        _, taken = heard(dataset, first, 24_000)
        assert 48_000 <= taken <= 48_000 + 2 * packet


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"audio": "mp3"}, "audio is 'mp3'; allowed: flac or pcm or opus or aac"),
        ({"audio": "opus"}, "sample_rate_hz is 24000; allowed: 48000 for opus"),
        (
            {"sample_rate_hz": 44100},
            "sample_rate_hz is 44100; allowed: 16000 or 24000 or 48000 for flac",
        ),
        ({"channels": 6}, r"channels is 6; allowed: 1 \(mono\) or 2 \(stereo\)"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(choice: Any, message: str) -> None:
    with pytest.raises(BuildError, match=f"^Build option {message}"):
        BuildOptions(**choice)


class Afar:
    """A data set that passes for one behind a URL, and notes what is asked for and read."""

    is_remote = True

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.asked: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def reader(self, sample: Any, ranges: list[tuple[int, int]]) -> Any:
        self.asked = ranges

        def read(offset: int, size: int) -> bytes:
            assert any(a <= offset and offset + size <= a + n for a, n in ranges)
            return self._dataset.read(sample, offset, size)

        return read


@pytest.mark.parametrize(("name", "rate"), [(n, r) for n, c, r in EACH if c == 1])
def test_from_afar_what_is_asked_for_is_what_is_read(name: str, rate: int, tmp_path: Path) -> None:
    dataset = data_set(tmp_path / "set", name, 1, rate)
    afar: Any = Afar(dataset)
    reader = SegmentReader(afar, SegmentOptions(decoder="av"), video=False)
    for start in (0.0, 0.17066, 0.5, 1.30307, 1.9999, 2.0):
        reader.segments(0, [start])
        ((_, size),) = afar.asked
        if (name, rate) == ("pcm", 24_000):
            assert 48_000 <= size <= 48_000 + 2 * 8192
