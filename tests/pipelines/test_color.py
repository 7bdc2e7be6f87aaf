"""Colours against swscale and against torchvision's jitter."""

from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as vision

from pipelines.color import (
    JITTERS,
    compose,
    i420_planes,
    i420_to_rgb,
    jitterable,
    lab_from_rgb,
    rgb_from_lab,
    rgb_from_yuv,
)

HEIGHT, WIDTH = 64, 96
COLORSPACES = {"bt601": 5, "bt709": 1}  # numbers of ITU-T H.273
RANGES = {"limited": 1, "full": 2}


def picture() -> NDArray[np.uint8]:
    """A natural kind of picture, smooth with edges, within what YUV can show: I420, flat."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    luma = 120 + 55 * np.sin(x / 9) * np.cos(y / 7) + 20 * (x > 50)
    u = 128 + 24 * np.sin(x[::2, ::2] / 30 + 1)
    v = 128 + 24 * np.cos(y[::2, ::2] / 25)
    return np.concatenate([p.astype(np.uint8).reshape(-1) for p in (luma, u, v)])


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-12)))


def swscale_rgb(flat: NDArray[np.uint8], matrix: str, color_range: str) -> NDArray[np.uint8]:
    frame = av.VideoFrame.from_ndarray(flat.reshape(-1, WIDTH), format="yuv420p")
    frame.colorspace, frame.color_range = COLORSPACES[matrix], RANGES[color_range]
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace={"bt601": "ITU601", "bt709": "ITU709"}[matrix],
        src_color_range="MPEG" if color_range == "limited" else "JPEG",
        dst_color_range="JPEG",
    )
    array: NDArray[np.uint8] = rgb.to_ndarray()  # type: ignore[assignment]
    return array.transpose(2, 0, 1)


@pytest.mark.parametrize("matrix", COLORSPACES)
@pytest.mark.parametrize("color_range", RANGES)
def test_rgb_agrees_with_swscale(matrix: str, color_range: str) -> None:
    flat = picture()
    expected = swscale_rgb(flat, matrix, color_range)
    got = i420_to_rgb(torch.from_numpy(flat), HEIGHT, WIDTH, matrix, color_range)
    assert got.shape == (3, HEIGHT, WIDTH)
    assert psnr(got.numpy() * 255, expected) > 45
    wrong = {"bt601": "bt709", "bt709": "bt601"}[matrix]
    other = i420_to_rgb(torch.from_numpy(flat), HEIGHT, WIDTH, wrong, color_range)
    assert psnr(other.numpy() * 255, expected) < 41


@pytest.mark.parametrize("chroma", ["nearest", "bilinear"])
def test_batches_and_chroma_modes(chroma: str) -> None:
    flat = torch.from_numpy(np.stack([picture()] * 6)).view(2, 3, -1)
    rgb = i420_to_rgb(flat, HEIGHT, WIDTH, "bt709", "limited", chroma)
    assert rgb.shape == (2, 3, 3, HEIGHT, WIDTH)
    assert torch.equal(rgb[0, 0], rgb[1, 2])


def test_known_colours() -> None:
    white, black = np.array([235, 128, 128, 1]), np.array([16, 128, 128, 1])
    for matrix in ("bt601", "bt709", "bt2020", "smpte240m"):
        np.testing.assert_allclose(rgb_from_yuv(matrix, "limited") @ white, 1, atol=1e-12)
        np.testing.assert_allclose(rgb_from_yuv(matrix, "limited") @ black, 0, atol=1e-12)
    red_601 = np.array([76.245, 84.97232, 255.5, 1])  # JFIF: R = 255
    np.testing.assert_allclose(rgb_from_yuv("bt601", "full") @ red_601, [1, 0, 0], atol=1e-3)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="color matrix 'bt470' is unknown; known are bt601"):
        rgb_from_yuv("bt470", "limited")
    with pytest.raises(ValueError, match="color range 'tv' is unknown"):
        rgb_from_yuv("bt709", "tv")
    with pytest.raises(ValueError, match="are not I420 of 10×8, which takes 120"):
        i420_planes(torch.zeros(3, 121), 8, 10)


def jitter(name: str, factor: float, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map of RGB to RGB, [3, 4], of pictures of a mean [1, 3]."""
    maps = JITTERS[name](np.array([factor]), jitterable(np.eye(3, 4), 1))[0]
    return np.column_stack([maps[:, :3], maps[:, 3] + maps[:, 4:] @ mean[0]])


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitters_are_torchvisions(name: str, factor: float) -> None:
    rgb = torch.rand(3, 20, 30, dtype=torch.float64) * 0.3 + 0.3  # far from where it clips
    mean = rgb.mean(dim=(1, 2)).numpy()[None]
    affine = torch.from_numpy(jitter(name, factor, mean))
    got = torch.einsum("cd,dhw->chw", affine[:, :3], rgb) + affine[:, 3, None, None]
    expected = getattr(vision, f"adjust_{name}")(rgb, factor)
    # torchvision's luma weights have four digits
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=0)


def test_hue_turns_colours_and_leaves_gray() -> None:
    gray, mean = np.array([0.4, 0.4, 0.4, 1]), np.zeros((1, 3))
    turned = jitter("hue", 0.3, mean)
    np.testing.assert_allclose(turned @ gray, 0.4, atol=1e-6)
    back = compose(jitter("hue", 0.7, mean), turned)
    np.testing.assert_allclose(back, np.eye(3, 4), atol=1e-9)
    red = np.array([1.0, 0, 0, 1])
    third = jitter("hue", 1 / 3, mean) @ red
    assert third.argmax() != 0
    assert third @ [0.299, 0.587, 0.114] == pytest.approx(0.299, abs=1e-3)


def test_contrast_blends_with_the_mean_of_what_other_jitters_made() -> None:
    """Of the picture as it is then: a matrix that knows no picture must bring that mean along."""
    rgb = torch.rand(3, 20, 30, dtype=torch.float64) * 0.3 + 0.3
    expected = rgb
    maps = jitterable(np.eye(3, 4), 1)
    for name, factor in (
        ("brightness", 1.2),
        ("contrast", 0.7),
        ("saturation", 0.5),
        ("contrast", 1.3),
    ):
        maps = JITTERS[name](np.array([factor]), maps)
        expected = getattr(vision, f"adjust_{name}")(expected, factor)
    m = torch.from_numpy(maps[0])
    got = torch.einsum("cd,dhw->chw", m[:, :3], rgb)
    got += (m[:, 3] + m[:, 4:] @ rgb.mean(dim=(1, 2)))[:, None, None]
    torch.testing.assert_close(got, expected, atol=3e-4, rtol=0)


def test_compose_is_one_after_the_other() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(4, 3, 4)), rng.normal(size=(4, 3, 4))
    x = rng.normal(size=(4, 3, 1))
    step = first[..., :3] @ x + first[..., 3:]
    expected = second[..., :3] @ step + second[..., 3:]
    both = compose(second, first)
    np.testing.assert_allclose(both[..., :3] @ x + both[..., 3:], expected)


def test_lab_goes_back_to_the_rgb_that_it_is_of() -> None:
    torch.manual_seed(0)
    rgb = torch.rand(4, 3, 6, 5, dtype=torch.float64)
    rgb[0] /= 30  # the straight part of the curve
    torch.testing.assert_close(rgb_from_lab(lab_from_rgb(rgb)), rgb, atol=1e-6, rtol=0)
    beyond = torch.tensor([[50.0, 120.0, 90.0]])  # no sRGB colour
    assert 0 <= rgb_from_lab(beyond).min() <= rgb_from_lab(beyond).max() <= 1
