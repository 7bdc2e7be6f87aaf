"""An indexer that some samples bring down, for workers to import without importing the tests."""

import os
import signal
from typing import Any

from shards.format.webdataset_tar import Entry
from shards.maintenance import index_tar

MARK = b"this ends the process"
_tracks = index_tar._tracks


def _crashing_tracks(file: Any, entry: Entry) -> Any:
    if MARK in os.pread(file.fileno(), entry.size, entry.offset):
        os.kill(os.getpid(), signal.SIGABRT)
    return _tracks(file, entry)


def crashing_task(task: index_tar.TarTask) -> index_tar.IndexedTar:
    """As the real one, but for samples with the mark."""
    vars(index_tar)["_tracks"] = _crashing_tracks
    return index_tar.index_task(task)
