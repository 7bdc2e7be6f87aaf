"""Bring HDR (PQ and HLG) and wide colours to BT.709: Report ITU-R BT.2446-1, conversion method C.

    signal ─► display light (BT.2100: PQ; HLG at 1000 cd/m² with its OOTF) ─► luminance through
    method C's curve, which puts HDR reference white (203 cd/m²) at 91 % of SDR white ─► primaries
    of BT.709, what lies outside clipped ─► signal (BT.1886)

The method's crosstalk is left at 0, and its chroma correction out: both are optional there. Light
above SDR white, from 332 cd/m² on, is clipped to it. Colours that are wide but not HDR (BT.2020,
P3) change primaries alone.
"""

from functools import cache
from typing import Any

import av
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_PQ, _HLG = 16, 18  # transfers, as numbered by ITU-T H.273
HDR = {_PQ: "PQ", _HLG: "HLG"}
_SDR_GAMMA = 2.4  # BT.1886
_OTHER_GAMMAS = {4: 2.2, 5: 2.8, 13: 2.2}  # sRGB's curve is near 2.2

_D65 = (0.3127, 0.3290)
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)
#: Primaries as numbered by H.273 → xy of red, green, blue and white.
_WIDE = {
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
_LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)


def is_hdr(frame: Any) -> bool:
    """Whether a decoded frame's transfer is PQ or HLG."""
    return frame.color_trc in HDR


def needs_mapping(frame: Any) -> bool:
    """Whether a decoded frame's colours are HDR, or of wider primaries than BT.709."""
    return is_hdr(frame) or frame.color_primaries in _WIDE


def to_bt709(frame: Any, transfer: int, primaries: int) -> Any:
    """A frame of gbrp16le, full range, in BT.709 with the transfer of BT.1886, of another such.

    Args:
        frame: its samples are the R'G'B' signal of the source.
        transfer: the source's, as numbered by H.273.
        primaries: the same.
    """
    planes = [_plane(frame, n) for n in (2, 0, 1)]  # FFmpeg's order is G, B, R
    signal = np.stack(planes)
    light: Floats = _light_of(transfer)[signal]  # [3, H, W] in units of SDR white
    if transfer == _HLG:
        scene = np.tensordot(_LUMINANCE_2020, light, 1)
        light *= (10 * scene**0.2).astype(np.float32)  # BT.2100's OOTF: gamma 1.2 at 1000 cd/m²
    if transfer in HDR:
        luminance = np.tensordot(_LUMINANCE_2020, light, 1)
        light *= tone_curve(luminance) / np.maximum(luminance, np.float32(1e-6))
    wide = primaries if primaries in _WIDE else 9 if transfer in HDR else 1
    if wide in _WIDE:
        light = np.tensordot(_primaries_matrix(wide), light, 1).astype(np.float32)
    gamma = _SDR_GAMMA if transfer in HDR else _OTHER_GAMMAS.get(transfer, _SDR_GAMMA)
    made = np.clip(light, 0, 1) ** np.float32(1 / gamma)
    out = av.VideoFrame(frame.width, frame.height, "gbrp16le")
    samples = np.rint(made * 65535).astype("<u2")
    for number, part in zip((2, 0, 1), samples, strict=True):
        _rows(out.planes[number])[:, : frame.width] = part
    return out


def tone_curve(luminance: Floats) -> Floats:
    """Method C's curve: HDR display luminance to SDR's, both in units of 100 cd/m²."""
    k1, k3, knee = 0.83802, 0.74204, 0.58535
    begin = knee / k1  # of the logarithm, which goes on with the line's value and slope
    k2 = knee * (1 - k3)
    k4 = knee - k2 * np.log(1 - k3)
    bent = np.log(np.maximum(luminance / begin, 1) - k3) * k2 + k4
    return np.where(luminance < begin, luminance * k1, bent).astype(np.float32)


@cache
def _light_of(transfer: int) -> Floats:
    """Light of each 16-bit signal: of display in units of 100 cd/m², or (HLG) of scene, to 1."""
    signal = np.arange(65536) / 65535
    if transfer == _PQ:  # SMPTE ST 2084
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = signal ** (1 / m2)
        light = 100 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    elif transfer == _HLG:  # ARIB STD-B67
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:
        light = signal ** _OTHER_GAMMAS.get(transfer, _SDR_GAMMA)
    return light.astype(np.float32)


@cache
def _primaries_matrix(number: int) -> Floats:
    """Linear RGB of wide primaries to that of BT.709, white to white."""
    matrix = np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(_WIDE[number])
    return np.asarray(matrix / matrix.sum(1, keepdims=True), np.float32)


def _to_xyz(points: tuple[tuple[float, float], ...]) -> npt.NDArray[np.float64]:
    red, green, blue, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in points)
    columns = np.stack([red, green, blue], axis=1)
    return np.asarray(columns * np.linalg.solve(columns, white), np.float64)


def _plane(frame: Any, number: int) -> npt.NDArray[np.uint16]:
    return _rows(frame.planes[number])[:, : frame.width]


def _rows(plane: Any) -> npt.NDArray[np.uint16]:
    return np.frombuffer(memoryview(plane), "<u2").reshape(-1, plane.line_size // 2)
