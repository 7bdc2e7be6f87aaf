"""The fused kernel beside the torch functions, case by case; prints the differences as json.

Run as a program: Triton decides at import whether kernels are interpreted (TRITON_INTERPRET=1).
"""

import json
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.augment import VideoAugment, augment_pictures
from pipelines.color import rgb_from_pixels
from pipelines.draws import uniform
from pipelines.fused_clip import fused_clip

ROWS, FRAMES, HEIGHT, WIDTH = 3, 2, 32, 48
JITTERED: dict[str, Any] = {"jitter": 1.0, "hue": 0.1, "gray": 0.4, "flip": 0.5}

#: Name → (options, kind of pixels, whether there are draws, type of the result).
CASES: dict[str, tuple[dict[str, Any], str, bool, torch.dtype]] = {
    "evaluation": ({}, "i420", False, torch.float32),
    "crop and flip": ({"flip": 0.5, "jitter": 0.0}, "i420", True, torch.float32),
    "all jitters": (JITTERED, "i420", True, torch.float32),
    "jitters without contrast": ({**JITTERED, "contrast": 0.0}, "i420", True, torch.float32),
    "random resized": (
        {**JITTERED, "crop": "random_resized", "scales": (0.2, 1.0)},
        "i420",
        True,
        torch.float32,
    ),
    "RGB of another matrix": (JITTERED, "rgb_bt601", True, torch.float32),
    "bfloat16, channels last": (JITTERED, "i420", True, torch.bfloat16),
    "larger than a block, unequal means": (
        {**JITTERED, "size": 30, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        "i420",
        True,
        torch.float32,
    ),
}


def draw(name: str, count: int = 0) -> NDArray[np.float64]:
    table = uniform(7, 0, np.arange(ROWS)[:, None], name, np.arange(max(1, count)))
    return table if count else table[:, 0]


def difference(name: str, device: str) -> dict[str, float]:
    """Greatest difference and spread of a case's result, in units of the normalised clip."""
    changes, pixels, has_draws, dtype = CASES[name]
    options = VideoAugment(**{"size": 20, **changes})
    shape = (HEIGHT * WIDTH * 3 // 2,) if pixels == "i420" else (HEIGHT, WIDTH, 3)
    rng = np.random.default_rng(0)
    bytes_ = rng.integers(0, 256, (ROWS, FRAMES, *shape), dtype=np.uint8)
    frames = torch.from_numpy(bytes_).to(device)
    rgb = rgb_from_pixels(pixels, "bt709", "limited")
    size = (ROWS, 3, FRAMES, options.size, options.size)
    expected = torch.empty(size, device=device)
    augment_pictures(frames, HEIGHT, WIDTH, rgb, options, draw if has_draws else None, expected)
    out = torch.full(size, torch.nan, dtype=dtype, device=device)
    if dtype == torch.bfloat16:
        out = out.contiguous(memory_format=torch.channels_last_3d)
    fused_clip(frames, HEIGHT, WIDTH, rgb, options, draw if has_draws else None, out)
    return {
        "difference": (out.float() - expected).abs().max().item(),
        "spread": expected.std().item(),
    }


if __name__ == "__main__":
    print(json.dumps({name: difference(name, sys.argv[1]) for name in CASES}))
