"""What sources of all kinds are read as: which track, and what is on screen and heard where."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from shards import BuildError, BuildOptions, SourceError
from shards.encoding.transcode import AUDIO_TOO_LATE, transcode
from shards.media.demux import demux_tracks
from shards.media.probe import probe
from shards.options import TrackChoice
from shards.storage.opening import Location
from tests.films import CORNERS, decode_audio, decode_video, picture
from tests.shards.encoding.test_transcode import clips, numbers, units

OPTIONS = BuildOptions(clip_seconds=1.0, fps=25.0)
Disposition = av.stream.Disposition


def video_packets(out: Any, codec: str, pts: Sequence[int], size: tuple[int, int]) -> list[Any]:
    """A stream of numbered frames, at 25 ticks a second, added to `out`; its packets."""
    video: Any = out.add_stream(codec, rate=25)
    video.width, video.height, video.pix_fmt = *size, "yuv420p"
    packets = []
    for n, tick in enumerate(pts):
        frame = av.VideoFrame.from_ndarray(picture(n, *size), "yuv420p")
        frame.pts, frame.time_base = tick, Fraction(1, 25)
        packets += video.encode(frame)
    return [*packets, *video.encode(None)]


def audio_packets(out: Any, codec: str, wave: np.ndarray[Any, Any], **about: Any) -> list[Any]:
    """A mono stream of a wave [S] at 24 kHz, added to `out`; its packets."""
    audio: Any = out.add_stream(codec, rate=24000, layout="mono")
    if "disposition" in about:
        audio.disposition = about["disposition"]
    if "language" in about:
        audio.metadata["language"] = about["language"]
    resampler = av.AudioResampler(
        format=audio.codec_context.format.name,
        layout="mono",
        rate=24000,
        frame_size=audio.codec_context.frame_size or 1024,
    )
    frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = 24000, 0, Fraction(1, 24000)
    frames = [*resampler.resample(frame), *resampler.resample(None), None]
    return [packet for part in frames for packet in audio.encode(part)]


def tone(hertz: float, seconds: float) -> np.ndarray[Any, Any]:
    return 0.4 * np.sin(2 * np.pi * hertz * np.arange(round(24000 * seconds)) / 24000)


def many_tracks(path: Path) -> Path:
    """A commentary of 300 Hz first, a second track of 500 Hz, and the default of 700 Hz."""
    tracks = [
        (300, Disposition.comment, "eng"),
        (500, Disposition(0), "deu"),
        (700, Disposition.default, "fra"),
    ]
    with av.open(str(path), "w") as out:
        packets = video_packets(out, "libx264", range(50), (320, 180))
        for hertz, disposition, language in tracks:
            about = {"disposition": disposition, "language": language}
            packets += audio_packets(out, "aac", tone(hertz, 2.0), **about)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


def pitch(wave: np.ndarray[Any, Any]) -> float:
    spectrum = np.abs(np.fft.rfft(wave))
    return float(spectrum.argmax() * 24000 / len(wave))


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize(
    ("track", "hertz"), [(None, 700), ("1", 300), ("2", 500), ("deu", 500), ("ENG", 300)]
)
def test_the_default_track_is_taken_or_the_one_that_is_asked_for(
    tmp_path: Path, suffix: str, track: str | None, hertz: float
) -> None:
    path = many_tracks(tmp_path / f"a.{suffix}")
    options = BuildOptions(clip_seconds=2.0, fps=25.0, audio_track=track)
    (unit,) = units(path, options)
    (clip,) = transcode(unit, options).samples
    assert pitch(decode_audio(clip.members["flac"])) == pytest.approx(hertz, abs=2)


def test_an_index_takes_the_same_track_as_a_build(tmp_path: Path) -> None:
    path = many_tracks(tmp_path / "a.mkv")
    tracks = demux_tracks(path.read_bytes(), "mkv")
    with av.open(str(path)) as container:
        default = [bytes(p) for p in container.demux(container.streams.audio[2]) if p.size]
    assert tracks[1].size.tolist() == [len(body) for body in default]
    first = int(tracks[1].offset[0])
    assert path.read_bytes()[first : first + len(default[0])] == default[0]


def test_a_track_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    location = Location(str(many_tracks(tmp_path / "a.mkv")))
    for track in ("4", "jpn"):
        with pytest.raises(SourceError, match=rf"\({track}; there are 3: eng, deu, fra\)"):
            probe(location, tracks=TrackChoice(audio=track))
    with pytest.raises(SourceError, match="no video track that was asked for"):
        probe(location, tracks=TrackChoice(video="2"))
    with pytest.raises(BuildError, match="audio_track is '0'; allowed: a number from 1"):
        BuildOptions(audio_track="0")


def test_packets_that_say_that_nothing_changes_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.nut"
    with av.open(str(path), "w") as out:
        packets = video_packets(out, "mpeg4", [*range(30), *range(60, 70)], (320, 180))
        tick = packets[0].time_base
        for n in range(30, 60):
            nothing = av.Packet(0)
            nothing.stream, nothing.time_base = packets[0].stream, tick
            nothing.pts = nothing.dts = round(n / 25 / tick)
            packets.append(nothing)
        packets += audio_packets(out, "mp2", np.zeros(67200))
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    with av.open(str(path)) as container:
        sizes = [p.size for p in container.demux(video=0)]
    assert sizes.count(0) > 25
    result = clips(path, OPTIONS)
    assert (result.skipped, result.details) == ({}, ())
    shown = [n for clip in result.samples for n in numbers(clip.members)]
    assert shown[:50] == [*range(30), *([29] * 20)]


@pytest.mark.parametrize("late", [12, -12])
def test_audio_far_behind_or_before_its_video_is_found(tmp_path: Path, late: int) -> None:
    path = offset_film(tmp_path / "a.mkv", late, seconds=40)
    options = BuildOptions(clip_seconds=4.0, fps=25.0, seconds_per_unit=8.0)
    results = [transcode(unit, options) for unit in units(path, options)]
    samples = [sample for result in results for sample in result.samples]
    assert [result.skipped for result in results] == [{}] * 5
    assert len(samples) == 10
    for n, clip in enumerate(samples):
        wave = decode_audio(clip.members["flac"])
        assert pitch(wave[24000:72000]) == pytest.approx(300 + 20 * n, abs=4)
        assert np.sqrt(np.mean(wave[-4800:] ** 2)) > 0.1


def test_audio_beyond_the_bound_is_counted_as_that(tmp_path: Path) -> None:
    path = offset_film(tmp_path / "a.mkv", 70, seconds=100)
    options = BuildOptions(clip_seconds=4.0, fps=25.0, seconds_per_unit=20.0, require=())
    first = units(path, options)[0]
    result = transcode(first, options)  # audio up to 10 s lies in the first 80 s
    assert result.skipped == {AUDIO_TOO_LATE: 3}
    assert len(result.samples) == 2


def offset_film(path: Path, late: int, seconds: int) -> Path:
    """A tone that rises every 4 s; in the file it lies `late` seconds after its video."""
    wave = np.concatenate([tone(300 + 20 * n, 4.0) for n in range(seconds // 4)])
    options = {"max_interleave_delta": "1", "cluster_time_limit": "1000"}
    with av.open(str(path), "w", options=options) as out:
        packets = video_packets(out, "libx264", range(25 * seconds), (64, 36))
        audio = audio_packets(out, "aac", wave)
        order = [(float(p.dts * p.time_base), p) for p in packets]
        order += [(float(p.dts * p.time_base) + late, p) for p in audio]
        for _, packet in sorted(order, key=lambda pair: pair[0]):
            out.mux(packet)
    return path


def test_the_shape_of_pixels_may_change_within_a_film(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    """As on television: the same pixels, 4:3 and then 16:9."""
    settings: dict[str, Any] = {"container": "mpegts", "size": (320, 240)}
    settings["video_codec"] = "mpeg2video"
    settings |= {"video_options": {}, "audio_codec": "mp2"}
    narrow = film("a.ts", seconds=2, sample_aspect_ratio=Fraction(1), **settings)
    wide = film("b.ts", seconds=2, sample_aspect_ratio=Fraction(4, 3), **settings)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(narrow.read_bytes() + wide.read_bytes())
    options = BuildOptions(clip_seconds=0.5, fps=25.0, size=(128, 64), fit="pad")
    for seconds_per_unit in (60.0, 0.5):  # also where only the second part is read
        own = BuildOptions(**{**vars_of(options), "seconds_per_unit": seconds_per_unit})
        samples = [s for unit in units(joined, own) for s in transcode(unit, own).samples]
        assert width_seen(samples[1].members) == pytest.approx(64 * 4 / 3, abs=3)
        assert width_seen(samples[-2].members) == pytest.approx(64 * 16 / 9, abs=3)


def vars_of(options: BuildOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__dataclass_fields__}


def width_seen(members: dict[str, bytes]) -> int:
    """How many columns are not black."""
    frame = decode_video(members["mp4"])[5]
    luma = frame.to_ndarray()[: frame.height]
    return int((luma[2:10].mean(0) > CORNERS["bottom right"] / 2).sum())
