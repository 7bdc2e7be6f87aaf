"""Decode with PyAV, the default: packets go to one reused codec context, planes are copied once.

No container is opened. A thread keeps one context for each codec header it has met; seeking is a
flush. Decoding releases the GIL, so threads decode beside each other; a context has one thread.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any, Final

import av
import numpy as np
from av.codec.context import Flags2
from numpy.typing import NDArray

from pipelines.decoding.backends.backend import AudioRequest, FrameRequest, MediaError, Read
from pipelines.decoding.backends.packets import read_packets, runs_of
from pipelines.decoding.backends.still import StillDecoder
from shards import Track
from shards.media.limits import MAX_PIXELS
from shards.media.padded_packet import padded_packet

__all__ = ["PREROLL_SECONDS", "PacketDecoder"]

_MAX_CONTEXTS = 16  # a thread: clips of one data set share one or two headers
#: Audio decoders that a flush makes as new. Others (AAC, AC-3) fill in noise from a generator that
#: runs on, so that what they give would depend on what was decoded before.
_FLUSHED_AS_NEW: Final = ("alac", "flac", "mp3", "mp3float", "opus", "pcm_", "vorbis")
_PLANAR_420: Final = ("yuv420p", "yuvj420p")  # the same bytes; the range is in the index

#: Codec → seconds to decode ahead of the first wanted sample, for what overlaps between packets.
PREROLL_SECONDS: Final = {
    "aac": 0.1,
    "ac3": 0.1,
    "eac3": 0.1,
    "mp2": 0.1,
    "mp2float": 0.1,
    "mp3": 0.3,
    "mp3float": 0.3,
    "opus": 0.08,
    "vorbis": 0.2,
}
#: Sample format → (dtype, what brings full scale to 1, the value of silence). The factors are
#: powers of two, so they are exact.
_SAMPLE_FORMATS: Final = {
    "u8": (np.uint8, 2.0**-7, 2.0**7),
    "s16": (np.int16, 2.0**-15, 0.0),
    "s32": (np.int32, 2.0**-31, 0.0),
    "flt": (np.float32, 1.0, 0.0),
    "dbl": (np.float64, 1.0, 0.0),
}
#: Channels → layout, for codecs whose header does not say (PCM).
_LAYOUTS: Final = {1: "mono", 2: "stereo", 6: "5.1"}
#: Names in an index → FFmpeg's.
_MATRICES: Final = {"bt709": "ITU709", "bt601": "ITU601"}
_RANGES: Final = {"limited": "MPEG", "full": "JPEG"}
_CLOCK_ERROR_SECONDS = 0.001  # container clocks round; a greater jump is a hole


class PacketDecoder:
    """The default decoder, which feeds packets to PyAV; see `Backend`.

    Args:
        colors: matrix and range that frames are brought to; by default they stay as they are coded.
    """

    device = "cpu"

    def __init__(self, colors: tuple[str, str] | None = None) -> None:
        self._colors = colors
        self.fallbacks: Counter[str] = Counter()
        self._of_thread = threading.local()
        self._stills = StillDecoder()

    def __reduce__(self) -> Any:
        return (PacketDecoder, (self._colors,))

    def frames(self, request: FrameRequest, out: NDArray[np.uint8]) -> None:
        """See `Backend.frames`."""
        track, height, width = request.track, request.height, request.width
        if track.is_still:
            self._stills.image(request, out[0])
            out[1:] = out[0]
            return
        ticks = track.packets.pts[request.wanted].tolist()
        row_of = dict(zip(reversed(ticks), range(len(ticks) - 1, -1, -1), strict=True))
        repeats = [(row, row_of[tick]) for row, tick in enumerate(ticks) if row_of[tick] != row]
        conversion = _conversion(track, self._colors)
        luma, chroma = height * width, (height // 2, width // 2)
        to_y = out[:, :luma].reshape(-1, height, width)
        to_u = out[:, luma : luma * 5 // 4].reshape(-1, *chroma)
        to_v = out[:, luma * 5 // 4 :].reshape(-1, *chroma)
        with _Decoding(self._contexts(), track) as context:
            for run in runs_of(track.packets, request.wanted):
                left = len(run.wanted)
                for frame in _decode(context, request.read, track, run.first, run.stop):
                    row = row_of.pop(frame.pts, None)
                    if row is None:
                        continue
                    if frame.is_corrupt:
                        raise MediaError("decode", f"the frame at tick {frame.pts} is damaged")
                    if (
                        frame.width != width
                        or frame.height != height
                        or frame.format.name not in _PLANAR_420
                        or conversion
                    ):
                        frame = frame.reformat(width, height, "yuv420p", threads=1, **conversion)
                    y, u, v = frame.planes
                    to_y[row] = np.ndarray((height, width), np.uint8, y, 0, (y.line_size, 1))
                    to_u[row] = np.ndarray(chroma, np.uint8, u, 0, (u.line_size, 1))
                    to_v[row] = np.ndarray(chroma, np.uint8, v, 0, (v.line_size, 1))
                    left -= 1
                    if not left:
                        break
                else:
                    raise MediaError(
                        "decode",
                        f"{left} of {len(run.wanted)} frames did not come out of packets "
                        f"{run.first} to {run.stop - 1}",
                    )
        for row, first in repeats:
            out[row] = out[first]

    def samples(self, request: AudioRequest, out: NDArray[np.float32]) -> None:
        """See `Backend.samples`."""
        track, first = request.track, request.first
        rate, packets = track.sample_rate_hz, track.packets
        tick = track.time_base
        rate_per_tick = rate * tick.numerator / tick.denominator
        zero = round(track.start_seconds * tick.denominator / tick.numerator)
        stop = first + len(out)
        preroll = round(PREROLL_SECONDS.get(track.codec, 0.0) * rate)
        ticks = np.array([first - preroll, stop]) / rate_per_tick + zero
        begin, end = np.searchsorted(packets.pts, ticks, side="right").tolist()
        begin = max(0, begin - 1)
        filled, cursor, scale = first, None, 1.0
        with _Decoding(self._contexts(), track) as context:
            for frame in _decode(context, request.read, track, begin, end):
                if frame.pts is None:
                    raise MediaError("decode", f"{track.codec}: a frame of audio has no time")
                start = round((frame.pts - zero) * rate_per_tick)
                if cursor is None or abs(start - cursor) > _CLOCK_ERROR_SECONDS * rate:
                    cursor = start
                a, b = max(filled, cursor), min(stop, cursor + frame.samples)
                if a == filled and a < b:
                    scale = _mix(frame, a - cursor, b - cursor, out[a - first : b - first])
                    filled = b
                cursor += frame.samples
        if filled < stop:
            raise MediaError(
                "cover",
                f"samples {first} to {stop - 1} were asked for, and after {filled - 1} there is "
                f"no more audio (track of {track.stop_seconds - track.start_seconds:.3f} s)",
            )
        out *= scale

    def _contexts(self) -> "OrderedDict[tuple[Any, ...], Any]":
        found: OrderedDict[tuple[Any, ...], Any] | None
        found = getattr(self._of_thread, "contexts", None)
        if found is None:
            found = self._of_thread.contexts = OrderedDict()
        return found


def _conversion(track: Track, colors: tuple[str, str] | None) -> dict[str, Any]:
    """What `VideoFrame.reformat` is told where a track has other colours than are wanted."""
    own = (track.color_matrix or "bt709", track.color_range or "limited")
    if colors in (None, own):
        return {}
    assert colors is not None
    try:
        return {
            "src_colorspace": _MATRICES[own[0]],
            "src_color_range": _RANGES[own[1]],
            "dst_colorspace": _MATRICES[colors[0]],
            "dst_color_range": _RANGES[colors[1]],
        }
    except KeyError as error:
        raise MediaError("index", f"colours {' '.join(own)} are not known") from error


class _Decoding:
    """A context of this thread for a track; forgotten when it is not to be used again."""

    def __init__(self, contexts: "OrderedDict[tuple[Any, ...], Any]", track: Track) -> None:
        self._contexts, self._track = contexts, track
        self._key = (track.codec, track.extradata, track.sample_rate_hz, track.num_channels)

    def __enter__(self) -> Any:
        context = self._contexts.get(self._key)
        if context is None:
            context = self._contexts[self._key] = _open_context(self._track)
            if len(self._contexts) > _MAX_CONTEXTS:
                self._contexts.popitem(last=False)
        else:
            self._contexts.move_to_end(self._key)
        return context

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        as_new = self._track.kind == "video" or self._track.codec.startswith(_FLUSHED_AS_NEW)
        if error is not None or not as_new:
            self._contexts.pop(self._key, None)
        if isinstance(error, av.FFmpegError):
            raise MediaError("decode", f"{self._track.codec}: {error}") from error


def _open_context(track: Track) -> Any:
    try:
        context: Any = av.CodecContext.create(track.codec, "r")
    except (av.codec.codec.UnknownCodecError, ValueError) as error:
        raise MediaError("decode", f"this PyAV has no decoder for {track.codec!r}") from error
    try:
        if track.extradata:
            context.extradata = track.extradata
        if track.kind == "audio":
            context.sample_rate = track.sample_rate_hz
            context.layout = _LAYOUTS.get(track.num_channels, f"{track.num_channels}c")
            # Priming is not for the decoder to drop: where it ends is in the index.
            context.flags2 |= Flags2.skip_manual
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.thread_type = "NONE"
        context.thread_count = 1
        context.open()
    except (av.FFmpegError, ValueError) as error:
        shape = "" if track.kind == "video" else f" of {track.num_channels} channels"
        raise MediaError(
            "open", f"{track.codec}{shape}: its codec header is refused ({error})"
        ) from error
    return context


def _decode(context: Any, read: Read, track: Track, first: int, stop: int) -> Iterator[Any]:
    """Frames of packets [first, stop) in presentation order, each stamped with its packet's pts."""
    context.flush_buffers()
    bodies: list[Any] = read_packets(read, track, first, stop)
    for body, pts in zip(bodies, track.packets.pts[first:stop].tolist(), strict=True):
        packet = padded_packet(body)
        packet.pts = pts
        yield from context.decode(packet)
    yield from context.decode(None)


def _mix(frame: Any, first: int, stop: int, out: NDArray[np.float32]) -> float:
    """Samples [first, stop) of a decoded frame, channels averaged, into `out` [stop - first].

    They keep the format's own steps; returned is what brings full scale to 1, the same for all
    frames of a decoder, so that all its samples can be scaled at once.
    """
    name = frame.format.name
    planar, name = name.endswith("p"), name.removesuffix("p")
    if name not in _SAMPLE_FORMATS:
        raise MediaError("decode", f"sample format {frame.format.name} is not supported")
    dtype, scale, silence = _SAMPLE_FORMATS[name]
    num_channels = frame.layout.nb_channels
    count = frame.samples * (1 if planar else num_channels)
    planes = [np.frombuffer(plane, dtype, count) for plane in frame.planes]
    channels = planes if planar else planes[0].reshape(-1, num_channels).T
    out[:] = channels[0][first:stop]
    if num_channels > 1:
        for channel in channels[1:]:
            out += channel[first:stop]
        out /= num_channels
    if silence:
        out -= silence
    return scale
