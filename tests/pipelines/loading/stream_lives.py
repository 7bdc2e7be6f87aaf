"""A server that starts streams to be killed: it imports once, and forks for each life.

Reads a line of JSON for every life (see `Life`) and answers with the process ids of its ranks. A
rank goes on from the journal's last line, and what it is handed it writes down there before it asks
for more: one line a global batch, by rank 0, with the position and a digest of every sample's rows.
"""

import hashlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from gdt.named_plans import named_plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.stream import Stream, StreamOptions
from pipelines.sampling.mixture import Mixture
from shards import Dataset, Samples


@dataclass(frozen=True)
class Life:
    """What one life is told."""

    shards: str
    is_mixed: bool  # with itself, three to one
    journal: str
    meeting: str  # a file that is not there yet, for the ranks to find each other
    num_ranks: int
    threads: int
    prefetch: int


def stream_of(life: Life, rank: int) -> Stream:
    options = StreamOptions(batch_size=6, threads=life.threads, prefetch=life.prefetch)
    segment = SegmentOptions(seconds=0.5, num_frames=4)
    dataset: Samples = Dataset.open(life.shards)
    if life.is_mixed:
        dataset = Mixture({"a": dataset, "b": dataset}, {"a": 3, "b": 1})
    return Stream(
        dataset, named_plan("v_shift"), segment, options, 3, rank=rank, num_ranks=life.num_ranks
    )


def rows_of(batch: RawBatch) -> list[list[Any]]:
    """[sample, shift, digest of pictures, sound and start] of every row."""
    assert batch.frames is not None
    assert batch.audio is not None
    rows = []
    for row in range(len(batch)):
        digest = hashlib.sha256(batch.frames[row].numpy().tobytes())
        digest.update(batch.audio[row].numpy().tobytes())
        digest.update(batch.start_seconds[row].numpy().tobytes())
        rows.append([int(batch.sample[row]), int(batch.shift[row]), digest.hexdigest()])
    return rows


def entries_of(journal: Path) -> list[dict[str, Any]]:
    """The whole lines; a kill may leave a part of one."""
    whole = journal.read_bytes().rpartition(b"\n")[0] if journal.exists() else b""
    return [json.loads(line) for line in whole.splitlines()]


def live(life: Life, rank: int) -> None:
    """Stream until killed."""
    torch.set_num_threads(1)
    if life.num_ranks > 1:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.distributed.init_process_group(
            "gloo", f"file://{life.meeting}", rank=rank, world_size=life.num_ranks
        )
    stream, journal = stream_of(life, rank), Path(life.journal)
    if known := entries_of(journal):
        stream.load_state_dict(known[-1]["state"])
    with journal.open("r+b" if journal.exists() else "w+b") as file:
        if rank == 0:
            file.seek(journal.read_bytes().rfind(b"\n") + 1)
            file.truncate()
        while True:
            for batch in stream:
                shares: list[Any] = [rows_of(batch)]
                if life.num_ranks > 1:
                    shares = [None] * life.num_ranks
                    torch.distributed.all_gather_object(shares, rows_of(batch))
                if rank == 0:
                    entry = {"state": stream.state_dict(), "rows": [*chain(*shares)]}
                    file.write(json.dumps(entry).encode() + b"\n")
                    file.flush()


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the killed leave no zombies
    print("ready", flush=True)
    for line in sys.stdin:
        life = Life(**json.loads(line))
        pids = []
        for rank in range(life.num_ranks):
            pid = os.fork()
            if pid == 0:
                sys.stdin.close()
                try:
                    live(life, rank)
                finally:
                    os._exit(1)
            pids.append(pid)
        print(json.dumps(pids), flush=True)


if __name__ == "__main__":
    main()
