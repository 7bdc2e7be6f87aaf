"""Open a source as media: by its first bytes, within limits, and without touching any other file.

A file is media because of what it begins with. The demuxer is named from those bytes, so a playlist
or a concat script is never parsed; the container reads from one already opened Python file, and any
request of FFmpeg's to open a second one is refused.
"""

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import av

from shards.errors import SourceError
from shards.media.boxes import looks_like_boxes
from shards.media.joined import second_recording
from shards.media.limits import MAX_PIXELS, MAX_STREAMS
from shards.storage.seekable import Window

SNIFF_BYTES = 1024

_STREAMS_AFTER_HEADER = ("flv", "mpeg", "mpegts")  # their streams are found packet by packet
_MAGIC = (
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
    (b"FLV\x01", "flv"),
    (b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (b"\x06\x0e+4\x02\x05\x01\x01", "mxf"),
    (b"nut/multimedia container\0", "nut"),
    (b"DKIF\0\0", "ivf"),
    (b"\x1f\x07\x00", "dv"),
)
ACCEPTED = "MP4, MOV, Matroska, WebM, MPEG-TS, MPEG-PS, AVI, FLV, Ogg, WMV, MXF, DV, NUT, IVF"
#: Streams of one codec, without a container: they have no times of their own.
_RAW = (
    (b"\x00\x00\x00\x01\x67", "H.264"),
    (b"\x00\x00\x00\x01\x27", "H.264"),
    (b"\x00\x00\x00\x01\x09", "H.264"),
    (b"\x00\x00\x00\x01\x40\x01", "H.265"),
    (b"\x00\x00\x00\x01\x46\x01", "H.265"),
    (b"\x00\x00\x01\xb3", "MPEG-2"),
    (b"\x00\x00\x01\xb0", "MPEG-4"),
    (b"YUV4MPEG2", "YUV4MPEG2"),
)
_TS_PACKETS = (188, 192, 204)  # bytes, without and with a time before, or a check after
_TS_MARKS = 4  # of packets in a row, where the first is cut


def sniff(head: bytes) -> str:
    """Name FFmpeg's demuxer for a file that begins with `head` (1,024 bytes are enough).

    Raises:
        SourceError: the bytes are no known media; the cause says what they look like.
    """
    if not head:
        raise SourceError("open", "an empty file", "0 bytes")
    if looks_like_boxes(head):
        return "mov"
    for magic, demuxer in _MAGIC:
        if head.startswith(magic):
            return demuxer
    if head[:4] == b"RIFF":
        kinds = {b"AVI ": "avi", b"WAVE": "wav"}
        if head[8:12] in kinds:
            return kinds[head[8:12]]
    if _is_transport_stream(head):
        return "mpegts"
    raise SourceError("open", *_not_media(head))


def _is_transport_stream(head: bytes) -> bool:
    """Whether there is a mark at the beginning of every packet; the first may be cut in front."""
    for step in _TS_PACKETS:
        for first in range(step):
            marks = head[first::step]
            whole = first == (4 if step == 192 else 0)
            if len(marks) >= (3 if whole else _TS_MARKS) and marks.count(0x47) == len(marks):
                return True
    return False


def _not_media(head: bytes) -> tuple[str, str]:
    for begin, codec in _RAW:
        if head.startswith(begin):
            way_on = "put it into a container: ffmpeg -i IN -c copy OUT.mkv"
            return "not media: a raw stream, which has no times", f"{codec}; {way_on}"
    shown = f"begins with {head[:16]!r}; accepted: {ACCEPTED}"
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
    if demuxer in ("mxf", "ivf"):  # which take the packets of a second one for the first's
        stop = second_recording(cast(BinaryIO, nameless), demuxer)
        nameless.check()
        if stop is not None:
            nameless = _Nameless(cast(BinaryIO, Window(file, 0, stop)))
    nameless.seek(0)
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
    # a header is read by decoding a little: no frame over the limit may be decoded even there
    options = {"protocol_whitelist": "file", "format_whitelist": demuxer}
    if demuxer == "mpegts":  # recordings that are joined may number their streams otherwise
        options["merge_pmt_versions"] = "1"
    limits: list[Any] = []
    if demuxer not in _STREAMS_AFTER_HEADER:
        limits = [{"max_pixels": str(MAX_PIXELS), "threads": "1"}] * MAX_STREAMS
    return av.open(
        file,
        mode="r",
        format=demuxer,
        container_options=options,
        stream_options=limits,
        buffer_size=1 << 16,
        io_open=_refuse,
    )


def describe(error: BaseException) -> str:
    """One short line for an FFmpeg error."""
    text = str(error).split(": '")[0]
    return f"{type(error).__name__}: {text}"[:200]
