"""Pictures of what methods of correspondence learn: walks through a clip, and copied colours.

python -m benchmarks.video_pictures --walk runs/crw --colors runs/colorization --clips data/shapes
"""

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import View
from models.methods import CRW, Colorization
from models.methods.colorization import colors_copied
from models.methods.crw import transitions
from pipelines.color import lab_from_rgb, rgb_from_lab
from pipelines.device.channels import encoder_channels
from tools.display.correspondence import Picture, heated, picture_rows
from tools.propagation.clips import LabelledClip, read_clips
from tools.runs.run import Run, load_run

_FRAMES_APART: Final = 2
_NUM_FRAMES: Final = 6


def frames_of(clip: LabelledClip) -> tuple[list[Picture], Tensor]:
    """Some frames of a clip, uint8 [H, W, 3], and together as float [3, T, H, W] in [0, 1]."""
    frames = [clip.frame(_FRAMES_APART * number) for number in range(_NUM_FRAMES)]
    together = torch.stack([torch.from_numpy(frame) for frame in frames]).permute(3, 0, 1, 2)
    return frames, together.float() / 255


def values_of(run: Run, frames: Tensor) -> Tensor:
    """What a run's encoder is given of frames [3, T, H, W], [1, 3, T, H, W]."""
    return encoder_channels(frames[None], run.config.video_augment)


@torch.inference_mode()
def walks(run: Run, clip: LabelledClip) -> dict[str, list[Picture]]:
    """Where walkers from the middle of each object are, frame by frame.

    Raises:
        ValueError: the run is of another method.
    """
    if not isinstance(run.method, CRW):
        raise ValueError(f"{run.path} is a run of {run.config.method.name}: walks are CRW's")
    frames, together = frames_of(clip)
    values = values_of(run, together)
    maps = run.method.towers.maps("video", values)
    height, width = maps.shape[3:]
    codes = torch.zeros(1, len(run.plan.names), dtype=torch.int64)
    nodes = run.method.nodes(View("video", values, codes))
    steps, _ = transitions(nodes, run.method.options.temperature)
    mask = clip.mask(0)
    found = {}
    for label in range(1, int(mask.max()) + 1):
        y, x = (int(np.median(of)) for of in np.nonzero(mask == label))
        at = F.one_hot(
            torch.tensor(y * height // mask.shape[0] * width + x * width // mask.shape[1]),
            height * width,
        ).to(steps)
        chances = [at]
        for step in steps[0]:
            chances.append(chances[-1] @ step)
        pairs = zip(frames, chances, strict=True)
        found[f"from shape {label}"] = [
            heated(frame, of.view(height, width).numpy()) for frame, of in pairs
        ]
    return found


@torch.inference_mode()
def copied_colors(run: Run, clip: LabelledClip) -> dict[str, list[Picture]]:
    """Frames, what the encoder sees of them, and each in the colours of the one before.

    Raises:
        ValueError: the run is of another method.
    """
    if not isinstance(run.method, Colorization):
        raise ValueError(
            f"{run.path} is a run of {run.config.method.name}: colours are colorization's"
        )
    frames, together = frames_of(clip)
    values = values_of(run, together)
    maps = run.method.maps("video", values)  # 1 × C × T × h × w
    size = maps.shape[3], maps.shape[4]
    cells = run.method.towers.heads["video"](maps[0].permute(1, 2, 3, 0)).flatten(1, 2)
    labels = run.method.color_labels(values, size)[0]  # T × N
    std = torch.tensor(run.config.video_augment.std)[1:]
    mean = torch.tensor(run.config.video_augment.mean)[1:]
    centroids = run.method.centroids * std + mean  # K × 2, a and b
    lab = lab_from_rgb(together.transpose(0, 1))  # T × 3 × H × W
    painted = [frames[0]]
    for number in range(1, len(frames)):
        scores = (cells[number] @ cells[number - 1].T / run.method.options.temperature)[None]
        shares = colors_copied(scores, labels[None, number - 1], len(centroids))[0]
        colors = (shares @ centroids).T.unflatten(1, size)[None]
        fine = F.interpolate(colors, size=lab.shape[2:], mode="bilinear", align_corners=False)
        painted.append(_bytes(rgb_from_lab(torch.cat([lab[number, None, :1], fine], dim=1))[0]))
    gray = [
        _bytes(rgb_from_lab(of[None] * torch.tensor([1.0, 0, 0])[:, None, None])[0]) for of in lab
    ]
    return {"frames": frames, "seen": gray, "copied": painted}


def _bytes(picture: Tensor) -> Picture:
    return np.asarray((255 * picture.permute(1, 2, 0)).round().byte().numpy())


def main() -> None:
    """Write the pictures that are asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.video_pictures", description=__doc__
    )
    parser.add_argument("--walk", type=Path, help="run folder of CRW")
    parser.add_argument("--colors", type=Path, help="run folder of colorization")
    parser.add_argument("--clips", type=Path, required=True, help="in DAVIS's layout")
    parser.add_argument("--clip", type=int, default=0, help="which of them")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    asked = parser.parse_args()
    clip = read_clips(asked.clips, "davis", "val")[asked.clip]
    note = f"every {_FRAMES_APART}nd frame of {clip.name}"
    if asked.walk is not None:
        rows = walks(load_run(asked.walk), clip)
        title = "Where walkers from one cell are, frame by frame"
        picture_rows(rows, title, note, asked.out / "walks.png")
    if asked.colors is not None:
        rows = copied_colors(load_run(asked.colors), clip)
        title = "Each frame in colours that it points to in the one before"
        picture_rows(rows, title, note, asked.out / "copied_colors.png")


if __name__ == "__main__":
    main()
