"""A first look at a data set and at what a plan makes of it, cell by cell (`# %%`).

Run it as a script, or cell by cell in an editor that knows such cells:

    python examples/explore.py data/shards/train segments.png
"""

# %% Open a data set: nothing is decoded yet
import sys
from pathlib import Path

import torch

from gdt import contrastive_loss, named_plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from shards import open_samples
from tools.display.contact_sheet import contact_sheet
from tools.display.segment_views import contact_row

shards, picture = sys.argv[1:3]
dataset = open_samples(shards)
first = dataset.sample(0)
print(dataset)
print(f"{first.key}: members {', '.join(first.members)}; {dataset.metadata(0)}")

# %% One second of video and audio from three clips, on one clock
reader = SegmentReader(dataset, SegmentOptions(seconds=1.0, num_frames=8))
rows = []
for number in range(min(3, len(dataset))):
    sample = dataset.sample(number)
    start, stop = reader.span(sample)
    middle = start + max(0.0, stop - start - 1.0) / 2
    (segment,) = reader.segments(number, [middle])
    rows.append(contact_row(f"{sample.key}, from {middle:.2f} s", segment))
contact_sheet(rows, Path(picture))
print(f"drew {picture}")

# %% What a plan relates: c and w of a batch of two samples
plan = named_plan("v_reversal_i_shift")
codes = plan.codes(torch.arange(2))
contrast, weight = plan.contrast(codes, codes), plan.weight(codes, codes)
print(f"{len(codes)} transformations, {int((contrast * weight > 0).sum())} positive pairs:")
for code in codes[:4]:
    print(f"  {plan.row_name(code)}")

# %% The loss when all embeddings are equal: what training begins from
equal = torch.ones(len(codes), 8) / 8**0.5
print(f"loss of equal embeddings {contrastive_loss(equal, equal, contrast, weight, 0.07):.4f}")
