"""A batch refuses tensors that travel without their codes, and prints shapes."""

import pytest
import torch

from gdt import Batch, View


def test_prints_shapes_not_pixels() -> None:
    view = View("video", torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.int64))
    batch = Batch((view,), 1, 5)
    assert repr(batch) == "Batch(epoch=1, step=5, video: [2, 3])"
    assert batch.to("cpu").view("video").codes.shape == (2, 4)


@pytest.mark.parametrize("codes", [torch.zeros(3, 2, dtype=torch.int64), torch.zeros(2, 2)])
def test_codes_must_fit(codes: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"codes must be int64 \[B, M\] with B = 2"):
        View("video", torch.zeros(2, 3), codes)
