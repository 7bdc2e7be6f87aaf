"""Everything there is to check and measure on a machine with a GPU, in one table in docs/gpu.md.

    python -m benchmarks.gpu                 the tests marked gpu, then all figures; docs/gpu.md
    python -m benchmarks.gpu --cpu           what a CPU can run of it, small; nothing is written

Without a GPU it says so and ends with exit status 77 (which test harnesses read as "skipped"); 1
means that a test failed.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu_decode import Rate, decoding_rates, reader_rate, torchcodec_rate
from benchmarks.gpu_step import augment_times, matrix_rate, step_figures
from models.options import ModelOptions

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
NO_GPU = 77


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="run what a CPU can, and write nothing")
    parser.add_argument("--no-tests", action="store_true", help="figures only")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each decoding figure")
    options = parser.parse_args(arguments)
    if not options.cpu and not torch.cuda.is_available():
        print(
            "There is no NVIDIA GPU here that PyTorch can use (torch.cuda.is_available() is "
            "False), so nothing was tested or measured. On a machine with one, this runs the tests "
            "marked gpu and fills in docs/gpu.md; --cpu runs what a CPU can.",
            file=sys.stderr,
        )
        return NO_GPU
    lines = [f"Measured {datetime.date.today().isoformat()} on {_machine(options.cpu)}.", ""]
    status = 0
    if not options.cpu and not options.no_tests:
        status, summary = _run_tests()
        lines += [f"Tests marked `gpu`: {summary}", ""]
        print(lines[-2])
    with tempfile.TemporaryDirectory() as folder:
        for line in _figures(Path(folder), options.cpu, options.threads, options.seconds):
            print(line, flush=True)
            lines.append(line)
    if not options.cpu:
        _write(PAGE, lines)
        print(f"written to {PAGE}")
    return status


def _figures(folder: Path, cpu: bool, threads: int, seconds: float) -> Iterator[str]:
    yield "| frames | codec | decoder | segments/s | PSNR to `av` |"
    yield "| --- | --- | --- | --- | --- |"
    device = "cpu" if cpu else "cuda"
    sizes, clips, batch = ((64,), 4, 4) if cpu else ((128, 224, 256), 64, 32)
    for codec in ("vp9",) if cpu else ("h264", "vp9"):
        rates = decoding_rates(folder, device, sizes, codec, threads, seconds, clips, batch)
        yield from map(_line, rates)
    yield from _peer_lines(folder, device, threads, seconds)
    yield ""
    for group in (_augment_lines, _step_lines):
        try:
            yield from group(folder, device, threads)
        except RuntimeError as error:
            yield f"- {group.__name__} failed: {str(error).splitlines()[0]}"


def _augment_lines(folder: Path, device: str, threads: int) -> Iterator[str]:
    rows, steps = (4, 1) if device == "cpu" else (64, 20)
    for name, milliseconds in augment_times(folder, device, rows, steps).items():
        yield f"- bytes to a training batch, {rows} rows, {name}: {milliseconds:.2f} ms"


def _step_lines(folder: Path, device: str, threads: int) -> Iterator[str]:
    cpu = device == "cpu"
    samples, steps = (2, 1) if cpu else (32, 20)
    model = ModelOptions(video="r2plus1d_small", audio="resnet9_small") if cpu else ModelOptions()
    figures = step_figures(folder, device, samples, threads, steps, model, compiled=not cpu)
    how = "bfloat16, channels last" + (", compiled" if figures.compiled else "")
    yield (
        f"- training step, {figures.clips} clips, plain fp32: "
        f"{figures.plain_clips_per_second:.1f} clips/s"
    )
    yield (
        f"- {how}: {figures.fast_clips_per_second:.1f} clips/s, "
        f"{figures.speedup:.2f} × plain (goal: 4)"
    )
    yield (
        f"- fed by the stream: {figures.streamed_clips_per_second:.1f} clips/s, "
        f"{figures.share_waiting:.1%} of a step spent waiting for data (goal: at most 3 %)"
    )
    peak = matrix_rate(device, 512 if cpu else 8192)
    reached = figures.flops_per_clip * figures.fast_clips_per_second
    yield (
        f"- {reached / 1e12:.3g} TFLOP/s in the step, {reached / peak:.1%} of the "
        f"{peak / 1e12:.3g} that a bfloat16 matrix product reaches here"
    )


def _line(rate: Rate) -> str:
    number = rate.note if rate.segments_per_second is None else f"{rate.segments_per_second:.0f}"
    psnr = "" if rate.psnr is None else ("equal" if rate.psnr > 200 else f"{rate.psnr:.1f} dB")
    return f"| {rate.short_side} | {rate.codec} | {rate.decoder} | {number} | {psnr} |"


def _peer_lines(folder: Path, device: str, threads: int, seconds: float) -> Iterator[str]:
    """Torchcodec's and DALI's own ways from files, on the same clips, taken out of their shards."""
    from shards import DataSet

    for path in sorted(folder.glob("*-*")):
        codec, size = path.name.split("-")
        dataset = DataSet.open(path)
        files = []
        for number in range(len(dataset)):
            file = path / f"{number}.mp4"
            file.write_bytes(dataset.read_member(dataset.sample(number), "mp4"))
            files.append(file)
        peers: dict[str, Callable[[], float]] = {
            "torchcodec `VideoDecoder`, files": partial(
                torchcodec_rate, files, device, threads, seconds
            ),
            "DALI `fn.readers.video`, files": partial(reader_rate, files, threads, seconds),
        }
        for name, rate in peers.items():
            try:
                yield _line(Rate(name, codec, int(size), rate()))
            except (ImportError, RuntimeError) as error:
                note = str(error).splitlines()[0]
                yield _line(Rate(name, codec, int(size), None, note=note))


def _run_tests() -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(done.stdout)
    summary = next(iter(reversed(done.stdout.split("\n")[:-1])), "no output").strip("= ")
    return (0 if done.returncode in (0, 5) else 1), summary


def _machine(cpu: bool) -> str:
    name = "the CPU alone" if cpu else torch.cuda.get_device_name()
    return (
        f"{name}, {os.cpu_count()} CPU cores, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def _write(page: Path, lines: list[str]) -> None:
    """Replace what stands between the two marks of the page."""
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    page.write_text(head + BEGIN + "\n" + "\n".join(lines) + "\n" + END + tail, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
