"""Augmentation against numpy and torchvision, step by step, with draws that are given."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as vision

from pipelines.color import i420_to_rgb, rgb_from_yuv
from pipelines.device.augment import augment_frames, gain_of, gaussian_blur, mask_spectrogram
from pipelines.device.options import AudioAugment, ImageAugment, VideoAugment

HEIGHT, WIDTH, SIZE = 32, 48, 16
PLAIN: dict[str, Any] = {
    "size": SIZE,
    "flip_probability": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
}


def fixed(**values: float) -> Callable[..., np.ndarray]:
    """Every draw is ½, except those named here; `counts` of a name are all alike."""

    def draw(name: str, count: int = 0) -> np.ndarray:
        value = np.full(2, values.get(name, 0.5))
        if name == "jitter_order":
            return np.tile(np.arange(count) / 10, (2, 1))
        return np.tile(value[:, None], (1, count)) if count else value

    return draw


def smooth_frames() -> torch.Tensor:
    """Two rows of three frames, away from where RGB clips."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rows = []
    for row in range(2):
        for frame in range(3):
            luma = 125 + 25 * np.sin((x + 5 * frame) / 9 + row) * np.cos(y / 11)
            u, v = 128 + 0 * x[::2, ::2] + 12 * (row + 1), 128 - 9 + 0 * x[::2, ::2]
            rows.append(np.concatenate([p.astype(np.uint8).reshape(-1) for p in (luma, u, v)]))
    return torch.from_numpy(np.stack(rows)).view(2, 3, -1)


def augmented(options: VideoAugment, draw: Callable[..., np.ndarray] | None) -> torch.Tensor:
    out = torch.empty(2, 3, 3, SIZE, SIZE)
    rgb = rgb_from_yuv("bt709", "limited")
    augment_frames(smooth_frames(), HEIGHT, WIDTH, rgb, options, draw, out)
    return out


def center_rgb() -> torch.Tensor:
    """RGB of the middle 16×16, by color.i420_to_rgb: [N, 3, T, 16, 16]."""
    rgb = i420_to_rgb(smooth_frames(), HEIGHT, WIDTH, "bt709", "limited")
    return rgb[..., 8:24, 16:32].transpose(1, 2)


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 2e-3) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


def test_evaluation_is_the_middle_in_rgb_normalised() -> None:
    options = VideoAugment(**{**PLAIN, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.5)},
                           center_scale=0.5)  # fmt: skip
    mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in (options.mean, options.std))
    close(augmented(options, None), (center_rgb() - mean) / std, atol=1e-2)


def test_evaluation_draws_nothing() -> None:
    options = ImageAugment(size=SIZE)
    assert torch.equal(augmented(options, None), augmented(options, None))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_a_single_jitter_is_torchvisions(name: str) -> None:
    options = VideoAugment(**{**PLAIN, name: 0.4}, scales=(0.5, 0.5))
    got = augmented(options, fixed(**{name: 0.75}))  # a factor of 1 + 0.4 · (2 · 0.75 - 1)
    center = center_rgb()
    for row in range(2):
        if name == "contrast":  # one mean for all frames of a segment
            gray = vision.rgb_to_grayscale(center[row].transpose(0, 1)).mean()
            expected = 1.2 * center[row] + (1 - 1.2) * gray
        else:
            adjust = getattr(vision, f"adjust_{name}")
            expected = adjust(center[row].transpose(0, 1), 1.2).transpose(0, 1)
        close(got[row], expected.clamp(0, 1))


def test_steps_follow_each_other_in_the_drawn_order() -> None:
    options = VideoAugment(**{**PLAIN, "brightness": 0.4, "contrast": 0.4}, scales=(0.5, 0.5))

    def ordered(first: float, second: float) -> Callable[..., np.ndarray]:
        draw = fixed(brightness=1.0, contrast=0.0)

        def with_order(name: str, count: int = 0) -> np.ndarray:
            if name == "jitter_order":
                return np.tile(np.array([first, second, 0.8, 0.9]), (2, 1))
            return draw(name, count)

        return with_order

    center = center_rgb()
    gray = torch.stack([vision.rgb_to_grayscale(c.transpose(0, 1)).mean() for c in center])
    gray = gray.view(2, 1, 1, 1, 1)
    bright_first = 0.6 * (1.4 * center) + 0.4 * (1.4 * gray)
    contrast_first = 1.4 * (0.6 * center + 0.4 * gray)
    close(augmented(options, ordered(0.1, 0.2)), bright_first.clamp(0, 1))
    close(augmented(options, ordered(0.2, 0.1)), contrast_first.clamp(0, 1))


def test_flip_gray_and_probabilities() -> None:
    flipped = VideoAugment(**{**PLAIN, "flip_probability": 0.6}, scales=(0.5, 0.5))
    close(augmented(flipped, fixed()), center_rgb().flip(-1), atol=2e-2)
    close(augmented(flipped, fixed(flip=0.7)), center_rgb(), atol=2e-3)
    gray = augmented(VideoAugment(**PLAIN, gray_probability=0.6, scales=(0.5, 0.5)), fixed())
    assert torch.allclose(gray[:, 0], gray[:, 1], atol=1e-5)
    expected = vision.rgb_to_grayscale(center_rgb().transpose(1, 2)).transpose(1, 2)
    close(gray[:, :1], expected)
    never = VideoAugment(
        **{**PLAIN, "brightness": 0.4, "jitter_probability": 0.2}, scales=(0.5, 0.5)
    )
    close(augmented(never, fixed(brightness=0.9)), center_rgb())


def test_clipping_is_to_black_and_white() -> None:
    options = VideoAugment(**{**PLAIN, "brightness": 9.0, "mean": (0.5, 0.5, 0.5)})
    out = augmented(options, fixed(brightness=1.0))
    assert out.max() <= 0.5 + 1e-6
    assert (out == 0.5).float().mean() > 0.9


@pytest.mark.parametrize("sigma", [0.5, 1.3, 2.0])
def test_blur_is_torchvisions(sigma: float) -> None:
    pictures = torch.rand(2, 3, 2, 24, 24)
    got = gaussian_blur(pictures, np.array([sigma, 0.0]), sigma)
    kernel = 2 * int(np.ceil(3 * sigma)) + 1
    expected = vision.gaussian_blur(pictures[0].transpose(0, 1), [kernel] * 2, [sigma] * 2)
    close(got[0].transpose(0, 1), expected, atol=1e-5)
    close(got[1], pictures[1], atol=1e-6)


def test_only_the_rows_that_are_drawn_are_blurred() -> None:
    plain = VideoAugment(**PLAIN, scales=(0.5, 0.5))
    sharp = augmented(plain, fixed())

    def draw(name: str, count: int = 0) -> np.ndarray:
        return np.array([0.5, 0.7]) if name == "blur" else fixed()(name, count)

    got = augmented(replace(plain, blur_probability=0.6, blur_sigmas=(1.3, 1.3)), draw)
    expected = vision.gaussian_blur(sharp[0].transpose(0, 1), [9, 9], [1.3, 1.3])
    close(got[0].transpose(0, 1), expected, atol=1e-5)
    assert torch.equal(got[1], sharp[1])


def test_a_rows_blur_does_not_depend_on_the_rows_beside_it() -> None:
    """Else other ranks, or a resumed run with others, would see other pictures."""
    pictures = torch.rand(3, 2, 1, 32, 32)
    together = gaussian_blur(pictures, np.array([0.4, 2.0, 1.1]), 2.0)
    for row, sigma in enumerate([0.4, 2.0, 1.1]):
        alone = gaussian_blur(pictures[row : row + 1], np.array([sigma]), 2.0)
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-6)


def test_rows_of_one_batch_blur_differently_and_keep_their_mean() -> None:
    pictures = torch.rand(3, 4, 1, 32, 32)
    out = gaussian_blur(pictures, np.array([0.0, 1.0, 3.0]), 3.0)
    spread = out.std(dim=(1, 2, 3, 4))
    assert spread[0] > spread[1] > spread[2]
    close(out.mean(dim=(3, 4)), pictures.mean(dim=(3, 4)), atol=2e-2)


def test_masks_are_bands_within_their_widths() -> None:
    rng = np.random.default_rng(0)
    spectrogram = torch.ones(500, 1, 40, 99)
    options = AudioAugment(frequency_masks=1, frequency_width=3, time_masks=1, time_width=6)
    out = mask_spectrogram(spectrogram, options, lambda name, count=0: rng.random(500))
    mel_bins = (out == 0).all(dim=3)[:, 0].sum(dim=1)
    frames = (out == 0).all(dim=2)[:, 0].sum(dim=1)
    assert sorted(set(mel_bins.tolist())) == [0, 1, 2, 3]
    assert sorted(set(frames.tolist())) == [0, 1, 2, 3, 4, 5, 6]
    zeros = (out == 0).sum(dim=(1, 2, 3))
    assert torch.equal(zeros, mel_bins * 99 + frames * 40 - mel_bins * frames)
    assert (out[:, 0, 0] == 0).any()  # masks reach the ends
    assert (out[:, 0, -1] == 0).any()


def test_masks_of_a_known_draw() -> None:
    def draw(name: str, count: int = 0) -> np.ndarray:
        return {
            "frequency_mask_width_0": np.array([0.99, 0.0]),
            "frequency_mask_start_0": np.array([0.5, 0.5]),
            "time_mask_width_0": np.array([0.5, 0.0]),
            "time_mask_start_0": np.array([0.0, 0.5]),
        }[name]

    out = mask_spectrogram(torch.ones(2, 1, 10, 20), AudioAugment(), draw)
    assert out[0, 0, :, 19].tolist() == [1, 1, 1, 1, 0, 0, 0, 1, 1, 1]
    assert out[0, 0, 0].tolist() == [0, 0, 0] + [1] * 17
    assert out[1].min() == 1


def test_gain_and_switches() -> None:
    gains = gain_of(AudioAugment(volume=0.1), lambda name, count=0: np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(gains, [0.9, 1.0, 1.1])
    off = AudioAugment(volume=0.0, frequency_masks=0, time_masks=0)
    spectrogram = torch.rand(2, 1, 40, 99)
    assert mask_spectrogram(spectrogram, off, fixed()) is spectrogram
    assert (gain_of(off, fixed(volume=0.9)) == 1).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"crop": "middle"}, "crop = 'middle', must be one of random, random_resized"),
        ({"flip_probability": 1.5}, r"flip_probability = 1.5, must lie in \[0, 1\]"),
        ({"scales": (0.9, 0.5)}, r"scales = \[0.9, 0.5\], must be least and greatest"),
        ({"hue": 0.7}, "hue = 0.7"),
        ({"std": (0.0, 1.0, 1.0)}, "must be positive"),
        ({"size": 4}, "at least 8 pixels"),
    ],
)
def test_options_say_what_is_allowed(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"VideoAugment: .*{text}"):
        VideoAugment(**options)
    with pytest.raises(ValueError, match="AudioAugment: volume = 2, must lie in"):
        AudioAugment(volume=2)
