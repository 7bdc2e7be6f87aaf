"""Time and memory of the contrastive loss, forward and backward: `python -m benchmarks.loss`.

Two plans: hypothesis 9 with weights and soft positives (three positives a row, as the paper's
formula allows), and CLIP's. Of each the dense loss, the same under torch.compile, and tiles; for
CLIP's also open_clip's ClipLoss; on a GPU also the Triton kernel. Every figure is a process of its
own: seconds of the best of some runs, and how much more memory than before the first run was held
at most (on a CPU the process's, on a GPU that of its tensors). A way that would need more than half
of the free memory is not run.

    python -m benchmarks.loss --sizes 1024,65536 --ways dense,tiled
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import Plan, named_plan, plan_loss

SIZES: Final = tuple(2**power for power in range(10, 17))
WAYS: Final = ("dense", "compiled", "tiled", "triton", "open_clip")
TEMPERATURE: Final = 0.07
PLANS: Final = {
    "weighted": Plan.from_tables(
        {
            "name": "i_reversal_i_shift",
            "time_shift": {"contrast": [[1, 0.5], [0.5, 1]]},
            "time_reversal": {"weight": [[1, 0.5], [0.5, 1]]},
        }
    ),
    "clip": named_plan("clip"),
}
#: Bytes an entry of the matrix that a dense loss holds at its most, measured.
DENSE_BYTES: Final = 40


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.loss", description=__doc__)
    made.add_argument("--sizes", default=",".join(map(str, SIZES)), help="rows N")
    made.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}")
    made.add_argument("--plans", default=",".join(PLANS), help=f"of {', '.join(PLANS)}")
    made.add_argument("--dim", type=int, default=256)
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    made.add_argument("--runs", type=int, default=3, help="the best counts; one above 16384 rows")
    made.add_argument("--one", nargs=3, help=argparse.SUPPRESS, metavar=("PLAN", "WAY", "N"))
    return made


def main() -> None:
    options = parser().parse_args()
    if options.one:
        plan, way, size = options.one
        print(*measure(plan, way, int(size), options), flush=True)
        return
    for line in lines(options):
        print(line, flush=True)


def lines(options: argparse.Namespace) -> Iterator[str]:
    """A table in Markdown, row by row."""
    sizes = [int(size) for size in options.sizes.split(",")]
    yield f"| plan | way | {' | '.join(f'N = {size}' for size in sizes)} |"
    yield f"| --- | --- |{' --- |' * len(sizes)}"
    for plan in options.plans.split(","):
        for way in options.ways.split(","):
            if (way == "open_clip" and plan != "clip") or (
                way == "triton" and options.device == "cpu"
            ):
                continue
            figures = [_figure(plan, way, size, options) for size in sizes]
            yield f"| {plan} | {way} | {' | '.join(figures)} |"


def _figure(plan: str, way: str, size: int, options: argparse.Namespace) -> str:
    if way in ("dense", "compiled", "open_clip"):
        needed = size**2 * (DENSE_BYTES if way != "open_clip" else DENSE_BYTES / 8)
        if needed > _free_bytes(options.device) / 2:
            return f"not run: {needed / 2**30:.0f} GiB"
    command = [sys.executable, "-m", "benchmarks.loss", "--one", plan, way, str(size)]
    for name in ("dim", "device", "threads", "runs"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        return f"failed: {last[:60]}"
    seconds, megabytes = map(float, done.stdout.split())
    return f"{seconds:.3g} s, {megabytes:.0f} MiB"


def measure(plan_name: str, way: str, size: int, options: Any) -> tuple[float, float]:
    """Seconds of a forward and backward pass, and MiB held at most on top of the embeddings."""
    torch.set_num_threads(options.threads)
    plan, device = PLANS[plan_name], torch.device(options.device)
    codes = plan.codes(torch.arange(size // plan.num_transformations))
    modality = codes[:, plan.names.index("modality")]
    codes = codes[modality.argsort(stable=True)].to(device)  # as encoders give them
    generator = torch.Generator().manual_seed(0)
    embeddings = F.normalize(torch.randn(len(codes), options.dim, generator=generator), dim=1)
    embeddings = embeddings.to(device).requires_grad_()
    embeddings.grad = torch.zeros_like(embeddings)
    loss = loss_of(plan, way)
    if way == "compiled":  # compiling is not what is measured
        loss(embeddings, codes).backward()
    _reset_peak(device)
    before = _held(device, "VmRSS")
    best = float("inf")
    for _ in range(options.runs if size <= 16384 else 1):
        start = time.perf_counter()
        loss(embeddings, codes).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best, (_held(device, "VmHWM") - before) / 2**20


def loss_of(plan: Plan, way: str) -> Callable[[Tensor, Tensor], Tensor]:
    """What takes embeddings and codes to a loss."""
    if way == "open_clip":
        from open_clip.loss import ClipLoss

        clip = ClipLoss()

        def clip_loss(embeddings: Tensor, _: Tensor) -> Tensor:
            image, text = embeddings.chunk(2)
            return torch.as_tensor(clip(image, text, 1 / TEMPERATURE))

        return clip_loss
    if way == "compiled":
        dense = torch.compile(_dense(plan))
        return lambda embeddings, codes: torch.as_tensor(dense(embeddings, codes))
    if way == "dense":
        return _dense(plan)
    tiled = "triton" if way == "triton" else True
    return lambda embeddings, codes: plan_loss(
        plan,
        embeddings,
        codes,
        TEMPERATURE,
        tiled=tiled,  # type: ignore[arg-type]
    )


def _dense(plan: Plan) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda embeddings, codes: plan_loss(plan, embeddings, codes, TEMPERATURE, tiled=False)


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def _held(device: torch.device, line: str) -> int:
    """Bytes held now ("VmRSS") or at most since the reset ("VmHWM")."""
    if device.type == "cuda":
        held = (
            torch.cuda.memory_allocated() if line == "VmRSS" else torch.cuda.max_memory_allocated()
        )
        return int(held)
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(x.split()[1]) for x in status.splitlines() if x.startswith(line))


def _free_bytes(device: str) -> int:
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    lines_ = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * next(int(x.split()[1]) for x in lines_ if x.startswith("MemAvailable"))


if __name__ == "__main__":
    main()
