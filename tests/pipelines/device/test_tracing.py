"""The tensor functions of a batch trace as one graph each: nothing of them stops a compiler.

Random numbers and matrices are made of them on the CPU, in numpy, before; that part stays outside.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.color import i420_to_rgb
from pipelines.device.augment import gaussian_blur, mask_spectrogram
from pipelines.device.cut import Boxes, Cut
from pipelines.device.log_mel import LogMelSpectrogram
from pipelines.device.options import AudioAugment, LogMel

FRAMES = torch.randint(0, 256, (2, 3, 32 * 48 * 3 // 2), dtype=torch.uint8)
BOXES = Boxes(np.array([[0.0, 32, 32, -32], [1, 2, 20.5, 20]]), 32, 48, 16)
CUT, MEMORY = Cut(BOXES, slice(0, 2), 3), BOXES.memory(2, FRAMES)
COLOR = torch.rand(2, 3, 4)


def cut(frames: Tensor) -> Tensor:
    columns = CUT.columns(frames, MEMORY)
    color = COLOR + CUT.mean(columns)[:, :, None]
    return torch.stack(list(CUT.rows(columns, color)), dim=1)


def draw(name: str, count: int = 0) -> Any:
    return np.full((2, count) if count else 2, 0.3)


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "planes to RGB": (lambda x: i420_to_rgb(x, 32, 48, "bt709", "limited", "bilinear"), FRAMES),
    "crop and resize": (cut, FRAMES),
    "blur": (lambda x: gaussian_blur(x, np.array([0.5, 1.0]), 1.0), torch.rand(2, 4, 3, 20, 20)),
    "log-mel": (LogMelSpectrogram(LogMel()), torch.randn(2, 24_000)),
    "log-mel by clip": (
        LogMelSpectrogram(LogMel(top_db=40.0, normalize="clip")),
        torch.randn(2, 24_000),
    ),
    "masks": (lambda x: mask_spectrogram(x, AudioAugment(), draw), torch.randn(2, 1, 40, 99)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_one_graph(name: str) -> None:
    function, given = FUNCTIONS[name]
    traced = torch.compile(function, backend="eager", fullgraph=True)
    torch.testing.assert_close(traced(given), function(given), rtol=0, atol=1e-6)
