"""Fit any source's frames to one form: coded size, upright, square pixels, 8-bit 4:2:0, BT.709.

One FFmpeg filter chain per kind of frame: crop in the source's own pixels, one scale to the final
size (which also brings matrix and range to BT.709, limited; for MJPEG to what JFIF fixes), then
turn and pad, where the frame is small. HDR and wide colours are mapped at that size (hdr.py). So
a whole data set has one size and one colour, and a batch needs one conversion to RGB.
"""

import struct
from dataclasses import dataclass
from typing import Any, Protocol

import av
import av.filter
import numpy as np
import numpy.typing as npt

from shards.errors import SourceError
from shards.media.color import BT709, CodedColor, matrix_name
from shards.media.hdr import needs_mapping, to_bt709
from shards.media.orientation import UPRIGHT, Turn

_FILTER_MATRIX = {1: "bt709", 4: "fcc", 5: "smpte170m", 6: "smpte170m", 7: "smpte240m"}
_FILTER_MATRIX |= {9: "bt2020", 10: "bt2020"}
_RGB_MATRIX, _FULL = 0, 2


@dataclass(frozen=True)
class _Kind:
    """What decides the filter chain: frames of one kind share one."""

    width: int
    height: int
    format: str
    aspect: tuple[int, int]
    colorspace: int
    full_range: bool
    turn: Turn | int  # as it was asked for, or the frame's own rotation in degrees
    light: tuple[int, int] | None  # transfer and primaries, where they are not BT.709's


class CodedSize(Protocol):
    """What frames are fitted to: a size in pixels, and "crop" or "pad" where shapes differ."""

    @property
    def width(self) -> int:
        """In pixels."""

    @property
    def height(self) -> int:
        """In pixels."""

    @property
    def fit(self) -> str:
        """One of options.FITS."""


class FrameFitter:
    """Fit decoded frames to the coded size of `options`; keeps one filter chain per kind.

    filters: the chain of the last frame, in FFmpeg's syntax.
    """

    def __init__(
        self, options: CodedSize, sample_aspect_ratio: Any, color: CodedColor = BT709
    ) -> None:
        self._options, self._color = options, color
        aspect = sample_aspect_ratio
        usable = aspect is not None and 0.05 < aspect < 20
        self._aspect = (aspect.numerator, aspect.denominator) if usable else (1, 1)
        self._kind: _Kind | None = None
        self._chain: Any = None
        self._coding_chain: Any = None  # from what was mapped, where colours are
        self.filters = ""

    def fit(self, frame: Any, turn: Turn | None = None) -> Any:
        """A yuv420p frame of the coded size, made from a decoded frame of any kind.

        `turn` makes it upright; by default, what the frame itself says.
        """
        form = frame.format
        kind = _Kind(
            frame.width,
            frame.height,
            form.name,
            self._aspect,
            _RGB_MATRIX if form.is_rgb or form.has_palette else frame.colorspace,
            is_full_range(frame),
            turn or frame.rotation,
            (frame.color_trc, frame.color_primaries) if needs_mapping(frame) else None,
        )
        if kind != self._kind:
            # only here, because PyAV keeps a frame that was asked for side data until the next
            # garbage collection, which costs a tenth of a build in memory that is never reused
            self._make_chain(kind, turn or orientation(frame))
        try:
            self._chain.vpush(frame)
            fitted = self._chain.vpull()
            if kind.light is None:
                return fitted
            self._coding_chain.vpush(to_bt709(fitted, *kind.light))
            return self._coding_chain.vpull()
        except av.FFmpegError as error:
            raise SourceError("decode", "a frame cannot be scaled", f"{kind}: {error}") from error

    def _make_chain(self, kind: _Kind, orientation: Turn) -> None:
        size = (kind.width, kind.height)
        if kind.light is None:
            steps = _steps(kind, orientation, self._options, self._color)
        else:  # turned and sized as the R'G'B' that it is, then mapped, then coded as any RGB
            steps = _steps(kind, orientation, self._options, None)
            fitted = (self._options.width, self._options.height)
            rgb = _Kind(*fitted, "gbrp16le", (1, 1), _RGB_MATRIX, True, UPRIGHT, None)
            coding = _steps(rgb, UPRIGHT, self._options, self._color)
            self._coding_chain = filter_chain(fitted, rgb.format, coding)
        self._chain = filter_chain(size, kind.format, steps, kind.aspect)
        self._kind, self.filters = kind, ",".join(steps)


def luma_of(frame: Any) -> npt.NDArray[np.uint8]:
    """The luma [H, W] of a frame of 8-bit planar YUV, where it lies."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]


def is_full_range(frame: Any) -> bool:
    """Whether a decoded frame's luma goes from 0 to 255."""
    return bool(frame.color_range == _FULL or frame.format.name.startswith("yuvj"))


def orientation(frame: Any) -> Turn:
    """Signs (a, b, c, d) of the display matrix; (1, 0, 0, 1) is upright."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None or data.buffer_size < 36:
        return (1, 0, 0, 1)
    m = struct.unpack("<9i", bytes(data)[:36])
    a, b, c, d = m[0], m[1], m[3], m[4]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
    return (0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)


_TURN = {
    (1, 0, 0, 1): (),
    (-1, 0, 0, -1): ("hflip", "vflip"),
    (-1, 0, 0, 1): ("hflip",),
    (1, 0, 0, -1): ("vflip",),
    (0, 1, -1, 0): ("transpose=clock",),
    (0, -1, 1, 0): ("transpose=cclock",),
    (0, 1, 1, 0): ("transpose=cclock_flip",),
    (0, -1, -1, 0): ("transpose=clock_flip",),
}


def _steps(
    kind: _Kind, orientation: Turn, options: CodedSize, color: CodedColor | None
) -> list[str]:
    """The filters that bring a kind of frame to a colour; to 16-bit R'G'B' of its own without."""
    sideways = orientation[0] == 0
    out_w, out_h = options.width, options.height
    box = (out_h, out_w) if sideways else (out_w, out_h)  # the final size, in the coded orientation
    steps: list[str] = []
    if options.fit == "crop":
        crop_w, crop_h = _covering_crop(kind, box)
        if (crop_w, crop_h) != (kind.width, kind.height):
            steps.append(f"crop={crop_w}:{crop_h}")
        inner = box
    else:
        inner = _fitting_size(kind, box)
    # exact rounding costs 5 % of the scaling, and gives the same frames on every processor; full
    # chroma matters only where the matrix changes: colours are then right to 53 dB and not to 44
    scale = f"scale={inner[0]}:{inner[1]}"
    scale += ":flags=bicubic+accurate_rnd+bitexact+full_chroma_int+full_chroma_inp"
    coded = "gbrp16le"
    if color is not None:
        coded = "yuv420p"
        scale += f":out_color_matrix={_FILTER_MATRIX[color.matrix_number]}:out_range={color.range}"
    if kind.colorspace != _RGB_MATRIX:
        guess = {"bt709": "bt709", "bt601": "smpte170m"}[matrix_name(kind.colorspace, kind.height)]
        scale += f":in_color_matrix={_FILTER_MATRIX.get(kind.colorspace, guess)}"
        scale += f":in_range={'full' if kind.full_range else 'limited'}"
    steps += [scale, f"format={coded}", *_TURN[orientation]]
    if inner != box:
        steps.append(f"pad={out_w}:{out_h}:-1:-1")
    return steps


def filter_chain(
    size: tuple[int, int], pixel_format: str, steps: list[str], aspect: tuple[int, int] = (1, 1)
) -> Any:
    """A PyAV filter graph of these steps, one after the other, for frames of one kind."""
    graph = av.filter.Graph()
    graph.threads = 1
    source = (
        f"video_size={size[0]}x{size[1]}:pix_fmt={pixel_format}:time_base=1/1000"
        f":pixel_aspect={aspect[0]}/{aspect[1]}"
    )
    nodes = [graph.add("buffer", source)]
    for step in steps:
        name, _, arguments = step.partition("=")
        nodes.append(graph.add(name, arguments or None))
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes)
    graph.configure()
    return graph


def _covering_crop(kind: _Kind, box: tuple[int, int]) -> tuple[int, int]:
    """The largest centred part of the source that has the box's shape, in source pixels."""
    aspect = kind.aspect[0] / kind.aspect[1]
    wanted = box[0] / box[1] / aspect  # width over height, counted in source pixels
    if kind.width / kind.height > wanted:
        return _even(kind.height * wanted, kind.width), kind.height
    return kind.width, _even(kind.width / wanted, kind.height)


def _fitting_size(kind: _Kind, box: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the source's shape that fits in the box, in coded pixels."""
    aspect = kind.aspect[0] / kind.aspect[1]
    shape = kind.width * aspect / kind.height
    if shape > box[0] / box[1]:
        return box[0], _even(box[0] / shape, box[1])
    return _even(box[1] * shape, box[0]), box[1]


def _even(pixels: float, most: int) -> int:
    return min(most, max(2, 2 * round(pixels / 2)))
