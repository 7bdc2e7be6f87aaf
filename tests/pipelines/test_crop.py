"""Boxes by their definition; resampling against plain numpy and against torch's interpolate."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipelines.crop import CROPS, center_boxes, resample

HEIGHT, WIDTH = 32, 48


def draws(num_rows: int, seed: int = 0) -> Callable[..., np.ndarray]:
    rng = np.random.default_rng(seed)

    def draw(name: str, count: int = 0) -> np.ndarray:
        return rng.random((num_rows, count) if count else num_rows)

    return draw


def random_frames(num_rows: int, num_frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (num_rows, num_frames, HEIGHT * WIDTH * 3 // 2)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    """The plane at a point in pixel-edge coordinates, the border repeated."""
    y, x = y - 0.5, x - 0.5
    y0, x0 = int(np.floor(y)), int(np.floor(x))
    value = 0.0
    for j, wy in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
        for i, wx in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
            j_in, i_in = np.clip(j, 0, plane.shape[0] - 1), np.clip(i, 0, plane.shape[1] - 1)
            value += wy * wx * float(plane[j_in, i_in])
    return value


def test_resampling_equals_plain_numpy() -> None:
    frames, size = random_frames(3, 2), 9
    boxes = np.array([[0.0, 0.0, 32.0, 48.0], [3.3, 5.7, 11.0, 17.5], [8.0, 16.0, 9.0, 9.0]])
    flip = np.array([False, True, False])
    got = resample(frames, HEIGHT, WIDTH, boxes, flip, size).numpy()
    assert got.shape == (3, 4, 2, size, size)
    assert (got[:, 3] == 1).all()
    y_plane = frames[..., : HEIGHT * WIDTH].view(3, 2, HEIGHT, WIDTH).numpy()
    quarter = HEIGHT * WIDTH // 4
    u_plane = frames[..., 4 * quarter : 5 * quarter].view(3, 2, HEIGHT // 2, WIDTH // 2).numpy()
    for row, (top, left, height, width) in enumerate(boxes):
        for j, i in ((0, 0), (4, 5), (8, 8), (2, 7)):
            y = top + height * (j + 0.5) / size
            across = (i + 0.5) / size
            x = left + width * (1 - across if flip[row] else across)
            for t in range(2):
                assert got[row, 0, t, j, i] == pytest.approx(
                    bilinear(y_plane[row, t], y, x), abs=0.02
                )
                # Left-sited chroma: sample k lies on the centre of luma pixel 2k.
                assert got[row, 1, t, j, i] == pytest.approx(
                    bilinear(u_plane[row, t], y / 2, x / 2 + 0.25), abs=0.02
                )


def test_whole_pixels_are_copied_and_whole_boxes_are_interpolated() -> None:
    frames = random_frames(1, 3)
    luma = frames[..., : HEIGHT * WIDTH].view(1, 3, HEIGHT, WIDTH)
    box = np.array([[4.0, 10.0, 16.0, 16.0]])
    still = resample(frames, HEIGHT, WIDTH, box, np.array([False]), 16)
    torch.testing.assert_close(still[:, 0], luma[..., 4:20, 10:26].float(), atol=1e-2, rtol=0)
    mirrored = resample(frames, HEIGHT, WIDTH, box, np.array([True]), 16)
    torch.testing.assert_close(mirrored[:, 0], still[:, 0].flip(-1), atol=1e-2, rtol=0)
    larger = resample(frames, HEIGHT, WIDTH, np.array([[0.0, 0, 32, 48]]), np.array([False]), 64)
    expected = F.interpolate(luma.float(), size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(larger[:, 0], expected, atol=2e-2, rtol=0)


def test_center_boxes_are_in_the_middle() -> None:
    assert center_boxes(2, 128, 224, 0.875).tolist() == [[8.0, 56.0, 112.0, 112.0]] * 2


@pytest.mark.parametrize(
    ("name", "scales"), [("random", (0.7, 0.875)), ("random_resized", (0.2, 1.0))]
)
def test_boxes_lie_in_the_frame_and_spread_over_it(name: str, scales: tuple[float, float]) -> None:
    boxes = CROPS[name](draws(4000), 128, 224, scales, (3 / 4, 4 / 3))
    top, left, height, width = boxes.T
    assert (boxes[:, :2] >= 0).all()
    assert (top + height <= 128 + 1e-9).all()
    assert (left + width <= 224 + 1e-9).all()
    assert left.min() < 5
    assert (left + width).max() > 219
    if name == "random":
        assert np.array_equal(height, width)
        short_side = 112 * 128 / height  # what the reference resizes to before it cuts 112
        assert short_side.min() == pytest.approx(128, abs=0.1)
        assert short_side.max() == pytest.approx(160, abs=0.1)
        assert short_side.mean() == pytest.approx(144, abs=0.5)
    else:
        area, aspect = height * width / (128 * 224), width / height
        assert area.min() >= 0.2 - 1e-9
        assert area.max() <= 1 + 1e-9
        assert (aspect >= 3 / 4 - 1e-9).all()
        assert (aspect <= 4 / 3 + 1e-9).all()


def test_a_frame_that_no_attempt_fits_gives_its_middle() -> None:
    boxes = CROPS["random_resized"](draws(5), 16, 320, (1.0, 1.0), (3 / 4, 4 / 3))
    np.testing.assert_allclose(boxes[:, 2], 16)
    np.testing.assert_allclose(boxes[:, 3], 16 * 4 / 3)
