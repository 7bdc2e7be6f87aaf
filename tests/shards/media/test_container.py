import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from shards import SourceError
from shards.media.container import sniff
from shards.media.limits import MAX_PIXELS
from shards.media.probe import probe
from shards.media.streams import demux
from shards.storage.opening import Location
from tests.shards.media.test_source_reader import video_packets

HEADS = {
    b"\x00\x00\x00\x20ftypisom": "mov",
    b"\x00\x00\x00\x08wide\x00\x00\x00\x00mdat": "mov",
    b"\x1aE\xdf\xa3\x01\x00": "matroska",
    b"RIFF\x00\x00\x00\x00AVI LIST": "avi",
    b"RIFF\x00\x00\x00\x00WAVEfmt ": "wav",
    b"OggS\x00\x02": "ogg",
    b"fLaC\x00\x00": "flac",
    b"FLV\x01\x05": "flv",
    b"\x00\x00\x01\xba!\x00": "mpeg",
    (b"\x47" + bytes(187)) * 6: "mpegts",
    (bytes(4) + b"\x47" + bytes(187)) * 6: "mpegts",
}


def located(path: Path) -> Location:
    return Location(str(path))


@pytest.mark.parametrize(("head", "demuxer"), HEADS.items(), ids=[repr(h[:12]) for h in HEADS])
def test_the_first_bytes_name_the_demuxer(head: bytes, demuxer: str) -> None:
    assert sniff(head) == demuxer
    assert demuxer in {name for f in av.formats_available for name in f.split(",")}


@pytest.mark.parametrize(
    ("head", "cause"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "a web page or XML"),
        (b"\xef\xbb\xbf  <?xml version='1.0'?>", "a web page or XML"),
        (b"#EXTM3U\nhttp://example.org/a.ts", "a playlist, which is never followed"),
        (b"ffconcat version 1.0\nfile /etc/passwd", "a playlist, which is never followed"),
        (b"Dear diary, today", "a text file"),
        ("é".encode() * 511 + b"\xc3", "a text file"),
        (bytes(range(256)) * 4, "unknown first bytes"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "unknown first bytes"),
    ],
)
def test_what_is_no_media_is_named(head: bytes, cause: str) -> None:
    with pytest.raises(SourceError, match=cause):
        sniff(head)


@pytest.mark.parametrize("text", ["#EXTM3U\n{0}\n", "ffconcat version 1.0\nfile '{0}'\n"])
def test_a_playlist_never_opens_another_file(
    film: Callable[..., Path], tmp_path: Path, text: str
) -> None:
    target = film("target.mp4", seconds=1)
    playlist = tmp_path / "list.mp4"
    playlist.write_text(text.format(target))
    with pytest.raises(SourceError, match="a playlist"):
        probe(located(playlist))


def test_a_quicktime_file_that_points_to_another_file_does_not_open_it(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    """A data reference with an alias: FFmpeg follows these only when told to, and we refuse."""
    path = film("inside.mp4", seconds=1)
    data = path.read_bytes()
    # dref entry "url " with flags 1 (in this file) becomes one with a path and flags 0
    at = data.index(b"url \x00\x00\x00\x01")
    path.write_bytes(data[: at + 4] + struct.pack(">I", 0) + data[at + 8 :])
    assert probe(located(path)).has_audio  # the reference has no path in it; nothing else is opened


def test_probe_says_what_the_header_says(film: Callable[..., Path]) -> None:
    found = probe(located(film("a.mp4", seconds=2, size=(320, 180))))
    assert (found.width, found.height, found.has_audio) == (320, 180, True)
    assert (float(found.origin), float(found.duration_seconds)) == (0, 2)


def test_a_length_that_is_not_declared_is_found(film: Callable[..., Path]) -> None:
    path = film("a.mkv", seconds=2, container="matroska", audio_codec=None)
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88")  # Duration, 8 bytes: turned into a Void element
    path.write_bytes(data[:at] + b"\xec\x89" + data[at + 2 : at + 2] + bytes(9) + data[at + 11 :])
    assert probe(located(path)).duration_seconds == 2


def test_a_length_beyond_all_videos_is_refused(film: Callable[..., Path]) -> None:
    path = film("a.mkv", seconds=1, container="matroska", audio_codec=None)
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a float of milliseconds
    for hours, refused in ((167, False), (200, True)):
        path.write_bytes(data[:at] + struct.pack(">d", hours * 3.6e6) + data[at + 8 :])
        if refused:
            with pytest.raises(SourceError, match=r"declares more than 168 hours \(200 h\)"):
                probe(located(path))
        else:
            assert probe(located(path)).duration_seconds == hours * 3600


def test_audio_alone_has_no_video(film: Callable[..., Path]) -> None:
    path = film("a.mp4", seconds=1, video_codec=None)
    with pytest.raises(SourceError, match="no video stream"):
        probe(located(path))


def test_a_codec_that_nobody_knows_is_named(film: Callable[..., Path]) -> None:
    path = film("a.mp4", seconds=1)
    path.write_bytes(path.read_bytes().replace(b"avc1\x00", b"aqc1\x00"))
    with pytest.raises(SourceError, match="the video has an unknown codec"):
        probe(located(path))


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_pixel_bomb_is_refused_before_a_frame_is_decoded(
    film: Callable[..., Path], tmp_path: Path, codec: str
) -> None:
    width, height = 8192, 8192
    assert width * height > MAX_PIXELS
    path = tmp_path / "bomb.mp4"
    options = {"preset": "ultrafast"} if codec == "libx264" else {}
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=1, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        frame = av.VideoFrame(width, height, stream.pix_fmt)
        for plane in frame.planes:  # what memory held before would make a packet of 100 MB
            plane.update(bytes(plane.buffer_size))
        frame.pts = 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    # in a process of its own, whose peak is not that of writing the file
    found = subprocess.run(
        [sys.executable, "-c", _PEAK_OF_A_PROBE, film("a.mp4", seconds=1), path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert found[0].startswith("probe: the frame is too large")
    grown_kib = int(found[1])
    assert grown_kib < 32 * 1024  # one picture of that size has 96 MiB


_PEAK_OF_A_PROBE = """
import pathlib, sys
from shards import SourceError
from shards.media.probe import probe
from shards.storage.opening import Location
from tests.shards.media.test_source_reader import video_packets

def peak_kib():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

probe(Location(sys.argv[1]))
before = peak_kib()
try:
    probe(Location(sys.argv[2]))
except SourceError as error:
    print(error)
print(peak_kib() - before)
"""


def test_a_stream_that_shows_up_late_does_not_end_the_others(film: Callable[..., Path]) -> None:
    packet = SimpleNamespace(stream_index=0, dts=None)

    def packets(*_: Any) -> Iterator[Any]:
        yield from (packet, packet)
        raise IndexError("list index out of range")  # as PyAV does, looking for the new one

    container = SimpleNamespace(demux=packets, format=SimpleNamespace(name="mov", flags=0))
    assert list(demux(container, SimpleNamespace(index=0))) == [packet, packet]
    # a transport stream of pictures alone, which goes on with pictures and sound
    path = film("a.ts", seconds=2, container="mpegts", audio_codec=None)
    with_sound = film("b.ts", seconds=2, container="mpegts", audio_codec="mp2")
    path.write_bytes(path.read_bytes() + with_sound.read_bytes())
    assert not probe(located(path)).has_audio


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi", "flv"])
def test_random_bytes_behind_a_good_magic_are_one_clear_error(
    film: Callable[..., Path], container: str
) -> None:
    path = film("a.bin", seconds=1, container=container, audio_codec=None)
    noise = bytes((i * 197 + (i >> 8) * 31) % 256 for i in range(20_000))
    path.write_bytes(path.read_bytes()[:400] + noise)
    with pytest.raises(
        SourceError, match=r"not media|cannot be read|no video stream|can be decoded|size"
    ):
        probe(located(path))


@pytest.mark.parametrize(("packet", "cut"), [(188, 1), (188, 100), (192, 50), (204, 0), (204, 77)])
def test_a_transport_stream_may_be_cut_anywhere_and_have_longer_packets(
    film: Callable[..., Path], packet: int, cut: int
) -> None:
    path = film("a.ts", seconds=3, container="mpegts")
    data = path.read_bytes()
    whole = probe(located(path)).duration_seconds
    before, after = (4, 0) if packet == 192 else (0, packet - 188)
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    long = b"".join(bytes(before) + body + bytes(after) for body in packets)
    path.write_bytes(long[cut:])
    found = probe(located(path))
    assert found.has_audio
    assert found.duration_seconds == pytest.approx(float(whole), abs=0.6)


@pytest.mark.parametrize(
    ("name", "codec", "size"),
    [
        ("a.nut", "mpeg4", (320, 180)),
        ("a.ivf", "libvpx", (320, 180)),
        ("a.dv", "dvvideo", (720, 576)),
    ],
)
def test_rarer_containers_are_read(tmp_path: Path, name: str, codec: str, size: Any) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as out:
        packets = video_packets(out, codec, range(50), size)
        if name.endswith("dv"):
            audio: Any = out.add_stream("pcm_s16le", rate=48000, layout="stereo")
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 192000), np.int16), "s16", "stereo")
            silence.sample_rate, silence.pts, silence.time_base = 48000, 0, Fraction(1, 48000)
            packets += audio.encode(silence)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    assert probe(located(path)).duration_seconds == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", ["h264", "hevc", "mpeg2video"])
def test_a_raw_stream_is_named_with_what_to_do(tmp_path: Path, name: str) -> None:
    codec = {"h264": "libx264", "hevc": "libx265"}.get(name, name)
    path = tmp_path / "a.raw"
    with av.open(str(path), "w", format=name) as out:
        for packet in video_packets(out, codec, range(5), (320, 180)):
            out.mux(packet)
    with pytest.raises(SourceError, match=r"a raw stream.*put it into a container: ffmpeg"):
        probe(located(path))
