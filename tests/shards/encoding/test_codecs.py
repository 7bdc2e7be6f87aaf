"""Every codec of a build keeps the layout: closed groups of pictures, a frame for every packet."""

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from shards import BuildError, BuildOptions
from shards.encoding.video import VideoEncoder
from shards.media.color import coded_color
from shards.media.demux import demux_tracks
from shards.options import CODECS, COPY, PROFILES

DECODERS = {"av1": "libdav1d"}


def _planes(number: int) -> Any:
    x, y = np.meshgrid(np.arange(64), np.arange(72))
    return (126 + 60 * np.sin((x + 2 * number) / 9) * np.cos(y / 7)).astype(np.uint8)


@pytest.mark.parametrize("profile", sorted({*PROFILES} - {COPY}))
@pytest.mark.parametrize("codec", CODECS)
def test_a_clip_starts_anywhere_and_looks_like_its_source(codec: str, profile: str) -> None:
    options = BuildOptions(codec=codec, profile=profile, size=(64, 48), fps=20, gop_seconds=0.5)
    files = []
    for _ in range(2):
        encoder = VideoEncoder(options)
        for number in range(35):
            encoder.push(av.VideoFrame.from_ndarray(_planes(number), "yuv420p"))
        files.append(encoder.finish())
    assert files[0] == files[1]
    (table,) = demux_tracks(files[0], "mp4")
    assert table.header.codec == DECODERS.get(codec, codec)
    color = coded_color(codec)
    assert (table.header.color_matrix, table.header.color_range) == (color.matrix, color.range)
    keyframes = range(35) if codec == "mjpeg" else [0, 10, 20, 30]
    assert np.flatnonzero(table.flags & 1).tolist() == list(keyframes)
    assert np.all(np.diff(table.pts) > 0)  # no B-frames
    container: Any
    with av.open(io.BytesIO(files[0])) as container:
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert len(frames) == len(table.pts) == 35
    error = np.mean([(f.astype(float) - _planes(k)) ** 2 for k, f in enumerate(frames)])
    assert 10 * np.log10(255**2 / error) > 32


@pytest.mark.parametrize("fps", [Fraction(100_000, 837), 29.87123])
def test_mpeg4_takes_any_rate_as_its_times_can_say_it(fps: Fraction | float) -> None:
    options = BuildOptions(codec="mpeg4", size=(64, 48), fps=fps)
    assert options.frame_rate.numerator <= 65_535
    assert float(options.frame_rate) == pytest.approx(float(fps), rel=1e-6)
    encoder = VideoEncoder(options)
    for number in range(35):
        encoder.push(av.VideoFrame.from_ndarray(_planes(number), "yuv420p"))
    (table,) = demux_tracks(encoder.finish(), "mp4")
    seconds = [float(pts * table.header.time_base) for pts in table.pts.tolist()]
    assert seconds == pytest.approx([k / float(fps) for k in range(35)], abs=1e-4)
    for codec, profile in (("h264", "fast"), ("mpeg4", COPY)):
        assert BuildOptions(
            codec=codec, profile=profile, fps=Fraction(100_000, 837)
        ).frame_rate == (Fraction(100_000, 837))


def test_a_codec_that_is_not_one_says_which_are() -> None:
    allowed = "h264 or hevc or vp9 or av1 or mpeg4 or mjpeg"
    with pytest.raises(BuildError, match=f"option codec is 'xvid'; allowed: {allowed}"):
        BuildOptions(codec="xvid")
    with pytest.raises(BuildError, match="option profile is 'tiny'; allowed: fast or compact"):
        BuildOptions(profile="tiny")
