"""Train with a loop of one's own: from a folder of shards to batches of a plan, in ten lines.

    python examples/own_loop.py data/shards/train

The encoders are toys; any network that takes [N, 3, T, H, W] and [N, 1, F, L] goes in their place.
"""

import sys
from collections.abc import Iterator

import torch
from torch import nn

from gdt import Batch, Plan, named_plan, plan_loss
from pipelines.decoding.segment import SegmentOptions
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.stream import Stream, StreamOptions
from shards import open_samples


def batches(shards: str, plan: Plan, batch_size: int) -> Iterator[Batch]:
    """One epoch: decoded ahead on threads, shuffled, the same in every run with this seed."""
    segment = SegmentOptions(seconds=1.0, num_frames=8)
    options = StreamOptions(batch_size=batch_size, threads=2)
    stream = Stream(open_samples(shards), plan, segment, options, seed=0)
    transform = DeviceTransform(plan, DeviceOptions(), seed=0)
    for raw in stream:  # uint8 frames and waveforms; stream.state_dict() is the position
        yield transform(raw)  # raw.to("cuda") first, where there is a GPU
    stream.close()


def main() -> None:
    """Train for one epoch and print the loss of each step."""
    plan = named_plan("v_shift")
    encoders = nn.ModuleDict(
        {
            "video": nn.Sequential(nn.AdaptiveAvgPool3d(4), nn.Flatten(), nn.Linear(3 * 64, 32)),
            "audio": nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(64, 32)),
        }
    )
    optimizer = torch.optim.SGD(encoders.parameters(), lr=0.1)
    for batch in batches(sys.argv[1], plan, batch_size=8):
        embeddings = torch.cat([encoders[view.modality](view.values) for view in batch.views])
        codes = torch.cat([view.codes for view in batch.views])
        loss = plan_loss(plan, nn.functional.normalize(embeddings), codes, temperature=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"epoch {batch.epoch} step {batch.step}: loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
