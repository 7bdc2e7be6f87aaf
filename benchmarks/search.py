"""How long `gdt search` takes from a cold start, and `gdt serve` for each query: CPU and wall.

    python -m benchmarks.search --index index rain.wav --repeat 3

Cold: the command is run anew, as often as asked, and the least is shown: for a clip of the index by
its key, and for each file. Beside it stands what importing torch alone takes here, and what the
imports of the command take: all else is the work itself. Served: a server of the same index is
asked over HTTP, and the middle and the slowest twentieth of its answers are shown.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from urllib.parse import urlencode

import numpy as np

from tools.search.index import SearchIndex
from tools.search.searcher import Searcher
from tools.search.server import make_server

IMPORTS = "import tools.cli, tools.search.report, tools.search.query_encoder"


def of_process(command: Sequence[str], repeat: int) -> tuple[float, float]:
    """The least CPU and wall seconds of a command."""
    found = []
    for _ in range(repeat):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append((cpu, wall))
    return min(cpu for cpu, _ in found), min(wall for _, wall in found)


def row(name: str, cpu: float, wall: float, unit: str = "s") -> None:
    print(f"{name:<44} {cpu:8.2f} {wall:8.2f} {unit}")


def cold(index: Path, key: str, files: Sequence[Path], repeat: int) -> None:
    python = [sys.executable, "-c"]
    row("import torch", *of_process([*python, "import torch"], repeat))
    row("imports of a query by file", *of_process([*python, IMPORTS], repeat))
    search = [sys.executable, "-m", "tools", "search", "--index", str(index), "--json"]
    row("gdt search KEY", *of_process([*search, key], repeat))
    for file in files:
        row(f"gdt search {file.name}", *of_process([*search, str(file)], repeat))


def served(index: Path, key: str, files: Sequence[Path], queries: int) -> None:
    began = time.process_time()
    server = make_server(Searcher(SearchIndex(index), device="cpu"), "127.0.0.1", 0)
    row("start of the server, after imports", time.process_time() - began, 0.0)
    Thread(target=server.serve_forever, daemon=True).start()
    asked: list[tuple[str, str, str, bytes | None]] = [
        ("by key", "GET", "/search?" + urlencode({"key": key}), None)
    ]
    for file in files:
        path = "/search?" + urlencode({"name": file.name})
        asked.append((f"by {file.name}", "POST", path, file.read_bytes()))
    connection = HTTPConnection("127.0.0.1", server.server_address[1])
    for name, method, path, body in asked:
        seconds, cpu = [], time.process_time()
        for _ in range(queries):
            began = time.perf_counter()
            connection.request(method, path, body)
            answer = json.loads(connection.getresponse().read())
            seconds.append(time.perf_counter() - began)
            assert answer["hits"], answer
        cpu = (time.process_time() - cpu) / queries
        middle, slow = 1000 * np.quantile(seconds, [0.5, 0.95])
        row(f"served {name}", 1000 * cpu, middle, f"ms (95 %: {slow:.0f})")
    server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=3, help="cold starts of each kind")
    parser.add_argument("--queries", type=int, default=40, help="of the server, of each kind")
    parser.add_argument("files", type=Path, nargs="*", help="media files to ask with")
    given = parser.parse_args()
    key = str(SearchIndex(given.index).columns["key"][0])
    print(f"{'':<44} {'CPU':>8} {'wall':>8}")
    cold(given.index, key, given.files, given.repeat)
    served(given.index, key, given.files, given.queries)


if __name__ == "__main__":
    main()
