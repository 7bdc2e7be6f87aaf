"""Applies a function to every sample of a run's data set: what an epoch of clustering begins with.

evaluation_batches (this rank's part) ─► device transform ─► embed ─► rows by sample, all ranks'
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from gdt import Batch, num_ranks
from models import Method
from models.method import EmbedBatch
from pipelines.device.transform import DeviceTransform
from pipelines.loading.evaluation import evaluation_batches
from pipelines.loading.raw_batch import RawBatch
from pipelines.skips import SkipLog
from shards import Samples
from tools.runs.config import Config


class WholeDataset:
    """See `models.method.EmbedDataset`.

    Args:
        method: is put into evaluation mode, or training mode, while it is applied.
        dataset: the run's.
        config: the run's.
        transforms: to batches; by whether in training.
        epoch: which training augmentation is drawn.
        device: of the method.
        skip_log: where skips go.
    """

    def __init__(
        self,
        method: Method,
        dataset: Samples,
        config: Config,
        transforms: Mapping[bool, DeviceTransform],
        epoch: int,
        device: torch.device,
        skip_log: SkipLog,
    ) -> None:
        self.method, self.dataset, self.config = method, dataset, config
        self.transforms, self.epoch, self.device = transforms, epoch, device
        self.skip_log = skip_log

    @torch.no_grad()
    def __call__(self, embed: EmbedBatch, *, training: bool = False) -> Mapping[str, Tensor]:
        """Return, by modality, what `embed` gives for each sample: float32 [num_samples, …]."""
        found: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        was_training = self.method.training
        self.method.train(training)
        try:
            for raw in self._batches():
                for modality, samples, values in self._rows(raw, training=training):
                    found[modality].append((samples, embed(modality, values).float().cpu()))
        finally:
            self.method.train(was_training)
        return {modality: self._by_sample(rows) for modality, rows in found.items()}

    def _batches(self) -> Iterator[RawBatch]:
        """The raw batches of this rank's part of the data set."""
        rank = dist.get_rank() if num_ranks() > 1 else 0
        first, stop = (len(self.dataset) * n // num_ranks() for n in (rank, rank + 1))
        data = self.config.data
        batches = evaluation_batches(
            self.dataset,
            self.method.plan.modalities,
            self.config.segment,
            batch_size=max(1, data.batch_size // num_ranks()),
            threads=data.threads,
            skip_log=self.skip_log,
            isolate_seconds=data.isolation_limit_seconds,
            samples=np.arange(first, stop),
        )
        return (replace(batch, epoch=self.epoch) for batch in batches)

    def _rows(self, raw: RawBatch, *, training: bool) -> Iterable[tuple[str, Tensor, Tensor]]:
        """One row a sample of each modality: its sample, its values."""
        plan = self.method.plan
        batch: Batch = self.transforms[training](raw.to(self.device))
        for name in ("augmentation", "crop", "time_reversal"):
            column = plan.column(name)
            if column is not None:
                batch = batch.where(column, 0)
        for view in batch.views:
            yield view.modality, view.codes[:, plan.names.index("sample")].cpu(), view.values

    def _by_sample(self, rows: list[tuple[Tensor, Tensor]]) -> Tensor:
        samples, values = (torch.cat(part) for part in zip(*rows, strict=True))
        table = torch.zeros(len(self.dataset), *values.shape[1:])
        table[samples] = values
        if num_ranks() > 1:
            table = table.to(self.device)
            dist.all_reduce(table)  # a sample is on one rank, and zero on the others
        return table.to(self.device)
