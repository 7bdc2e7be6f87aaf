"""QuickTime's own orders of channels: heard as those of FFmpeg's order, and never a crash."""

import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from shards import BuildOptions
from shards.encoding.transcode import transcode
from tests.films import decode_audio, picture
from tests.shards.encoding.test_transcode import units

NATIVE = ("FL", "FR", "FC", "LFE", "SL", "SR")
#: kAudioChannelLayoutTag_MPEG_5_1_A to D: their number, and the order of their channels
ORDERS = {
    121: ("FL", "FR", "FC", "LFE", "SL", "SR"),
    122: ("FL", "FR", "SL", "SR", "FC", "LFE"),
    123: ("FL", "FC", "FR", "SL", "SR", "LFE"),
    124: ("FC", "FL", "FR", "SL", "SR", "LFE"),
}


def make_source(path: Path, tag: int, loud: str, codec: str) -> Path:
    """Two seconds of pictures, and of a tone in one of six channels that lie in a tag's order."""
    with av.open(str(path), "w", format="mov") as out:
        video: Any = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        audio: Any = out.add_stream(codec, rate=24000, layout="5.1(side)")
        for n in range(50):
            frame = av.VideoFrame.from_ndarray(picture(n, 320, 180), "yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        wave = np.zeros((48000, 6), np.int16)
        tone = 9000 * np.sin(2 * np.pi * 440 * np.arange(48000) / 24000)
        wave[:, ORDERS[tag].index(loud)] = tone.astype(np.int16)
        sound = av.AudioFrame.from_ndarray(wave.reshape(1, -1), "s16", "5.1(side)")
        sound.sample_rate, sound.pts, sound.time_base = 24000, 0, Fraction(1, 24000)
        for part in (sound, None):
            out.mux(audio.encode(part))
    data = path.read_bytes()
    place = data.index(b"chan", data.index(b"moov")) + 8
    path.write_bytes(data[:place] + struct.pack(">I", tag << 16 | 6) + data[place + 4 :])
    return path


def level(path: Path) -> float:
    options = BuildOptions(clip_seconds=2.0, fps=25.0)
    (unit,) = units(path, options)
    (clip,) = transcode(unit, options).samples
    return float(np.sqrt(np.mean(decode_audio(clip.members["flac"]) ** 2)))


@pytest.mark.parametrize("tag", [122, 123, 124])
@pytest.mark.parametrize("loud", ["FC", "SR", "LFE"])
def test_a_channel_is_as_loud_as_in_the_native_order(tmp_path: Path, tag: int, loud: str) -> None:
    native = level(make_source(tmp_path / "native.mov", 121, loud, "pcm_s16le"))
    assert level(make_source(tmp_path / "own.mov", tag, loud, "pcm_s16le")) == native
    assert (native > 0.01) == (loud != "LFE")  # FFmpeg leaves the bass out of a mean


@pytest.mark.parametrize("tag", [123, 124])
def test_such_layouts_end_no_process(tmp_path: Path, tag: int) -> None:
    """In a process of its own, whose memory they would damage."""
    path = make_source(tmp_path / "own.mov", tag, "FC", "pcm_s16le")
    script = """
import sys
from shards.media.demux import demux_tracks
data = open(sys.argv[1], "rb").read()
tracks = [demux_tracks(data, "mov") for _ in range(20)]
print(tracks[0][1].header.num_channels)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "6"
