"""Segments a second that arrive on the GPU, for every decoder, beside one another.

    shards → loader (threads, ahead) → RawBatch on the device, 30 frames and 1 s of sound a row

Each row is a decoder; the last column compares its first batch with the default decoder's. A row
that fails says why: nothing that goes wrong in one keeps the others from being measured.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.textured_shards import write_textured_shards
from pipelines.color import rgb_from_pixels
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.loading.batch_loader import Request
from pipelines.loading.loader import make_loader
from pipelines.loading.raw_batch import RawBatch
from shards import Dataset

__all__ = [
    "DECODERS",
    "Case",
    "Rate",
    "cases_of",
    "decoding_rates",
    "file_rates",
    "prepare",
    "reader_rate",
    "torchcodec_rate",
]

DECODERS = ("av", "torchcodec", "nvdec", "hybrid", "dali")


@dataclass(frozen=True)
class Case:
    """Shards to decode: all sizes of one codec, and other codecs at one of them."""

    codec: str
    short_side: int

    def folder(self, parent: Path) -> Path:
        """Where its shards are."""
        return parent / f"{self.codec}-{self.short_side}"


@dataclass(frozen=True)
class Rate:
    """One line of the table; `note` says why there is no number where there is none."""

    decoder: str
    codec: str
    short_side: int
    segments_per_second: float | None
    psnr: float | None = None
    note: str = ""


def cases_of(cpu: bool) -> list[Case]:
    """What is measured: on a CPU the one that all of its decoders know, and small."""
    if cpu:
        return [Case("vp9", 64)]
    return [Case("h264", size) for size in (128, 224, 256)] + [
        Case(codec, 224) for codec in ("hevc", "vp9", "av1", "mpeg4")
    ]


def prepare(folder: Path, cases: list[Case], num_clips: int) -> None:
    """Write the shards, a process a case: encoding takes longer than all decoding."""
    num_processes = min(len(cases), os.cpu_count() or 1)
    with ProcessPoolExecutor(num_processes, get_context("spawn")) as pool:
        underway = {
            case: pool.submit(
                write_textured_shards, case.folder(folder), num_clips, case.short_side, case.codec
            )
            for case in cases
        }
    for case, task in underway.items():
        if error := task.exception():
            print(f"no shards of {case}: {error}", file=sys.stderr)


def decoding_rates(
    folder: Path,
    case: Case,
    decoder: str,
    device: str,
    threads: int,
    seconds: float,
    batch_size: int = 32,
) -> Rate:
    """The rate of a decoder on a case; one that does not run here says why."""
    try:
        dataset = Dataset.open(case.folder(folder))
        rate, first = _rate(dataset, decoder, device, threads, seconds, batch_size)
        _, by_default = _rate(dataset, "av", device, threads, 0, batch_size)
        psnr = _psnr(_mean_rgb(by_default), _mean_rgb(first))
    except Exception as error:  # noqa: BLE001 - told in the row
        return Rate(decoder, case.codec, case.short_side, None, note=_told(error))
    return Rate(decoder, case.codec, case.short_side, rate, psnr)


def file_rates(folder: Path, case: Case, name: str, rate: Callable[[list[Path]], float]) -> Rate:
    """The rate of a library's own way from files, which are taken out of the case's shards."""
    try:
        dataset = Dataset.open(case.folder(folder))
        with TemporaryDirectory() as place:
            files = [Path(place, f"{number}.mp4") for number in range(len(dataset))]
            for number, file in enumerate(files):
                file.write_bytes(dataset.read_member(dataset.sample(number), "mp4"))
            return Rate(name, case.codec, case.short_side, rate(files))
    except Exception as error:  # noqa: BLE001 - told in the row
        return Rate(name, case.codec, case.short_side, None, note=_told(error))


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}".replace("|", "/")


def _rate(
    dataset: Dataset, decoder: str, device: str, threads: int, seconds: float, batch_size: int
) -> tuple[float, RawBatch]:
    reader = SegmentReader(dataset, SegmentOptions(decoder=decoder, fallback="refuse"))
    loader = make_loader(reader, threads, ahead=3)
    deliveries = loader.deliveries(_requests(len(dataset), batch_size))
    try:
        delivery = next(deliveries)
        if skipped := next((outcome for outcome in delivery.outcomes if outcome), None):
            raise skipped
        first = delivery.batch.to(device, non_blocking=True)
        for _ in range(2):
            next(deliveries).batch.to(device, non_blocking=True)
        _wait(device)
        segments, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            batch = next(deliveries).batch
            if device == "cuda" and batch.frames is not None and not batch.frames.is_cuda:
                batch = batch.pin_memory()
            segments += len(batch.to(device, non_blocking=True))
        _wait(device)
        return segments / (time.perf_counter() - started), first
    finally:
        deliveries.close()  # type: ignore[attr-defined]
        loader.close()


def _requests(num_samples: int, batch_size: int) -> Iterator[Request]:
    rng = np.random.default_rng(0)
    for step in count():
        samples = rng.permutation(num_samples)[:batch_size]
        yield Request(0, step, samples, rng.random((len(samples), 1)))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _mean_rgb(batch: RawBatch) -> Any:
    """Mean colour of 4×4 pixels, [R·T, H/4, W/4, 3]: where chroma is sited does not matter."""
    from pipelines.color import i420_to_rgb

    assert batch.frames is not None
    frames = batch.frames[:4]
    if batch.pixels == "i420":
        rgb = i420_to_rgb(
            frames, batch.height, batch.width, batch.color_matrix, batch.color_range, "bilinear"
        ).flatten(0, 1)
    else:
        color = rgb_from_pixels(batch.pixels, batch.color_matrix, batch.color_range)
        matrix = torch.from_numpy(color).to(frames.device, torch.float32)
        rgb = torch.einsum("ij,rthwj->rtihw", matrix[:, :3], frames.float())
        rgb = (rgb + matrix[:, 3, None, None]).clamp(0, 1).flatten(0, 1)
    return torch.nn.functional.avg_pool2d(rgb, 4).cpu()


def _psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    error = ((a - b) ** 2).mean(dim=(1, 2, 3)).max().item()
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def torchcodec_rate(files: list[Path], device: str, threads: int, seconds: float) -> float:
    """Segments a second of torchcodec's own `VideoDecoder`, one opened for each segment, to RGB.

    Raises:
        ImportError: torchcodec or FFmpeg's libraries are missing.
        RuntimeError: there is no GPU.
    """
    import importlib

    library: Any = importlib.import_module("torchcodec.decoders")
    contents = [file.read_bytes() for file in files]

    def segment(seed: int) -> int:
        rng = np.random.default_rng(seed)
        content = contents[rng.integers(len(contents))]
        decoder = library.VideoDecoder(content, device=device, num_ffmpeg_threads=1)
        last = decoder.metadata.duration_seconds - 1
        times = rng.random() * last + (np.arange(30) + 0.5) / 30
        return len(decoder.get_frames_played_at(times.tolist()).data) // 30

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(segment, range(2 * threads)))
        _wait(device)
        segments, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            segments += sum(pool.map(segment, range(segments, segments + 4 * threads)))
        _wait(device)
    return segments / (time.perf_counter() - started)


def reader_rate(
    files: list[Path], device: str, threads: int, seconds: float, batch_size: int = 32
) -> float:
    """Segments a second of DALI's own `fn.readers.video`, which picks at random from files.

    Raises:
        ImportError: DALI is missing.
        RuntimeError: there is no GPU, or it does not decode these.
    """
    import importlib

    dali: Any = importlib.import_module("nvidia.dali")
    fn: Any = importlib.import_module("nvidia.dali.fn")

    def graph() -> Any:
        return fn.readers.video(
            device="gpu",
            filenames=[str(file) for file in files],
            sequence_length=30,
            random_shuffle=True,
            initial_fill=4 * batch_size,
            name="reader",
        )

    pipeline: Any = dali.pipeline_def(graph)(
        batch_size=batch_size, num_threads=threads, device_id=torch.cuda.current_device()
    )
    pipeline.build()
    for _ in range(3):
        pipeline.run()
    segments, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        (frames,) = pipeline.run()
        segments += len(frames)
    torch.cuda.synchronize()
    return segments / (time.perf_counter() - started)
