"""One training step, beside itself in plain fp32, and fed by the stream beside a batch that stays.

R(2+1)D-18 + ResNet-9, 30 × 112², GDT's plan;  fast: bfloat16, channels last, compiled
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.textured_shards import write_textured_shards
from gdt import Batch, Plan
from models import Encoder, EncoderOptions, RunFacts, Setting
from models.methods.gdt import GDT, GDTOptions
from pipelines.color import rgb_from_pixels
from pipelines.decoding.segment import SegmentOptions
from pipelines.device.augment import augment_frames
from pipelines.device.options import VideoAugment
from pipelines.device.overlap import Overlap
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.stream import Stream, StreamOptions
from shards import Dataset

__all__ = ["StepFigures", "augment_times", "matrix_rate", "step_figures"]

PLAN = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "time_shift": {"relation": "distinctive", "draws": 2},
        "modality": {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"},
    }
)
VIEWS = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["image"]},
        "augmentation": {"relation": "invariant", "draws": 2},
    }
)


@dataclass(frozen=True)
class StepFigures:
    """Clips are rows of video (with their sound); shares are of 1.

    share_waiting is what a step fed by the stream (decode, copy, augmentation and all) takes longer
    than the same step on a batch that lies ready; decoder, what the stream took and why.
    """

    clips: int
    plain_clips_per_second: float
    fast_clips_per_second: float
    compiled: bool
    flops_per_clip: float
    streamed_clips_per_second: float
    share_waiting: float
    decoder: str

    @property
    def speedup(self) -> float:
        """Of the fast step over plain fp32."""
        return self.fast_clips_per_second / self.plain_clips_per_second


def step_figures(
    folder: Path,
    device: str,
    samples: int,
    threads: int,
    steps: int,
    model: EncoderOptions,
    compiled: bool = True,
) -> StepFigures:
    """Time the step in its three forms, on batches of `samples` clips with two shifts each."""
    dataset = write_textured_shards(folder / "step", max(samples, 32), 128)
    stream = _stream(dataset, samples, threads)
    raw = next(iter(stream)).to(device)
    stream.close()
    transform = DeviceTransform(PLAN, DeviceOptions(), seed=0)
    batch = transform(raw)
    clips = len(raw)
    plain_rate, flops = _plain(model, batch, steps, device)
    fast = _trainer(model, device, fast=True, compiled=compiled)
    transform = DeviceTransform(
        PLAN, DeviceOptions(), seed=0, dtype=torch.bfloat16, channels_last=True
    )
    batch = transform(raw)
    fast_rate = clips / _seconds(lambda: fast(batch), steps, device)
    overlap = Overlap(transform, torch.device(device))
    stream = _stream(dataset, samples, threads)
    batches = overlap.batches(_forever(stream))
    streamed = _seconds(lambda: fast(next(batches)), steps, device)
    batches.close()
    return StepFigures(
        clips,
        clips * plain_rate,
        fast_rate,
        compiled,
        flops / clips,
        clips / streamed,
        max(0.0, 1 - clips / fast_rate / streamed),
        ": ".join(stream.decoder),
    )


def _plain(model: EncoderOptions, batch: Batch, steps: int, device: str) -> tuple[float, float]:
    """Steps a second as PyTorch does them when nothing is said, and the FLOPs of one."""
    step = _trainer(model, device)
    with FlopCounterMode(display=False) as flops:
        step(batch)
    return 1 / _seconds(lambda: step(batch), steps, device), flops.get_total_flops()


def augment_times(folder: Path, device: str, rows: int, steps: int) -> Iterator[tuple[str, float]]:
    """What was done, and milliseconds: planes and samples to a training batch, in each way."""
    dataset = write_textured_shards(folder / "augment", 32, 128)
    stream = _stream(dataset, max(1, rows // 2), threads=2)
    raw = next(iter(stream)).to(device)
    stream.close()

    def time_of(transform: DeviceTransform, raw: RawBatch) -> float:
        return 1e3 * _seconds(lambda: transform(raw), steps, device)

    transform = DeviceTransform(PLAN, DeviceOptions(), seed=0)
    with patch("pipelines.device.transform._augmenter", lambda *_: augment_frames):
        yield "bytes to a training batch, torch functions", time_of(transform, raw)
    if device == "cuda":
        yield "bytes to a training batch, fused kernel", time_of(transform, raw)
        yield from _kernel_times(raw, steps, device)
    in_bfloat16 = DeviceTransform(
        PLAN, DeviceOptions(), seed=0, dtype=torch.bfloat16, channels_last=True
    )
    yield "bytes to a training batch, bfloat16, channels last", time_of(in_bfloat16, raw)
    assert raw.frames is not None
    pictures = replace(raw, frames=raw.frames[:, :1].contiguous(), audio=None)
    views = DeviceTransform(VIEWS, DeviceOptions(), seed=0)
    yield "two views of a picture each, with blur (torch functions)", time_of(views, pictures)


def _kernel_times(raw: RawBatch, steps: int, device: str) -> Iterator[tuple[str, float]]:
    """The kernel's two halves alone, beside what any writer of such clips takes at least."""
    from pipelines.device.fused_clip import fused_clip

    assert raw.frames is not None
    frames, height, width = raw.frames, raw.height, raw.width
    rgb = rgb_from_pixels(raw.pixels, raw.color_matrix, raw.color_range)
    options = VideoAugment()
    shape = (len(raw), 3, frames.shape[1], options.size, options.size)
    out = torch.empty(shape, dtype=torch.bfloat16, device=device)

    def draw(name: str, count: int = 0) -> NDArray[np.float64]:
        return np.full((len(raw), count) if count else len(raw), 0.3)

    for name, drawn in (("training", draw), ("evaluation", None)):
        seconds = _seconds(
            partial(fused_clip, frames, height, width, rgb, options, drawn, out), steps, device
        )
        yield f"fused kernel alone, bfloat16, {name}", 1e3 * seconds
    yield "filling its result with zeros", 1e3 * _seconds(out.zero_, steps, device)


def matrix_rate(device: str, size: int = 8192, repeats: int = 10) -> float:
    """FLOP/s of a bfloat16 matrix product of random numbers."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: a @ b, repeats, device)


def _stream(dataset: Dataset, samples: int, threads: int) -> Stream:
    options = StreamOptions(batch_size=samples, threads=threads, prefetch=3)
    return Stream(dataset, PLAN, SegmentOptions(), options, seed=0)


def _forever(stream: Stream) -> Iterator[RawBatch]:
    while True:
        yield from stream


def _trainer(
    options: EncoderOptions, device: str, *, fast: bool = False, compiled: bool = False
) -> Callable[[Batch], None]:
    """A function that does one step of SGD on a batch."""
    torch.manual_seed(0)
    setting = Setting(PLAN, options, RunFacts(1, 1, 1, 1))
    method: Any = GDT(GDTOptions(), setting).to(device).train()
    for encoder in (m for m in method.modules() if isinstance(m, Encoder)):
        encoder.arrange(channels_last=fast, compiled=compiled)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-5)

    def step(batch: Batch) -> None:
        with torch.autocast(batch.view("video").values.device.type, torch.bfloat16, fast):
            loss = method(batch).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def _seconds(run: Callable[[], object], repeats: int, device: str) -> float:
    """Of one call, the mean of `repeats` after three to warm up."""
    for _ in range(3):
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats
