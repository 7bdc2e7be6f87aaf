"""Explains what batch norm refuses: one row, which has no variance."""

from collections.abc import Iterator
from contextlib import contextmanager

from gdt import Batch
from tools.training.finite import TrainingError

_TORCHS = "more than 1 value per channel"


@contextmanager
def batch_norm_explained(batch: Batch, batch_size: int, num_ranks: int) -> Iterator[None]:
    """Raise TrainingError, saying what to set, where batch norm is given a single row."""
    try:
        yield
    except ValueError as error:
        if _TORCHS not in str(error):
            raise
        of_ranks = f" on {num_ranks} ranks" if num_ranks > 1 else ""
        sync = ", lower the ranks, or set trainer.sync_batch_norm" if num_ranks > 1 else ""
        raise TrainingError(
            f"epoch {batch.epoch} step {batch.step}: batch norm needs two rows, and got one of "
            f"data.batch_size = {batch_size}{of_ranks} (skipped samples leave their places "
            f"empty): raise data.batch_size{sync}"
        ) from error
