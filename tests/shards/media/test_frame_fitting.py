"""Colours and sizes of single frames, against the definitions of the matrices."""

from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
import pytest

from shards import BuildOptions
from shards.media.color import matrix_name
from shards.media.frame_fitting import FrameFitter

LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
NUMBER = {"bt601": 5, "bt709": 1, "bt2020": 9, "unsaid": 2}
PATCHES = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (180, 180, 60), (128, 128, 128)]

Floats = npt.NDArray[np.float64]


def patches(width: int = 320, height: int = 180) -> npt.NDArray[np.uint8]:
    rgb = np.zeros((height, width, 3), np.uint8)
    for i, color in enumerate(PATCHES):
        rgb[:, i * width // 5 : (i + 1) * width // 5] = color
    return rgb


def to_yuv(rgb: npt.NDArray[np.uint8], matrix: str, full: bool) -> Floats:
    """ITU-T H.273: planes [3, H, W] for 8 bits."""
    kr, kb = LUMA[matrix]
    r, g, b = np.moveaxis(rgb / 255.0, -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / 2 / (1 - kb), (r - y) / 2 / (1 - kr)
    if full:
        return np.stack([y * 255, u * 255 + 128, v * 255 + 128])
    return np.stack([y * 219 + 16, u * 224 + 128, v * 224 + 128])


def frame_of(planes: Floats, form: str) -> av.VideoFrame:
    if form.startswith("yuv444"):
        return av.VideoFrame.from_ndarray(planes.round().astype(np.uint8), form)
    scale, kind = (4, np.uint16) if form.endswith("10le") else (1, np.uint8)
    y, u, v = (planes * scale).round().astype(kind)
    flat = np.concatenate([y.ravel(), u[::2, ::2].ravel(), v[::2, ::2].ravel()])
    return av.VideoFrame.from_ndarray(flat.reshape(-1, y.shape[1]), form)


def seen(frame: av.VideoFrame) -> Floats:
    """The patches' colours [5, 3], read out of a coded frame as BT.709, limited range."""
    array = frame.to_ndarray().astype(float)
    h, w = frame.height, frame.width
    y = array[:h]
    u, v = array[h : h + h // 4].reshape(h // 2, -1), array[h + h // 4 :].reshape(h // 2, -1)
    kr, kb = LUMA["bt709"]
    found = []
    for i in range(5):
        x = w * (2 * i + 1) // 10
        luma = (y[h // 2, x] - 16) / 219
        cb, cr = (u[h // 4, x // 2] - 128) / 224, (v[h // 4, x // 2] - 128) / 224
        r, b = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
        found.append([r, (luma - kr * r - kb * b) / (1 - kr - kb), b])
    return np.array(found) * 255


@pytest.mark.parametrize("form", ["yuv444p", "yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020", "unsaid"])
def test_every_matrix_and_range_gives_the_same_colours(matrix: str, full: bool, form: str) -> None:
    meant = "bt601" if matrix == "unsaid" else matrix  # 180 lines: standard definition
    frame = frame_of(to_yuv(patches(), meant, full), form)
    frame.colorspace, frame.color_range = NUMBER[matrix], 2 if full else 1
    fitted = FrameFitter(BuildOptions(), None).fit(frame)
    assert (fitted.width, fitted.height, fitted.format.name) == (224, 128, "yuv420p")
    assert seen(fitted) == pytest.approx(np.array(PATCHES), abs=3)


@pytest.mark.parametrize("form", ["rgb24", "bgr0", "gbrp", "rgba"])
def test_rgb_gives_the_same_colours(form: str) -> None:
    frame = av.VideoFrame.from_ndarray(patches(), "rgb24").reformat(format=form)
    assert seen(FrameFitter(BuildOptions(), None).fit(frame)) == pytest.approx(
        np.array(PATCHES), abs=3
    )


def test_unsaid_matrices_are_guessed_by_height() -> None:
    assert [matrix_name(2, h) for h in (480, 576, 720, 1080)] == ["bt601", "bt601"] + ["bt709"] * 2
    assert [matrix_name(n, 480) for n in (1, 5, 6)] == ["bt709", "bt601", "bt601"]


def test_a_change_of_size_within_a_source_is_followed() -> None:
    fitter = FrameFitter(BuildOptions(), None)
    for size in ((320, 180), (640, 480), (64, 64), (16, 16), (1280, 720), (320, 180)):
        fitted = fitter.fit(frame_of(to_yuv(patches(*size), "bt601", False), "yuv420p"))
        assert (fitted.width, fitted.height) == (224, 128)


@pytest.mark.parametrize("aspect", [Fraction(0, 1), Fraction(1, 1), Fraction(1, 1000), None])
def test_senseless_pixel_shapes_are_taken_as_square(aspect: Fraction | None) -> None:
    frame = frame_of(to_yuv(patches(), "bt601", False), "yuv420p")
    plain = FrameFitter(BuildOptions(), None).fit(frame).to_ndarray()
    assert (FrameFitter(BuildOptions(), aspect).fit(frame).to_ndarray() == plain).all()


@pytest.mark.parametrize(("matrix", "gray"), [(1, 235), (5, 235), (5, 100), (6, 16)])
def test_gray_stays_the_same_gray_from_any_matrix(matrix: int, gray: int) -> None:
    planes = np.full((135, 160), gray, np.uint8)
    planes[90:] = 128
    frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
    frame.colorspace, frame.color_range = matrix, 1
    fitted = FrameFitter(BuildOptions(size=(96, 64)), None).fit(frame).to_ndarray()
    assert np.unique(fitted[:64]).tolist() == [gray]
    assert np.unique(fitted[64:]).tolist() == [128]
