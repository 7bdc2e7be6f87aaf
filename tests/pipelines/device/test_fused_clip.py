"""The fused kernel: in Triton's interpreter it does what the torch functions do; it compiles."""

# mypy: disable-error-code="import-untyped"

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")

from pipelines.color import rgb_from_pixels
from pipelines.device import fused_clip
from pipelines.device.options import VideoAugment
from tests.pipelines.device.fused_clip_cases import CASES

ROOT = Path(__file__).parents[3]
#: A step of the type at the greatest value of a normalised clip, some 2.5 (the interpreter cuts
#: bits off where a GPU rounds to nearest).
ROUNDING = {torch.bfloat16: 2**-6, torch.float16: 2**-9}


def run_cases(device: str, **environment: str) -> dict[str, Any]:
    program = ROOT / "tests" / "pipelines" / "device" / "fused_clip_cases.py"
    done = subprocess.run(
        [sys.executable, str(program), device],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    return run_cases("cpu", TRITON_INTERPRET="1")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_equals_the_torch_functions(interpreted: dict[str, Any], name: str) -> None:
    found = interpreted[name]
    assert found["spread"] > 0.5  # clips that are all one colour would prove nothing
    assert found["difference"] < max(1e-4, ROUNDING.get(CASES[name].dtype, 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_compiled_kernel_equals_the_torch_functions() -> None:
    for name, found in run_cases("cuda").items():
        assert found["difference"] < max(1e-3, ROUNDING.get(CASES[name].dtype, 0)), name


def small_batch(num_rows: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.full((num_rows, 2, 16 * 16 * 3 // 2), 128, dtype=torch.uint8, device=device)
    return frames, torch.full((num_rows, 3, 2, 8, 8), torch.nan, device=device)


@pytest.fixture
def grids(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The grid of each launch of the kernel, which does nothing else."""
    launched: list[tuple[int, ...]] = []

    class Kernel:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            launched.append(grid)
            return lambda *_: None

    monkeypatch.setattr(fused_clip, "clip_kernel", Kernel())
    return launched


@pytest.mark.parametrize(
    ("num_rows", "expected"),
    [
        (0, []),  # a grid of no blocks would be refused by CUDA
        (1, [(2,)]),
        (70_000, [(140_000,)]),  # CUDA ends the second and third axis at 65,535, not the first
    ],
)
def test_the_kernel_is_launched_on_one_axis(
    grids: list[tuple[int, ...]], num_rows: int, expected: list[tuple[int, ...]]
) -> None:
    frames, out = small_batch(num_rows, "cpu")
    rgb = rgb_from_pixels("i420", "bt709", "limited")
    fused_clip.fused_clip(frames, 16, 16, rgb, VideoAugment(size=8), None, out)
    assert grids == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_more_rows_than_an_axis_of_a_grid_takes() -> None:
    frames, out = small_batch(70_000, "cuda")
    rgb = rgb_from_pixels("i420", "bt709", "limited")
    fused_clip.fused_clip(frames, 16, 16, rgb, VideoAugment(size=8), None, out)
    assert (out - out[0, 0, 0, 0, 0]).abs().max().item() < 1e-4  # gray is gray, in every row


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 120])
@pytest.mark.parametrize("packed", [False, True])
def test_both_kernels_compile_for_gpus_that_are_not_here(capability: int, packed: bool) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = {
        "height": 128,
        "width": 224,
        "size": 112,
        "packed": packed,
        "row_numbers": 25,
        "block_pixels": 512,
    }
    pointers = {"frames": "*u8", "table": "*fp32", "means": "*fp32", "parts": "*fp32"}
    for kernel in (fused_clip.clip_kernel, fused_clip.sum_kernel):
        signature = {}
        for name in kernel.arg_names:
            number = "fp32" if name.startswith(("low", "high")) else "i32"
            signature[name] = "constexpr" if name in constants else pointers.get(name, number)
        if "out" in signature:
            signature["out"] = "*bf16"
        places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
        source = ASTSource(fn=kernel, signature=signature, constexprs=places)
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert len(compiled.asm["cubin"]) > 1000
