"""Encode one clip's video as an mp4, laid out to be read a million times.

The mp4's header comes first (`faststart`), times count from zero at a constant rate, and nothing in
the file depends on the clock or the host. What is in the packets is video_codecs.py's.
"""

import io
from collections.abc import Mapping
from typing import Any

import av
from av.codec.context import Flags

from shards.encoding.video_codecs import encoder_of
from shards.media.color import coded_color
from shards.options import BuildOptions


class Memory(io.BytesIO):
    """A file in memory that outlives the muxer's close."""

    def close(self) -> None:
        """Keep what was written."""


def open_muxer(file: Memory, container: str, options: Mapping[str, str]) -> Any:
    """A container to write into `file`, in which nothing depends on the clock or the host."""
    # a muxer reads its own output once more, to move the header to the front
    return av.open(
        file,
        mode="w",
        format=container,
        options={"fflags": "+bitexact", **options},
        io_open=lambda _url, _flags, _options: io.BytesIO(file.getvalue()),
    )


def open_mp4(file: Memory, movflags: str = "") -> Any:
    """An mp4 to write into `file`: header first, no edit list."""
    return open_muxer(file, "mp4", {"movflags": f"+faststart{movflags}", "use_editlist": "0"})


class VideoEncoder:
    """Encodes the frames of one clip; `finish` gives the mp4's bytes."""

    def __init__(self, options: BuildOptions) -> None:
        self._file = Memory()
        self._container = open_mp4(self._file)
        encoder = encoder_of(options)
        stream: Any = self._container.add_stream(
            encoder.name, rate=options.frame_rate, options=encoder.settings(options)
        )
        stream.width, stream.height, stream.pix_fmt = options.width, options.height, "yuv420p"
        codec = stream.codec_context
        if encoder.tag:
            codec.codec_tag = encoder.tag
        codec.thread_count = 1
        codec.flags |= Flags.bitexact
        color = coded_color(options.codec)
        codec.colorspace = codec.color_primaries = codec.color_trc = color.matrix_number
        codec.color_range = color.range_number
        self._stream = stream
        self._time_base = 1 / options.frame_rate
        self.num_frames = 0

    def push(self, frame: Any) -> None:
        """Encode a yuv420p frame of the coded size as the clip's next frame."""
        frame.pts = self.num_frames
        frame.time_base = self._time_base
        frame.pict_type = 0  # the source's own keyframes mean nothing here
        self.num_frames += 1
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> bytes:
        """Close the clip and return the mp4."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.getvalue()
