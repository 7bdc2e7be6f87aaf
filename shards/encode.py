"""Write one clip's members: H.264 (or VP9) in mp4 and FLAC, laid out to be read a million times.

Closed GOPs of a fixed length, no B-frames, one thread: the decoder starts at any keyframe and
returns a frame for every packet, whatever the profile. The same pictures give the same bytes:
x264's macroblock tree is off, because its AVX-512 code does not (one clip in fifty differed from
run to run); at equal PSNR that costs 20 % more bytes of video. The mp4's header comes first
(`faststart`), times count from zero at a constant rate, and nothing in the file depends on the
clock or the host.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags

from shards.options import BuildOptions
from shards.picture import CODED_MATRIX_NUMBER, CODED_RANGE_NUMBER


class Memory(io.BytesIO):
    """A file in memory that outlives the muxer's close."""

    def close(self) -> None:
        """Keep what was written."""


def open_mp4(file: Memory, movflags: str = "") -> Any:
    """An mp4 to write into `file`: header first, no edit list, nothing of the clock or the host."""
    # the muxer reads its own output once more, to move the header to the front
    return av.open(
        file,
        mode="w",
        format="mp4",
        options={"movflags": f"+faststart{movflags}", "use_editlist": "0", "fflags": "+bitexact"},
        io_open=lambda _url, _flags, _options: io.BytesIO(file.getvalue()),
    )


def _h264(options: BuildOptions) -> dict[str, str]:
    gop = options.gop_frames
    return {
        "crf": str(options.crf),
        "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:bframes=0"
        ":mbtree=0:rc-lookahead=0:threads=1:lookahead-threads=1:sliced-threads=0",
    }


def _vp9(options: BuildOptions) -> dict[str, str]:
    return {
        "g": str(options.gop_frames),
        "keyint_min": str(options.gop_frames),
        "crf": str(options.crf),
        "b": "0",  # constant quality
        "deadline": "good",
        "lag-in-frames": "0",  # no frames that are decoded and not shown
        "auto-alt-ref": "0",
        "row-mt": "0",
        "tile-columns": "0",
    }


#: Profile → codec → how hard its encoder tries; the layout is the same for all.
PROFILES: Final[Mapping[str, Mapping[str, Mapping[str, str]]]] = {
    "fast": {"h264": {"preset": "veryfast", "tune": "fastdecode"}, "vp9": {"cpu-used": "5"}},
    "compact": {"h264": {"preset": "slow"}, "vp9": {"cpu-used": "2"}},
}

#: Codec → (encoder, its settings that all profiles share).
_ENCODERS: Final[Mapping[str, tuple[str, Callable[[BuildOptions], dict[str, str]]]]] = {
    "h264": ("libx264", _h264),
    "vp9": ("libvpx-vp9", _vp9),
}


def encoder_of(options: BuildOptions) -> tuple[str, dict[str, str]]:
    """FFmpeg's name of the encoder, and its settings."""
    encoder, settings = _ENCODERS[options.codec]
    return encoder, settings(options) | dict(PROFILES[options.profile][options.codec])


class VideoEncoder:
    """Encodes the frames of one clip; `finish` gives the mp4's bytes."""

    def __init__(self, options: BuildOptions) -> None:
        self._file = Memory()
        self._container = open_mp4(self._file)
        encoder, settings = encoder_of(options)
        stream: Any = self._container.add_stream(encoder, rate=options.frame_rate, options=settings)
        stream.width, stream.height, stream.pix_fmt = options.width, options.height, "yuv420p"
        codec = stream.codec_context
        codec.thread_count = 1
        codec.flags |= Flags.bitexact
        codec.colorspace = codec.color_primaries = codec.color_trc = CODED_MATRIX_NUMBER
        codec.color_range = CODED_RANGE_NUMBER
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


def encode_flac(samples: npt.NDArray[np.int16], sample_rate_hz: int) -> bytes:
    """FLAC bytes of mono 16-bit samples [S]."""
    file = Memory()
    with av.open(file, mode="w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream("flac", rate=sample_rate_hz, layout="mono", format="s16")
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= Flags.bitexact
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = sample_rate_hz
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
