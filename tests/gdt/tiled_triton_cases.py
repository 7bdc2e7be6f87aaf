"""The Triton loss beside the dense one, case by case; prints the differences as json.

Run as a program: Triton decides at import whether kernels are interpreted (TRITON_INTERPRET=1).
"""

import json
import sys

import torch
import torch.nn.functional as F

from gdt import Plan, named_plan, plan_loss

CASES: dict[str, tuple[Plan, int, int]] = {  # plan, samples, D
    "several positives": (named_plan("i_reversal_v_shift"), 21, 24),
    "more than a block": (named_plan("simclr"), 75, 16),
    "an odd dimension above a chunk": (named_plan("cross_modal_baseline"), 40, 45),
    "more entries than one program sums": (named_plan("v_shift"), 5, 150),
    "weights and soft positives": (
        Plan.from_tables(
            {
                "name": "i_shift",
                "time_shift": {"contrast": [[1, 0.5], [0.25, 1]], "weight": [[1, 2], [0.5, 0]]},
            }
        ),
        20,
        8,
    ),
    "one row": (named_plan("simclr"), 0, 8),
}


def difference(name: str, device: str) -> dict[str, float]:
    """Greatest differences of value and gradient between the two, in float32."""
    plan, samples, dim = CASES[name]
    generator = torch.Generator().manual_seed(0)
    codes = plan.codes(torch.arange(samples + 1))[:-1] if samples else plan.codes(torch.arange(1))
    codes = codes[torch.randperm(len(codes), generator=generator)][: None if samples else 1]
    embeddings = F.normalize(torch.randn(len(codes), dim, generator=generator), dim=1).to(device)
    results = []
    for tiled in (False, "triton"):
        rows = embeddings.clone().requires_grad_()
        loss = plan_loss(plan, rows, codes.to(device), 0.2, tiled=tiled)
        loss.backward()
        assert rows.grad is not None
        results.append((loss.detach(), rows.grad))
    (loss, gradient), (other_loss, other_gradient) = results
    return {
        "loss": float((loss - other_loss).abs()),
        "gradient": float((gradient - other_gradient).abs().max()),
        "size": float(gradient.abs().max()),
    }


if __name__ == "__main__":
    print(json.dumps({name: difference(name, sys.argv[1]) for name in CASES}))
