"""Exact search and ranks in a large gallery, beside FAISS flat called by hand: CPU and memory.

    python -m benchmarks.retrieval --clips 1000000 --queries 10000

Each way runs in a process of its own, whose peak memory is taken, on the same vectors, which lie
mapped in a file. Both use all threads that torch would use (OMP_NUM_THREADS). CPU seconds are
compared: those of the clock depend on what else the machine does. FAISS needs the extra `faiss`;
without it only ours is measured.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

from tools.evaluation.ranking import Scorer, Side, search
from tools.evaluation.retrieval import rank_pairs

DEPTH = 10


class PeakMemory:
    """The most memory of its own that this process takes, in MB, above what it had at first.

    Pages of mapped files are not its own: the system may drop them at any time.
    """

    def __init__(self) -> None:
        self._before = self._most = _own_bytes()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def stop(self) -> float:
        """End the watch; returns MB."""
        self._done.set()
        self._watch.join()
        return (self._most - self._before) / 1e6

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self._most = max(self._most, _own_bytes())


def _own_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def make_vectors(path: Path, count: int, dim: int, seed: int) -> None:
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dim))
    rng = np.random.default_rng(seed)
    for first in range(0, count, 65_536):
        block = rng.standard_normal((min(65_536, count - first), dim), dtype=np.float32)
        rows[first : first + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    rows.flush()


def measure(way: str, folder: Path, device: str) -> dict[str, float | str]:
    """Seconds of one way, and the peak memory of this process."""
    gallery = np.load(folder / "gallery.npy", mmap_mode="r")
    queries = np.load(folder / "queries.npy")
    memory = PeakMemory()
    began, began_cpu = time.perf_counter(), time.process_time()
    if way == "FAISS flat":
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatIP(gallery.shape[1])
        index.add(np.ascontiguousarray(gallery))
        began, began_cpu = time.perf_counter(), time.process_time()  # its copy is not counted
        _, rows = index.search(queries, DEPTH)
    else:
        scorer = Scorer(Side(queries[:, None]), Side(gallery[:, None]), device)
        if way == "search":
            rows, _ = search(scorer, DEPTH)
        else:
            ranking = rank_pairs(scorer, np.arange(len(queries)))
            rows = ranking.above[:, None]
    cpu, wall = time.process_time() - began_cpu, time.perf_counter() - began
    np.save(folder / f"{way.split()[0]}.npy", rows)
    return {"way": way, "cpu": cpu, "wall": wall, "memory_mb": memory.stop()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", help="one way: search, ranks, or 'FAISS flat'")
    parser.add_argument("--folder", type=Path, help="of the vectors; a temporary one by default")
    asked = parser.parse_args()
    if asked.only:
        print(json.dumps(measure(asked.only, asked.folder, asked.device)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        make_vectors(folder / "gallery.npy", asked.clips, asked.dim, 0)
        make_vectors(folder / "queries.npy", asked.queries, asked.dim, 1)
        print(
            f"{asked.queries} queries, {asked.clips} × {asked.dim}, {torch.get_num_threads()} "
            f"threads of {os.cpu_count()} cores, device {asked.device}"
        )
        seconds: dict[str, float] = {}
        for way in ("FAISS flat", "search", "ranks"):
            command = [sys.executable, "-m", "benchmarks.retrieval", "--only", way]
            command += ["--folder", str(folder), "--device", asked.device]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{way:<12} not measured: {done.stderr.strip().splitlines()[-1]}")
                continue
            found = json.loads(done.stdout)
            seconds[way] = found["cpu"]
            base = seconds.get("FAISS flat")
            beside = "" if base is None else f"{found['cpu'] / base:.2f} × FAISS"
            print(
                f"{way:<12} {found['cpu']:8.1f} s CPU {found['wall']:8.1f} s "
                f"{found['memory_mb']:8.0f} MB more  {beside}",
                flush=True,
            )
        if {"FAISS flat", "search"} <= seconds.keys():
            theirs, ours = (np.load(folder / f"{name}.npy") for name in ("FAISS", "search"))
            print(f"the same hits: {100 * (theirs == ours).mean():.3f} %")


if __name__ == "__main__":
    main()
