"""The Triton loss: the dense one's values in Triton's interpreter; it compiles; what it refuses."""

# mypy: disable-error-code="import-untyped"

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gdt import LossOptions, named_plan, plan_loss
from tests.gdt.tiled_triton_cases import CASES

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")

ROOT = Path(__file__).parents[2]


def run_cases(device: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "gdt" / "tiled_triton_cases.py"), device],
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


@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_equals_the_dense_loss(interpreted: dict[str, Any], name: str) -> None:
    found = interpreted[name]
    assert found["loss"] < 1e-5
    assert found["gradient"] < 1e-5
    if name != "one row":
        assert found["size"] > 1e-3  # gradients of nothing would prove nothing


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_compiled_kernel_equals_the_dense_loss() -> None:
    for name, found in run_cases("cuda").items():
        assert found["loss"] < 1e-4, name
        assert found["gradient"] < 1e-4, name


@pytest.mark.slow(seconds=15)
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernels_compile_for_gpus_that_are_not_here(capability: int) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from gdt import tiled_triton

    types = {"samples": "*i64", "spans": "*i64", "places": "*i32"}
    numbers = ("dim", "grid", "num_queries", "num_keys", "num_own", "num_others")
    sizes = {"chunk": 32, "size": 64, "output": 128}
    for kernel, flags in (
        (tiled_triton._forward, {}),
        (tiled_triton._backward, {"is_query": True}),
        (tiled_triton._backward, {"is_query": False}),
    ):
        names = kernel.arg_names
        constants = {n: v for n, v in {**sizes, **flags}.items() if n in names}
        signature = {
            name: "constexpr"
            if name in constants
            else ("i32" if name in numbers else types.get(name.rpartition("_")[2], "*fp32"))
            for name in names
        }
        places = {(names.index(name),): value for name, value in constants.items()}
        source = ASTSource(fn=kernel, signature=signature, constexprs=places)
        target = GPUTarget("cuda", capability, 32)
        compiled = triton.compile(source, target=target, options={"num_warps": 8})
        assert len(compiled.asm["cubin"]) > 1000


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        (LossOptions("sigmoid"), torch.float32),
        (LossOptions(other_positives="out"), torch.float32),
        (LossOptions(), torch.float64),
    ],
)
def test_what_the_kernel_does_not_do_is_said(options: LossOptions, dtype: torch.dtype) -> None:
    plan = named_plan("simclr")
    codes = plan.codes(torch.arange(2))
    with pytest.raises(ValueError, match="tiled = True does them all"):
        plan_loss(plan, torch.ones(4, 2, dtype=dtype), codes, 0.1, options, tiled="triton")
