"""Everything there is to check and measure on a machine with a GPU, in one table in docs/gpu.md.

    python -m benchmarks.gpu                 the tests marked gpu, then all figures; docs/gpu.md
    python -m benchmarks.gpu --cpu           what a CPU can run of it, small; nothing is written
    python -m benchmarks.gpu --only nvdec    figures of some parts (comma between them), added there

Each part is a process of its own with a time limit, and the page is written line by line: a part
that crashes, hangs or runs out of memory says so in its place, and the others go on.

Without a GPU it says so and ends with exit status 77 (which test harnesses read as "skipped"); 1
means that a test failed.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import torch

from benchmarks import loss
from benchmarks.gpu_decode import (
    DECODERS,
    Rate,
    cases_of,
    decoding_rates,
    file_rates,
    prepare,
    reader_rate,
    torchcodec_rate,
)
from benchmarks.gpu_step import augment_times, matrix_rate, step_figures
from models import EncoderOptions

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
NO_GPU = 77
LIBRARIES: Final = ("torch", "torchcodec", "nvidia-dali-cuda130", "triton", "av")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="run what a CPU can, and write nothing")
    parser.add_argument("--no-tests", action="store_true", help="figures only")
    parser.add_argument("--only", default="", help=f"parts to measure, of {', '.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each decoding figure")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that a part may take")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.cpu and not torch.cuda.is_available():
        print(
            "There is no NVIDIA GPU here that PyTorch can use (torch.cuda.is_available() is "
            "False), so nothing was tested or measured. On a machine with one, this runs the tests "
            "marked gpu and fills in docs/gpu.md; --cpu runs what a CPU can.",
            file=sys.stderr,
        )
        return NO_GPU
    if options.part:
        for line in PARTS[options.part](options):
            print(line, flush=True)
        return 0
    chosen = [name for name in options.only.split(",") if name] or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"--only {', '.join(sorted(unknown))}: parts are {', '.join(PARTS)}")
    lines = _measured(PAGE) if options.only else []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)
        if not options.cpu:
            _write(PAGE, lines)

    command = shlex.join(["python", "-m", "benchmarks.gpu", *(arguments or sys.argv[1:])])
    today, machine = datetime.date.today().isoformat(), _machine(options.cpu)
    say(f"Measured {today} by `{command}` on {machine}; {options.threads} threads.")
    status = 0
    say("")
    if not options.cpu and not options.no_tests and not options.only:
        status = _run_tests(say)
        say("")
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), cases_of(options.cpu), num_clips=4 if options.cpu else 32)
        for place, name in enumerate(chosen):
            if place == 0 and name in RATES:
                say("| short side | codec | decoder | segments/s | PSNR to `av` |")
                say("| --- | --- | --- | --- | --- |")
            elif name not in RATES and (place == 0 or chosen[place - 1] in RATES):
                say("")
            _run_part(name, Path(folder), options, say)
    return status


def _run_part(
    name: str, folder: Path, options: argparse.Namespace, say: Callable[[str], None]
) -> None:
    """One part as a process; its lines as they come, and a last one where it did not end well."""
    words = ["--part", name, "--folder", str(folder), "--threads", str(options.threads)]
    words += ["--seconds", str(options.seconds), *(["--cpu"] if options.cpu else [])]
    command = [sys.executable, "-m", "benchmarks.gpu", *words]
    cause = _run_lines(command, options.limit, say)
    if cause:
        say(f"| | | {name} | {cause} | |" if name in RATES else f"- {name}: {cause}")


def _run_lines(command: list[str], limit: float, say: Callable[[str], None]) -> str:
    """Run a command, say its lines, and give back why it ended if it did not end well."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        )
        timer = threading.Timer(limit, process.kill)
        timer.start()
        assert process.stdout is not None
        for line in process.stdout:
            say(line.rstrip("\n"))
        status = process.wait()
        took_too_long = not timer.is_alive()
        timer.cancel()
        if status == 0:
            return ""
        errors.seek(0)
        said = [line.strip() for line in errors if line.strip()] or ["it said nothing"]
    last = said[-1][:300].replace("|", "/")
    if took_too_long:
        return f"stopped after {limit:.0f} s; last: {last}"
    return f"ended with status {status}: {last}"


def _decode_part(decoder: str) -> Callable[[argparse.Namespace], Iterator[str]]:
    def part(options: argparse.Namespace) -> Iterator[str]:
        device, batch = ("cpu", 4) if options.cpu else ("cuda", 32)
        for case in cases_of(options.cpu):
            yield _line(
                decoding_rates(
                    options.folder, case, decoder, device, options.threads, options.seconds, batch
                )
            )

    return part


def _files_part(
    name: str, rate: Callable[[list[Path], str, int, float], float]
) -> Callable[[argparse.Namespace], Iterator[str]]:
    """A library's own way from files, on the same clips, taken out of their shards."""

    def part(options: argparse.Namespace) -> Iterator[str]:
        device = "cpu" if options.cpu else "cuda"
        for case in cases_of(options.cpu):
            yield _line(
                file_rates(
                    options.folder,
                    case,
                    name,
                    lambda files: rate(files, device, options.threads, options.seconds),
                )
            )

    return part


def _augment_lines(options: argparse.Namespace) -> Iterator[str]:
    device, rows, steps = ("cpu", 4, 1) if options.cpu else ("cuda", 64, 20)
    for name, milliseconds in augment_times(options.folder, device, rows, steps):
        yield f"- {rows} rows, {name}: {milliseconds:.2f} ms"


def _step_lines(options: argparse.Namespace) -> Iterator[str]:
    cpu = options.cpu
    device, samples, steps = ("cpu", 2, 1) if cpu else ("cuda", 32, 20)
    model = EncoderOptions()
    if cpu:
        model = EncoderOptions(video="r2plus1d_small", audio="resnet9_small")
    compiled = not cpu
    while True:
        try:
            figures = step_figures(
                options.folder, device, samples, options.threads, steps, model, compiled
            )
            break
        except torch.OutOfMemoryError:
            if samples == 1:
                raise
            samples //= 2
            torch.cuda.empty_cache()
        except Exception as error:
            if not compiled:
                raise
            yield f"- not compiled: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
            compiled = False
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
        f"- fed by the stream (decoder {figures.decoder}): "
        f"{figures.streamed_clips_per_second:.1f} clips/s, "
        f"{figures.share_waiting:.1%} of a step spent waiting for data (goal: at most 3 %)"
    )
    peak = matrix_rate(device, 512 if cpu else 8192)
    reached = figures.flops_per_clip * figures.fast_clips_per_second
    yield (
        f"- {reached / 1e12:.3g} TFLOP/s in the step, {reached / peak:.1%} of the "
        f"{peak / 1e12:.3g} that a bfloat16 matrix product reaches here"
    )


def _loss_lines(options: argparse.Namespace) -> Iterator[str]:
    sizes = "256,512" if options.cpu else "4096,16384,65536,262144,1048576"
    words = ["--sizes", sizes, "--ways", "dense,tiled,triton,open_clip", "--runs", "2"]
    device = ["--device", "cpu" if options.cpu else "cuda"]
    yield from loss.lines(loss.parser().parse_args([*words, *device]))


#: Parts whose lines are rows of the table.
RATES: Final[dict[str, Callable[[argparse.Namespace], Iterator[str]]]] = {
    **{decoder: _decode_part(decoder) for decoder in DECODERS},
    "torchcodec-files": _files_part("torchcodec `VideoDecoder`, files", torchcodec_rate),
    "dali-reader": _files_part("DALI `fn.readers.video`, files", reader_rate),
}
#: Name → lines, in the order of the page.
PARTS: Final[dict[str, Callable[[argparse.Namespace], Iterator[str]]]] = {
    **RATES,
    "augment": _augment_lines,
    "step": _step_lines,
    "loss": _loss_lines,
}


def _line(rate: Rate) -> str:
    number = rate.note if rate.segments_per_second is None else f"{rate.segments_per_second:.0f}"
    psnr = "" if rate.psnr is None else ("equal" if rate.psnr > 200 else f"{rate.psnr:.1f} dB")
    return f"| {rate.short_side} | {rate.codec} | {rate.decoder} | {number} | {psnr} |"


def _run_tests(say: Callable[[str], None]) -> int:
    """The tests marked gpu: one line for all of them, and one for each that failed."""
    shown: list[str] = []

    def show(line: str) -> None:
        print(line, flush=True)
        shown.append(line)

    pytest = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-rfE", "--tb=short", "tests"]
    cause = _run_lines([*pytest, "--continue-on-collection-errors"], 3600, show)
    summary = next((line for line in reversed(shown) if line.strip()), "no output").strip("= ")
    say(f"Tests marked `gpu`: {summary}")
    failed = [line for line in shown if line.startswith(("FAILED ", "ERROR "))]
    if failed:
        say("")
    for line in failed:
        say(f"- {line[:300]}")
    return 1 if cause else 0


def _machine(cpu: bool) -> str:
    name = "the CPU alone"
    if not cpu:
        name = f"{torch.cuda.get_device_name()} (driver {_driver()}, CUDA {torch.version.cuda})"
    versions = []
    for library in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{library} {importlib.metadata.version(library)}")
    return (
        f"{name}, {os.cpu_count()} CPU cores, Python {platform.python_version()}, "
        f"{', '.join(versions)}"
    )


def _driver() -> str:
    if not shutil.which("nvidia-smi"):
        return "unknown"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(query, stdout=subprocess.PIPE, text=True, timeout=60, check=False).stdout
    return said.splitlines()[0].strip() if said.strip() else "unknown"


def _measured(page: Path) -> list[str]:
    """The lines that stand between the two marks, for others to follow them."""
    block = page.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()
    return [] if block.startswith("Nothing yet") else [*block.splitlines(), ""]


def _write(page: Path, lines: list[str]) -> None:
    """Replace what stands between the two marks of the page."""
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    page.write_text(head + BEGIN + "\n" + "\n".join(lines) + "\n" + END + tail, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
