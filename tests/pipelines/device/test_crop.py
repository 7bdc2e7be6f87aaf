"""Boxes by their definition."""

from collections.abc import Callable

import numpy as np
import pytest

from pipelines.device.crop import CROPS, center_boxes


def draws(num_rows: int, seed: int = 0) -> Callable[..., np.ndarray]:
    rng = np.random.default_rng(seed)

    def draw(name: str, count: int = 0) -> np.ndarray:
        return rng.random((num_rows, count) if count else num_rows)

    return draw


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
