"""Bound the memory that one task of a worker process may add: a bomb costs its sample, not the run.

A table of sizes or a compressed profile of a few bytes may ask for gigabytes. Under the limit the
system refuses them, which Python and libav report as an error of memory.
"""

import os
import resource
from pathlib import Path

__all__ = ["bound_memory"]

_STATM = Path("/proc/self/statm")  # Linux; elsewhere there is no limit


def bound_memory(more_bytes: int) -> None:
    """Let this process map so many bytes more than it does now; called again, from then on.

    It counts address space: what is shared, or never written to, counts too.
    """
    if not _STATM.exists():
        return
    pages = int(_STATM.read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + more_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
