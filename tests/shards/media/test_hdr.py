"""HDR and wide colours against the formulas of the standards, in floats, one pixel at a time."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from shards import BuildOptions
from shards.building.build import build
from shards.encoding.stream_copy import cut_points
from shards.encoding.transcode import IN_HDR, transcode
from shards.errors import SourceError
from shards.media import hdr
from shards.options import BuildOptions as Options
from tests.films import decode_video
from tests.shards.encoding.test_transcode import units

PQ, HLG, SDR = 16, 18, 1
BT2020, P3, BT709 = 9, 12, 1
KR, KB = 0.2627, 0.0593  # BT.2020
OPTIONS = BuildOptions(clip_seconds=1.0, fps=25.0, crf=4, size=(64, 64), require=())


def pq_signal(nits: float) -> float:
    power = (nits / 10000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def pq_light(signal: float) -> float:
    power = signal ** (1 / 78.84375)
    light = max(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return float(10000 * light ** (1 / 0.1593017578125))


def hlg_scene(signal: float) -> float:
    if signal <= 0.5:
        return signal * signal / 3
    return (math.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12


def oracle(signal: Sequence[float], transfer: int, primaries: int) -> list[float]:
    """BT.709 R'G'B' of a pixel's signal: BT.2100, BT.2446-1 method C, BT.2407's matrix, BT.1886."""
    if transfer == PQ:
        light = [pq_light(v) for v in signal]
    elif transfer == HLG:
        scene = [hlg_scene(v) for v in signal]
        luminance = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
        light = [1000 * v * luminance**0.2 for v in scene]
    else:
        light = [100 * v**2.4 for v in signal]
    if transfer != SDR:
        y = 0.2627 * light[0] + 0.6780 * light[1] + 0.0593 * light[2]
        knee = 58.535 / 0.83802
        if y < knee:
            mapped = 0.83802 * y
        else:
            mapped = 58.535 * (1 - 0.74204) * math.log(y / knee - 0.74204) + 58.535
            mapped -= 58.535 * (1 - 0.74204) * math.log(1 - 0.74204)
        light = [v * mapped / max(y, 1e-9) for v in light]
    matrices: dict[int, list[tuple[float, float, float]]] = {
        BT2020: [
            (1.6605, -0.5876, -0.0728),
            (-0.1246, 1.1329, -0.0083),
            (-0.0182, -0.1006, 1.1187),
        ],
        P3: [(1.2249, -0.2247, 0), (-0.0420, 1.0419, 0), (-0.0197, -0.0786, 1.0979)],
        BT709: [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
    }
    linear = [
        sum(a * v for a, v in zip(row, light, strict=True)) / 100 for row in matrices[primaries]
    ]
    return [min(1, max(0, v)) ** (1 / 2.4) for v in linear]


def frame_of(pixels: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    """A gbrp16le frame of R'G'B' [3, H, W]."""
    frame = av.VideoFrame(pixels.shape[2], pixels.shape[1], "gbrp16le")
    for plane, part in zip((2, 0, 1), pixels, strict=True):
        rows = np.frombuffer(memoryview(frame.planes[plane]), "<u2")
        rows = rows.reshape(-1, frame.planes[plane].line_size // 2)
        rows[:, : pixels.shape[2]] = np.rint(part * 65535)
    return frame


@pytest.mark.parametrize(
    ("transfer", "primaries"), [(PQ, BT2020), (HLG, BT2020), (SDR, BT2020), (SDR, P3), (HLG, 2)]
)
def test_every_pixel_is_what_the_formulas_say(transfer: int, primaries: int) -> None:
    top = 0.8 if transfer == PQ else 1.0
    pixels = np.random.default_rng(5).uniform(0, top, (3, 9, 14))
    pixels[:, 0] = np.linspace(0, 1, 14)  # greys
    made = hdr.to_bt709(frame_of(pixels), transfer, primaries)
    planes = [np.frombuffer(memoryview(made.planes[n]), "<u2") for n in (2, 0, 1)]
    found = np.stack([p.reshape(9, -1)[:, :14] for p in planes]) / 65535
    for y in range(9):
        for x in range(14):
            wanted = oracle(
                pixels[:, y, x].tolist(), transfer, primaries if primaries != 2 else BT2020
            )
            assert found[:, y, x] == pytest.approx(wanted, abs=4e-3)


def test_the_curve_puts_reference_white_near_white_and_grows() -> None:
    light = np.geomspace(0.001, 100, 500).astype(np.float32)
    mapped = hdr.tone_curve(light)
    assert (np.diff(mapped) > 0).all()
    assert float(hdr.tone_curve(np.array([2.03], np.float32))[0]) == pytest.approx(0.907, abs=1e-3)
    assert float(hdr.tone_curve(np.array([3.32], np.float32))[0]) == pytest.approx(1.0, abs=5e-3)


def make_film(path: Path, signal: Sequence[float], transfer: int, primaries: int) -> Path:
    """A second of one colour, given as R'G'B', in 10-bit BT.2020 Y'CbCr."""
    red, green, blue = signal
    luma = KR * red + (1 - KR - KB) * green + KB * blue
    codes = (
        64 + 876 * luma,
        512 + 896 * (blue - luma) / (2 * (1 - KB)),
        512 + 896 * (red - luma) / (2 * (1 - KR)),
    )
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p10le"
        codec = video.codec_context
        codec.color_trc, codec.color_primaries, codec.colorspace = transfer, primaries, 9
        codec.color_range = 1
        codec.qmin = codec.qmax = 4
        planes = [np.full((64, 64), codes[0]), np.full((16, 64), codes[1]), None]
        planes[2] = np.full((16, 64), codes[2])
        packed = np.concatenate([np.rint(p).astype(np.uint16) for p in planes if p is not None])
        for n in range(25):
            frame = av.VideoFrame.from_ndarray(packed, "yuv420p10le")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            frame.color_trc, frame.color_primaries, frame.colorspace = transfer, primaries, 9
            frame.color_range = 1
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def seen(data: bytes) -> Any:
    """The R'G'B' of a clip's middle, from its limited-range BT.709."""
    frame = decode_video(data)[10]
    y, u, v = (
        float(np.frombuffer(memoryview(p), np.uint8).reshape(p.height, -1)[p.height // 2, 8])
        for p in frame.planes
    )
    luma, cb, cr = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    red, blue = luma + 1.5748 * cr, luma + 1.8556 * cb
    return [red, (luma - 0.2126 * red - 0.0722 * blue) / 0.7152, blue]


@pytest.mark.parametrize(
    ("signal", "transfer", "primaries"),
    [
        ((0.75, 0.75, 0.75), HLG, BT2020),  # HDR reference white
        ((pq_signal(203),) * 3, PQ, BT2020),
        ((pq_signal(20), pq_signal(60), pq_signal(30)), PQ, BT2020),
        ((0.6, 0.4, 0.45), HLG, BT2020),
        ((1.0, 1.0, 1.0), SDR, BT2020),
        ((0.6, 0.5, 0.4), SDR, BT2020),
    ],
)
def test_films_come_out_in_the_colours_of_bt709(
    tmp_path: Path, signal: Sequence[float], transfer: int, primaries: int
) -> None:
    path = make_film(tmp_path / "a.mp4", signal, transfer, primaries)
    (unit,) = units(path, OPTIONS)
    result = transcode(unit, OPTIONS)
    assert seen(result.samples[0].members["mp4"]) == pytest.approx(
        oracle(signal, transfer, primaries), abs=0.015
    )
    assert result.tone_mapped == 1
    assert b'"tone_mapped": true' in result.samples[0].members["json"]
    skipping = Options(clip_seconds=1.0, fps=25.0, size=(64, 64), require=(), hdr="skip")
    assert transcode(unit, skipping).skipped == ({IN_HDR: 1} if transfer != SDR else {})


def test_white_in_hlg_is_nearly_white(tmp_path: Path) -> None:
    path = make_film(tmp_path / "a.mp4", (0.75, 0.75, 0.75), HLG, BT2020)
    (unit,) = units(path, OPTIONS)
    assert min(seen(transcode(unit, OPTIONS).samples[0].members["mp4"])) > 0.94


def test_the_summary_counts_them_and_a_copy_refuses_them(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    path = make_film(tmp_path / "films/a.mp4", (0.5, 0.5, 0.5), PQ, BT2020)
    summary = build([path.parent], tmp_path / "out", OPTIONS)
    assert (summary.clips, summary.tone_mapped_clips) == (1, 1)
    copying = Options(profile="copy", size="source", fps=25.0, codec="hevc", require=())
    with path.open("rb") as file, pytest.raises(SourceError, match=r"another pixel format|HDR"):
        cut_points(file, copying.for_source(Fraction(25), (64, 64)))
