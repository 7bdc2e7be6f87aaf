"""Turn whatever goes wrong with a sample into a skip that names it, its stage and its cause.

Damage takes decoders, and the code around them, where nobody foresaw it: so every error counts as
the sample's that is raised while its own bytes are read or decoded. What goes wrong with every
sample ends the run all the same, as too many skips.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from pipelines.decoding.backends.backend import MediaError
from pipelines.skips import MismatchError, SkipError
from shards import IndexedSample, ShardError
from shards.media.faults import passes, unexpected

__all__ = ["sample_faults", "skip_of"]

#: Not the sample's: options that it does not go with, and a GPU that fails or is full.
_PASS: Final = (SkipError, MismatchError, torch.OutOfMemoryError, torch.AcceleratorError)


@contextmanager
def sample_faults(sample: IndexedSample) -> Iterator[None]:
    """Turn whatever goes wrong inside into a skip of the sample.

    Raises:
        SkipError: names shard, key, stage and cause.
        MismatchError: the options do not go with the sample; passed on.
        MemoryError: passed on, as what a GPU's driver raises is.
    """
    try:
        yield
    except _PASS:
        raise
    except MediaError as error:
        raise skip_of(sample, error.stage, error.cause) from error
    except ShardError as error:
        raise skip_of(sample, "read", str(error)) from error
    except MemoryError:
        raise
    except Exception as error:
        stage = "read" if passes(error) else "decode"
        raise skip_of(sample, stage, ": ".join(unexpected(error))) from error


def skip_of(sample: IndexedSample, stage: str, cause: str) -> SkipError:
    """A skip of this sample."""
    return SkipError(shard=sample.shard, key=sample.key, stage=stage, cause=cause)
