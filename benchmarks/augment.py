"""Shards to training pictures on one core, beside others: `python -m benchmarks.augment SHARDS`.

Every way starts with the same decoded segments (30 frames and a second of sound, as
benchmarks/decode.py decodes them) and ends with the reference GDT recipe's normalised clip of 112²
and log-mel: a crop, mirrored or not, brightness, contrast and saturation in a drawn order, and the
same draws for all. They take turns, 16 segments at a time (to us a batch, as the loader gives it);
CPU ms of a segment is the least of the rounds, then the mean. The others begin with RGB, that
swscale makes of the planes.

PSNR is of RGB in [0, 1], before normalisation: to the same steps in float64, and to torchvision's
own functions in float64, which clip after each step and take the mean gray of contrast of each
frame, where ours is the clip's. kornia is measured where it is installed.

Legend: T frames, H W luma size, S output size.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchaudio.transforms import FrequencyMasking, MelSpectrogram, TimeMasking
from torchvision.transforms.v2 import functional as vision

from benchmarks.decode import Job, make_jobs, our_way
from gdt import named_plan
from pipelines.color import JITTERS, i420_planes, rgb_from_yuv
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.device.augment import recipe_of
from pipelines.device.options import VideoAugment
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.raw_batch import RawBatch
from pipelines.sampling.draws import uniform
from shards import Dataset

RECIPE: Final = VideoAugment()
Planes = NDArray[np.uint8]
Box = tuple[float, float, float, float]
Jitters = tuple[tuple[str, float], ...]
Made = tuple[Tensor, Tensor]  # clip, log-mel
BATCH_SIZE: Final = 16


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded segment, and what is drawn for it.

    Attributes:
        planes: uint8 [T, H·W·3/2].
        sound: float32 [S].
        height, width: H and W.
        matrix, range: of its colours.
        box: top, left, height, width of the crop, not mirrored.
        flip: whether it is.
        jitters: (name, factor), in the order they are applied.
        number: by which the draws are made.
    """

    planes: Planes
    sound: NDArray[np.float32]
    height: int
    width: int
    matrix: str
    range: str
    box: Box
    flip: bool
    jitters: Jitters
    number: int


def decoded(reader: SegmentReader, job: Job, number: int) -> Decoded:
    """Decode a segment and draw for it."""
    planes, sound = our_way(reader, "").decode(job)
    assert planes is not None
    assert sound is not None
    box, flip, jitters = draws_of(number, reader.height, reader.width)
    return Decoded(
        planes.copy(),
        sound.copy(),
        reader.height,
        reader.width,
        reader.color_matrix,
        reader.color_range,
        box,
        flip,
        jitters,
        number,
    )


def draws_of(number: int, height: int, width: int) -> tuple[Box, bool, Jitters]:
    """Box, flip and jitters, as `DeviceTransform` draws them for sample `number`."""

    def draw(name: str, count: int = 0) -> NDArray[np.float64]:
        words = np.zeros((1, 1), np.int64), 0, 0, np.arange(max(1, count))
        row = uniform(0, np.array([[0]]), np.array([[number]]), f"video.{name}", *words)
        return row if count else row[:, 0]

    recipe = recipe_of(RECIPE, draw, 1, height, width, rgb_from_yuv("bt709", "limited"))
    top, left, box_height, box_width = recipe.boxes[0].tolist()
    names = [list(JITTERS)[n] for n in draw("jitter_order", len(JITTERS)).argsort(axis=1)[0]]
    strong = [(name, getattr(RECIPE, name)) for name in names if getattr(RECIPE, name) > 0]
    jitters = tuple((n, float(1 + x * (2 * draw(n)[0] - 1))) for n, x in strong)
    return (top, left + min(0.0, box_width), box_height, abs(box_width)), box_width < 0, jitters


class Ours:
    """The product's transform."""

    def __init__(self) -> None:
        self._transform = DeviceTransform(named_plan("cross_modal_baseline"), DeviceOptions())

    @staticmethod
    def raw(segments: Sequence[Decoded]) -> RawBatch:
        """Segments as a loader gives them: it decodes them into a batch's memory."""
        first, count = segments[0], len(segments)
        zeros = torch.zeros(count, dtype=torch.int64)
        return RawBatch(
            frames=torch.from_numpy(np.stack([s.planes for s in segments])),
            audio=torch.from_numpy(np.stack([s.sound for s in segments])),
            sample=torch.tensor([s.number for s in segments]),
            shift=zeros,
            start_seconds=zeros.double(),
            keys=("",) * count,
            height=first.height,
            width=first.width,
            color_matrix=first.matrix,
            color_range=first.range,
            sample_rate_hz=24_000,
            epoch=0,
            step=0,
        )

    def __call__(self, raw: RawBatch) -> list[Made]:
        """Clips [3, T, S, S] and log-mels [F, L]."""
        batch = self._transform(raw)
        return list(zip(batch.view("video").values, batch.view("audio").values[:, 0], strict=True))


def _log_mel() -> Callable[[Tensor], Tensor]:
    mel = MelSpectrogram(24_000, 480, hop_length=240, n_mels=40, center=False, power=2.0)
    bins, frames = FrequencyMasking(3), TimeMasking(6)
    return lambda sound: frames(bins(((mel(sound) + 1e-6).log() + 6.7) / 3.9))


def _rgb(segment: Decoded) -> Tensor:
    """Uint8 [T, 3, H, W] by swscale."""
    frames = []
    for planes in segment.planes:
        rows = planes.reshape(segment.height * 3 // 2, segment.width)
        frame = av.VideoFrame.from_ndarray(rows, format="yuv420p")
        rgb = frame.reformat(format="rgb24", src_colorspace=_SWSCALE[segment.matrix])
        frames.append(rgb.to_ndarray())
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


_SWSCALE: Final = {"bt709": "ITU709", "bt601": "ITU601"}


class Torchvision:
    """torchvision.transforms.v2, on uint8 as its documentation advises."""

    def __init__(self) -> None:
        self._log_mel = _log_mel()

    def __call__(self, segment: Decoded) -> Made:
        """Clip [T, 3, S, S] and log-mel."""
        frames = torchvision_steps(_rgb(segment), segment)
        frames = vision.to_dtype(frames, torch.float32, scale=True)
        clip = vision.normalize(frames, list(RECIPE.mean), list(RECIPE.std))
        return clip, self._log_mel(torch.from_numpy(segment.sound))


def torchvision_steps(frames: Tensor, segment: Decoded) -> Tensor:
    """Crop, mirror and jitter by torchvision, on the whole pixels that it crops at."""
    top, left, height, width = (round(x) for x in segment.box)
    size = [RECIPE.size] * 2
    frames = vision.resized_crop(frames, top, left, height, width, size, antialias=False)
    frames = vision.horizontal_flip(frames) if segment.flip else frames
    for name, factor in segment.jitters:
        frames = getattr(vision, f"adjust_{name}")(frames, factor)
    return frames


class Kornia:
    """kornia's functions, on float32."""

    def __init__(self) -> None:
        self._log_mel = _log_mel()
        enhance: Any = import_module("kornia.enhance")
        self._crop = import_module("kornia.geometry.transform").crop_and_resize
        self._normalize = enhance.normalize
        self._jitters = {
            "brightness": enhance.adjust_brightness_accumulative,
            "contrast": enhance.adjust_contrast_with_mean_subtraction,
            "saturation": enhance.adjust_saturation_with_gray_subtraction,
        }

    def __call__(self, segment: Decoded) -> Made:
        """Clip [T, 3, S, S] and log-mel."""
        frames = _rgb(segment).float() / 255
        top, left, height, width = segment.box
        right, bottom = left + width - 1, top + height - 1
        corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
        boxes = torch.tensor([corners] * len(frames))
        frames = self._crop(frames, boxes, (RECIPE.size,) * 2)
        frames = frames.flip(-1) if segment.flip else frames
        for name, factor in segment.jitters:
            frames = self._jitters[name](frames, factor)
        clip = self._normalize(frames, torch.tensor(RECIPE.mean), torch.tensor(RECIPE.std))
        return clip, self._log_mel(torch.from_numpy(segment.sound))


def reference(segment: Decoded, *, as_torchvision: bool) -> Tensor:
    """RGB [T, 3, S, S] in float64: bilinear samples of the planes, converted, then jittered."""
    luma, chroma = i420_planes(
        torch.from_numpy(segment.planes).double(), segment.height, segment.width
    )
    top, left, height, width = segment.box
    centers = (torch.arange(RECIPE.size).double() + 0.5) / RECIPE.size
    ys, xs = top + height * centers, left + width * (centers.flip(0) if segment.flip else centers)

    def sample(planes: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Planes [T, C, h, w] at places that count from the edge of the first pixel."""
        grid = torch.stack(
            [(2 * x / planes.shape[-1] - 1).expand(len(y), -1),
             (2 * y / planes.shape[-2] - 1)[:, None].expand(-1, len(x))], dim=-1
        )  # fmt: skip
        grid = grid.expand(len(planes), -1, -1, -1)
        return F.grid_sample(planes, grid, padding_mode="border", align_corners=False)

    # chroma lies between two luma rows, and on the left one of two luma columns
    yuv = [sample(luma[:, None], ys, xs), sample(chroma, ys / 2, xs / 2 + 0.25)]
    affine = torch.from_numpy(rgb_from_yuv(segment.matrix, segment.range))
    rgb = torch.einsum("cd,tdhw->tchw", affine[:, :3], torch.cat(yuv, 1)) + affine[:, 3, None, None]
    if as_torchvision:
        rgb = rgb.clamp(0, 1)
        for name, factor in segment.jitters:
            rgb = getattr(vision, f"adjust_{name}")(rgb, factor)
        return rgb
    gray = torch.tensor([0.299, 0.587, 0.114]).double()[:, None, None]
    for name, factor in segment.jitters:
        of_pixel = (rgb * gray).sum(1, keepdim=True)
        toward = {"contrast": of_pixel.mean(), "saturation": of_pixel}.get(name, torch.zeros(()))
        rgb = factor * rgb + (1 - factor) * toward
    return rgb.clamp(0, 1)


def psnr(clip: Tensor, expected: Tensor) -> float:
    """Of a normalised clip to RGB in [0, 1], dB."""
    if clip.shape != expected.shape:
        clip = clip.transpose(0, 1)
    mean, std = (torch.tensor(x).view(3, 1, 1).double() for x in (RECIPE.mean, RECIPE.std))
    return -10 * math.log10(float(((clip * std + mean) - expected).square().mean()))


def measure(jobs: Sequence[Job], reader: SegmentReader, rounds: int) -> list[tuple[str, ...]]:
    """A row for each way: name, CPU ms, times the decoding, with decoding, and two PSNRs."""
    segments = [decoded(reader, job, number) for number, job in enumerate(jobs)]
    parts = [segments[i : i + BATCH_SIZE] for i in range(0, len(segments), BATCH_SIZE)]
    jobs_of = [jobs[i : i + BATCH_SIZE] for i in range(0, len(jobs), BATCH_SIZE)]
    raw = [Ours.raw(part) for part in parts]
    ours, decode, torchvision = Ours(), our_way(reader, "").decode, Torchvision()
    ways: dict[str, Callable[[int], Sequence[object]]] = {
        "decoding: video and sound": lambda i: [decode(job) for job in jobs_of[i]],
        "ours": lambda i: ours(raw[i]),
        "torchvision.transforms.v2": lambda i: [torchvision(segment) for segment in parts[i]],
    }
    if find_spec("kornia"):
        kornia = Kornia()
        ways["kornia"] = lambda i: [kornia(segment) for segment in parts[i]]
    taken = np.empty((len(ways), len(parts), rounds))
    for turn in range(rounds):
        for place in range(len(parts)):
            for number, way in enumerate(ways.values()):
                begin = time.thread_time()
                way(place)
                taken[number, place, turn] = time.thread_time() - begin
    milliseconds = (taken.min(axis=2).sum(axis=1) * 1e3 / len(jobs)).tolist()
    decoding = milliseconds[0]
    expected = [
        [reference(segment, as_torchvision=like) for segment in parts[0]] for like in (False, True)
    ]
    rows: list[tuple[str, ...]] = []
    for (name, way), ms in zip(ways.items(), milliseconds, strict=True):
        cells = [f"{ms:.2f}", f"{ms / decoding:.2f}"]
        if way is not ways["decoding: video and sound"]:
            made: Any = way(0)
            cells.append(f"{(decoding + ms) / decoding:.2f}")
            for of in expected:
                decibels = [psnr(clip, rgb) for (clip, _), rgb in zip(made, of, strict=True)]
                cells.append(f"{np.mean(decibels):.1f}")
        rows.append((name, *cells))
    return rows


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shards")
    parser.add_argument("--segments", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = Dataset.open(arguments.shards)
    reader = SegmentReader(dataset, SegmentOptions())
    rows = measure(make_jobs(reader, arguments.segments), reader, arguments.rounds)
    size = f"{reader.width}×{reader.height}"
    table = Table(
        title=f"{size}, {reader.options.num_frames} frames to {RECIPE.size}², {dataset.path}"
    )
    for heading in (
        "",
        "CPU ms",
        "× decoding",
        "decoding + it",
        "PSNR, dB",
        "to torchvision in float64",
    ):
        table.add_column(heading, justify="left" if not heading else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
