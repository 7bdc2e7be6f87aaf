"""Open a source as media: by its first bytes, within limits, and without touching any other file.

A file is media because of what it begins with. The demuxer is named from those bytes, so a playlist
or a concat script is never parsed; the container reads from one already opened Python file, and any
request of FFmpeg's to open a second one is refused.
"""

import codecs
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av

from shards.errors import SourceError
from shards.media.limits import MAX_HOURS, MAX_PIXELS, MAX_RATE, MAX_SIDE, MAX_STREAMS, MIN_RATE
from shards.storage.opening import Location, open_source
from shards.storage.transfer import RemoteOptions

SNIFF_BYTES = 1024

_STREAMS_AFTER_HEADER = ("flv", "mpeg", "mpegts")  # their streams are found packet by packet
_QUICKTIME_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
_MAGIC = (
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
    (b"FLV\x01", "flv"),
    (b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (b"\x06\x0e+4\x02\x05\x01\x01", "mxf"),
)


def sniff(head: bytes) -> str:
    """Name FFmpeg's demuxer for a file that begins with `head` (1,024 bytes are enough).

    Raises:
        SourceError: the bytes are no known media; the cause says what they look like.
    """
    if not head:
        raise SourceError("open", "an empty file", "0 bytes")
    if head[4:8] in _QUICKTIME_BOXES:
        return "mov"
    for magic, demuxer in _MAGIC:
        if head.startswith(magic):
            return demuxer
    if head[:4] == b"RIFF":
        kinds = {b"AVI ": "avi", b"WAVE": "wav"}
        if head[8:12] in kinds:
            return kinds[head[8:12]]
    for first, step in ((0, 188), (4, 192)):
        marks = head[first::step]
        if len(marks) >= 3 and marks[: len(marks)].count(0x47) == len(marks):
            return "mpegts"
    raise SourceError("open", *_not_media(head))


def _not_media(head: bytes) -> tuple[str, str]:
    shown = f"begins with {head[:16]!r}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<")):
        return "not media: a web page or XML", shown
    if text.startswith((b"#EXTM3U", b"ffconcat", b"[playlist]")):
        return "not media: a playlist, which is never followed", shown
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # may end within a character
    except UnicodeDecodeError:
        return "not media: unknown first bytes", shown
    if b"\x00" in head:
        return "not media: unknown first bytes", shown
    return "not media: a text file", shown


class _Nameless:
    """A binary file as FFmpeg may see it: readable, seekable, and without a path.

    FFmpeg may take a disk or server that fails for the end of the file, so `failure` keeps it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.failure: SourceError | None = None
        self.seek, self.tell = file.seek, file.tell
        self._file = file

    def read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except SourceError as error:
            self.failure = error
        except OSError as error:
            self.failure = SourceError("read", "cannot be read", error.strerror or str(error))
        return b""

    def check(self) -> None:
        """Raise what went wrong with reading, if anything did."""
        if self.failure is not None:
            raise self.failure


def _refuse(url: str, _flags: int, _options: dict[str, str]) -> Any:
    raise SourceError("open", "the file asks for another file", repr(url)[:120])


@contextmanager
def open_container(file: BinaryIO) -> Iterator[Any]:
    """Open media from a binary file; yields the PyAV input container.

    Raises:
        SourceError: no media, a header that FFmpeg cannot read, or a file that could not be read
            to its end (raised when the container closes).
    """
    nameless = _Nameless(file)
    file.seek(0)
    head = nameless.read(SNIFF_BYTES)
    nameless.check()
    demuxer = sniff(head)
    file.seek(0)
    try:
        container = _open(nameless, demuxer)
    except (av.FFmpegError, ValueError, OSError) as error:
        nameless.check()
        raise SourceError("open", "the header cannot be read", describe(error)) from error
    try:
        yield container
    finally:
        container.close()
        nameless.check()


def _open(file: _Nameless, demuxer: str) -> Any:
    # a header is read by decoding a little: no picture over the limit may be decoded even there
    limits: list[Any] = []
    if demuxer not in _STREAMS_AFTER_HEADER:
        limits = [{"max_pixels": str(MAX_PIXELS), "threads": "1"}] * MAX_STREAMS
    return av.open(
        file,
        mode="r",
        format=demuxer,
        container_options={"protocol_whitelist": "file", "format_whitelist": demuxer},
        stream_options=limits,
        buffer_size=1 << 16,
        io_open=_refuse,
    )


def describe(error: BaseException) -> str:
    """One short line for an FFmpeg error."""
    text = str(error).split(": '")[0]
    return f"{type(error).__name__}: {text}"[:200]


@dataclass(frozen=True)
class Probe:
    """What a source's header says, after its first picture was decoded.

    origin: presentation time of the first picture, in seconds of the container's clock; all
    times of the source count from it. duration_seconds: declared (or found by reading all packets,
    where nothing is declared), from the first picture on. frame_rate: declared, or on average; from
    1 to 240. size, version: the source's identity.
    """

    width: int
    height: int
    origin: Fraction
    duration_seconds: Fraction
    frame_rate: Fraction
    has_audio: bool
    size: int
    version: str


def probe(location: Location, remote: RemoteOptions | None = None) -> Probe:
    """Read a source's header and its first picture.

    Raises:
        SourceError: the source cannot become clips, and why.
    """
    with open_source(location, remote) as source:
        identity = source.identity()
        with open_container(source.file) as container:
            video = video_stream(container)
            first = first_frame(container, video)
            origin = first.pts * first.time_base
            return Probe(
                width=first.width,
                height=first.height,
                origin=origin,
                duration_seconds=_duration(container, video, origin),
                frame_rate=_frame_rate(video),
                has_audio=audio_stream(container) is not None,
                size=identity.size,
                version=identity.version,
            )


def demux(container: Any, *streams: Any) -> Iterator[Any]:
    """The packets of some streams in file order, then an empty one for each.

    Streams may show up after the header (in MPEG-TS, FLV or a damaged file). PyAV looks for them
    in a list that it made before, and may fail for that when it has handed out all others.
    """
    with suppress(IndexError):
        yield from container.demux(*streams)


def video_stream(container: Any) -> Any:
    """The best video stream (no cover pictures), its limits set; raises `SourceError` if none."""
    streams = [s for s in container.streams.video if not is_cover(s)]
    if not streams:
        raise SourceError("probe", "no video stream")
    streams = [s for s in streams if s.codec_context is not None]
    if not streams:
        raise SourceError("probe", "the pictures have a codec that is not known")
    stream = max(
        streams, key=lambda s: (s.codec_context.width or 0) * (s.codec_context.height or 0)
    )
    codec = stream.codec_context
    width, height = codec.width, codec.height
    if not width or not height:  # FFmpeg forgets a size that it was told to refuse
        detail = f"limit {MAX_PIXELS} pixels"
        raise SourceError("probe", "the picture is too large, or has no size", detail)
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise SourceError("probe", "the picture is too large", f"{width}×{height} pixels")
    codec.thread_count = 1
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def is_cover(stream: Any) -> bool:
    """Whether a video stream is one still picture that comes with the file, as mp3s have."""
    return bool(stream.disposition & stream.disposition.__class__.attached_pic)


def audio_stream(container: Any) -> Any | None:
    """The first audio stream with samples and a known decoder, or None."""
    for stream in container.streams.audio:
        if stream.codec_context is not None and stream.codec_context.sample_rate:
            stream.codec_context.thread_count = 1
            return stream
    return None


def first_frame(container: Any, stream: Any) -> Any:
    """Decode up to the first picture with a time; the container is left where that took it."""
    try:
        for packet in demux(container, stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                if frame.pts is not None:
                    return frame
    except av.FFmpegError as error:
        raise SourceError("probe", "no picture can be decoded", describe(error)) from error
    raise SourceError("probe", "no picture can be decoded")


def _duration(container: Any, stream: Any, origin: Fraction) -> Fraction:
    """Seconds from the first picture to the declared end, or to the last packet if none is."""
    if stream.duration:
        start = stream.start_time or 0
        end = Fraction((start + stream.duration) * stream.time_base)
    elif container.duration:
        end = Fraction((container.start_time or 0) + container.duration, 1_000_000)
    else:
        end = _last_packet_end(container, stream)
    if end - origin > MAX_HOURS * 3600:
        declared = f"{float(end - origin) / 3600:.0f} h"
        raise SourceError("probe", f"declares more than {MAX_HOURS} hours", declared)
    return max(Fraction(0), end - origin)


def _frame_rate(stream: Any) -> Fraction:
    """Frames a second, on average; a container that rounds it means n or n · 1000/1001."""
    found = [r for r in (stream.average_rate, stream.guessed_rate, stream.base_rate) if r]
    likely = [r for r in found if MIN_RATE <= r <= MAX_RATE] or found or [25]
    rate = min(max(Fraction(likely[0]), Fraction(MIN_RATE)), Fraction(MAX_RATE))
    whole = Fraction(round(rate))
    for standard in (whole, whole * 1000 / 1001):
        if abs(rate / standard - 1) < Fraction(1, 10_000):
            return standard
    return rate.limit_denominator(1001)


def _last_packet_end(container: Any, stream: Any) -> Fraction:
    """Where the last packet ends; reads on to the end of the file."""
    ticks = 0
    with suppress(av.FFmpegError):  # a broken file ends where it breaks
        for packet in demux(container, stream):
            if packet.pts is not None:
                ticks = max(ticks, packet.pts + (packet.duration or 0))
    return Fraction(ticks * stream.time_base)
