"""The fused kernel beside the torch functions, case by case; prints the differences as json.

Run as a program: Triton decides at import whether kernels are interpreted (TRITON_INTERPRET=1).
"""

import json
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.color import rgb_from_pixels
from pipelines.device.augment import augment_frames
from pipelines.device.fused_clip import fused_clip
from pipelines.device.options import VideoAugment
from pipelines.sampling.draws import uniform


@dataclass(frozen=True)
class Case:
    """What goes in, and what is wanted out.

    Attributes:
        shape: rows, frames, height and width.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    pixels: str = "i420"
    has_draws: bool = True
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    is_reversed: bool = False
    shape: tuple[int, int, int, int] = (3, 2, 32, 48)


JITTERED: dict[str, Any] = {
    "jitter_probability": 1.0,
    "hue": 0.1,
    "gray_probability": 0.4,
    "flip_probability": 0.5,
}
RESIZED = {**JITTERED, "crop": "random_resized", "scales": (0.2, 1.0)}
UNEQUAL = {**JITTERED, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CASES = {
    "evaluation": Case(has_draws=False),
    "crop and flip": Case({"flip_probability": 0.5, "jitter_probability": 0.0}),
    "all jitters": Case(JITTERED),
    "reversed": Case(JITTERED, is_reversed=True, channels_last=True, shape=(3, 3, 32, 48)),
    "jitters without contrast": Case({**JITTERED, "contrast": 0.0}),
    "random resized": Case(RESIZED),
    "RGB of another matrix": Case(JITTERED, "rgb_bt601"),
    "bfloat16, channels last": Case(JITTERED, dtype=torch.bfloat16, channels_last=True),
    "float16 of RGB, channels last": Case(
        JITTERED, "rgb_bt601", dtype=torch.float16, channels_last=True
    ),
    "larger than a block, unequal means": Case({**UNEQUAL, "size": 30}),
    "one row of one frame": Case(RESIZED, shape=(1, 1, 32, 48)),
    "chroma of odd height and width": Case(RESIZED, shape=(2, 3, 34, 46)),
    "odd output, enlarged": Case({**RESIZED, "size": 37}, shape=(2, 1, 16, 16)),
    "odd RGB": Case({**RESIZED, "size": 17}, "rgb_bt601", shape=(2, 2, 31, 45)),
}


def difference(case: Case, device: str) -> dict[str, float]:
    """Greatest difference and spread of a case's result, in units of the normalised clip."""
    num_rows, num_frames, height, width = case.shape
    options = VideoAugment(**{"size": 20, **case.changes})

    def draw(name: str, count: int = 0) -> NDArray[np.float64]:
        table = uniform(7, 0, np.arange(num_rows)[:, None], name, np.arange(max(1, count)))
        return table if count else table[:, 0]

    a_frame = (height * width * 3 // 2,) if case.pixels == "i420" else (height, width, 3)
    rng = np.random.default_rng(0)
    bytes_ = rng.integers(0, 256, (num_rows, num_frames, *a_frame), dtype=np.uint8)
    frames = torch.from_numpy(bytes_).to(device)
    rgb = rgb_from_pixels(case.pixels, "bt709", "limited")
    size = (num_rows, 3, num_frames, options.size, options.size)
    expected = torch.empty(size, device=device)
    drawn = draw if case.has_draws else None
    augment_frames(
        frames, height, width, rgb, options, drawn, expected, is_reversed=case.is_reversed
    )
    out = torch.full(size, torch.nan, dtype=case.dtype, device=device)
    if case.channels_last:
        out = out.contiguous(memory_format=torch.channels_last_3d)
    fused_clip(frames, height, width, rgb, options, drawn, out, is_reversed=case.is_reversed)
    return {
        "difference": (out.float() - expected).abs().max().item(),
        "spread": expected.std().item(),
    }


if __name__ == "__main__":
    print(json.dumps({name: difference(case, sys.argv[1]) for name, case in CASES.items()}))
