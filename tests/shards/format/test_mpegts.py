import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from shards import Dataset, Manifest, ShardError
from shards.format.mpegts import Transport, elementary_stream
from shards.format.writer import ShardWriter
from shards.media.demux import demux_tracks


def transport_packet(pid: int, body: bytes, *, begins: bool = False, filler: int = 0) -> bytes:
    """One packet by hand: header, an adaptation field that fills up, and the body."""
    room = 184 - len(body)
    header = bytes([0x47, (0x40 if begins else 0) | pid >> 8, pid & 0xFF])
    if not room:
        return header + b"\x10" + body
    field = b"" if room == 1 else b"\x00" + bytes([filler]) * (room - 2)
    return header + b"\x30" + bytes([room - 1]) + field + body


def pes(body: bytes, header_bytes: int = 5) -> bytes:
    return b"\x00\x00\x01\xe0\x00\x00\x80\x80" + bytes([header_bytes]) + bytes(header_bytes) + body


@pytest.mark.parametrize("stride", [188, 192])
def test_one_stream_is_taken_out_of_the_packets_that_carry_it(stride: int) -> None:
    pieces = [bytes([n]) * size for n, size in enumerate((100, 184, 30, 183, 1, 150))]
    packets = [
        transport_packet(256, pes(pieces[0]), begins=True),
        transport_packet(257, b"\xff" * 184),
        transport_packet(256, pieces[1]),
        transport_packet(256, pieces[2], filler=0x47),
        transport_packet(256, pes(pieces[5], 0), begins=True),
        transport_packet(17, b"\xee" * 50),
        transport_packet(256, pieces[3]),
        transport_packet(256, pieces[4]),
    ]
    file = b"".join(bytes(stride - 188) + p for p in packets)
    transport = Transport.of(file, 256)
    assert transport == Transport(256, stride)
    stream = elementary_stream(file + b"\x47\x41", transport)
    assert stream.data == b"".join(pieces[i] for i in (0, 1, 2, 5, 3, 4))
    for place in (0, 99, 100, 283, 284, 313, 314, 463, 464, 646, 647):
        offset = stream.offset_of(place)
        assert file[offset] == stream.data[place]
        assert stream.place_of(offset) == place


def test_bytes_that_carry_nothing_give_nothing() -> None:
    for junk in (b"", b"\x47" * 100, bytes(376), transport_packet(5, b"x" * 184)):
        stream = elementary_stream(junk, Transport(256, 188))
        assert stream.data == b""
        assert stream.place_of(40) == 0


@pytest.mark.parametrize(("pid", "stride"), [(-1, 188), (8192, 188), (256, 204)])
def test_what_no_file_has_is_refused(pid: int, stride: int) -> None:
    with pytest.raises(ValueError, match=r"pid .* below 8192 and stride 188 or 192"):
        Transport(pid, stride)


def video(
    container: str, codec: str = "libx264", audio_codec: str = "aac", **options: str
) -> bytes:
    file = io.BytesIO()
    rng = np.random.default_rng(1)
    with av.open(file, "w", format=container, options=options) as out:
        stream: Any = out.add_stream(codec, rate=25, options={"bf": "2", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        audio: Any = out.add_stream(audio_codec, rate=44_100, layout="stereo")
        for n in range(30):
            frame: Any = av.VideoFrame.from_ndarray(
                rng.integers(0, 256, (96, 96), dtype=np.uint8), "yuv420p"
            )
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        samples = audio.codec_context.frame_size or 1024
        for n in range(50):
            sound: Any = av.AudioFrame.from_ndarray(
                rng.normal(0, 0.1, (2, samples)).astype(np.float32), "fltp", "stereo"
            )
            sound.pts, sound.sample_rate = samples * n, 44_100
            sound.time_base = Fraction(1, 44_100)
            out.mux(audio.encode(sound))
        out.mux(audio.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("m2ts", ["0", "1"])
def test_every_packet_of_a_real_file_is_found_again(m2ts: str, tmp_path: Path) -> None:
    from pipelines.decoding.backends.packets import read_packets

    data = video("mpegts", mpegts_m2ts_mode=m2ts)
    container: Any = av.open(io.BytesIO(data))
    with container:
        expected: dict[str, list[bytes]] = {"video": [], "audio": []}
        for packet in container.demux():
            if packet.size:
                expected[packet.stream.type].append(bytes(packet))
    with ShardWriter(tmp_path / "a.tar") as writer:
        writer.add("first", {"txt": b"moves the second one"}, [])
        writer.add("second", {"ts": data}, demux_tracks(data, "ts"))
        entry = writer.finish()
    Manifest((entry,)).write(tmp_path)
    dataset = Dataset.open(tmp_path)
    sample = dataset.sample(1)
    for track in (sample.video, sample.audio):
        assert track is not None
        assert track.transport is not None
        assert track.transport.stride == (192 if m2ts == "1" else 188)
        bodies = expected[track.kind]
        ranges = [(0, len(bodies)), (7, 8), (3, 21), (len(bodies) - 1, len(bodies))]
        for first, stop in ranges:
            got = read_packets(lambda o, n: dataset.read(sample, o, n), track, first, stop)
            assert [bytes(b) for b in got] == bodies[first:stop]


def test_a_member_that_cannot_be_indexed_says_what_to_do() -> None:
    data = video("mpeg", "mpeg2video", "ac3")
    with pytest.raises(ShardError, match=r"Member mpg: packet .* re-encode it with `gdt shards"):
        demux_tracks(data, "mpg")
