"""Which of several processes of one run writes."""

from collections.abc import Mapping


def is_first_rank(environment: Mapping[str, str]) -> bool:
    """Whether this process is the one that writes, as torchrun, SLURM or Lightning tell it."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if name in environment:
            return environment[name] == "0" and environment.get("NODE_RANK", "0") == "0"
    return environment.get("NODE_RANK", "0") == "0"
