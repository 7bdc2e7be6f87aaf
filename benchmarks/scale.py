"""What a large data set costs before anything is decoded: time and memory of one rank.

    python -m benchmarks.scale --samples 1000000
    python -m benchmarks.scale --samples 10000000 --packets 162 --linked

Makes data sets of 10,000 shards, the second one as many samples, in a folder that is removed after:
real manifests and indexes; tars whose json is real and whose media are holes. Then, each in a
process of its own: open it; the first batch of the order, a second of bytes of each sample; the
same where a run goes on; keys and labels looked up; and 3,000 samples more, which touch most
shards. Peak and present memory are of that process alone.

With --linked all shards are one, under many names: indexes as large as those of real clips would
not fit on a disk here. Keys and labels are then not looked up.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from benchmarks.made_up_shards import AUDIO, VIDEO
from pipelines.sampling.order import Order
from shards import Dataset, Manifest
from shards.format.index_file import COLUMNS, FORMAT, HEADER_KEY, VERSION, encode_header
from shards.format.manifest import INDEX_SUFFIX, ShardEntry

BATCH = 64
MORE = 3000  # or all
_WIDTHS = {"U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "I64": "<i8"}
_JSON_BYTES, _PACKET_BYTES = 64, 1000


def write_data_set(
    folder: Path, num_samples: int, num_shards: int, packets: int, linked: bool = False
) -> None:
    """A made-up data set of so many samples, each of so many packets in two tracks."""
    each = num_samples // num_shards
    entries: list[ShardEntry] = []
    for shard in range(num_shards):
        name = f"shard-{shard:06d}.tar"
        tar, index = folder / name, folder / (name + INDEX_SUFFIX)
        if not linked or not shard:
            entry = _write_shard(tar, index, shard * each, each, packets)
        else:
            os.link(folder / entries[0].name, tar)
            os.link(folder / (entries[0].name + INDEX_SUFFIX), index)
        entries.append(ShardEntry(name, *list(vars(entry).values())[1:]))
    Manifest(tuple(entries), {"made_by": "benchmarks.scale"}).write(folder)


def _write_shard(tar: Path, index: Path, first: int, count: int, packets: int) -> ShardEntry:
    texts = [
        (b'{"label": "%d", "number": %d}' % (i % 400, i)).ljust(_JSON_BYTES)
        for i in range(first, first + count)
    ]
    media = packets // 2 * _PACKET_BYTES
    json_offset = np.arange(count) * _JSON_BYTES
    media_offset = count * _JSON_BYTES + np.arange(2 * count) * media
    size = count * (_JSON_BYTES + 2 * media)
    with tar.open("wb") as file:
        file.write(b"".join(texts))
        file.truncate(size)
    keys = [b"clip-%08d" % i for i in range(first, first + count)]
    rows: dict[str, Any] = {
        "key_bytes": np.frombuffer(b"".join(keys), "u1"),
        "key_stop": np.cumsum([len(key) for key in keys]),
        "member_stop": np.arange(1, count + 1) * 3,
        "member_extension": np.tile([0, 1, 2], count),
        "member_offset": np.column_stack([media_offset.reshape(count, 2), json_offset]).ravel(),
        "member_size": np.tile([media, media, _JSON_BYTES], count),
        "member_crc32": np.column_stack(
            [np.zeros((count, 2), int), [zlib.crc32(text) for text in texts]]
        ).ravel(),
        "track_stop": np.arange(1, count + 1) * 2,
        "track_member": (np.arange(count)[:, None] * 3 + [0, 1]).ravel(),
        "track_header": np.tile([0, 1], count),
        "track_start": np.zeros(2 * count, int),
        "track_end": np.full(2 * count, 120),
        "packet_stop": np.arange(1, 2 * count + 1) * (packets // 2),
    }
    in_track = np.arange(packets // 2)
    rows |= {
        "packet_offset": (media_offset[:, None] + in_track * _PACKET_BYTES).ravel(),
        "packet_size": np.full(count * packets, _PACKET_BYTES),
        "packet_pts": np.tile(in_track, 2 * count),
        "packet_duration": np.ones(count * packets, int),
        "packet_crc32": np.zeros(count * packets, int),
        "packet_flags": np.tile(in_track % 15 == 0, 2 * count),
    }
    about = {
        "format": FORMAT,
        "version": VERSION,
        "shard": tar.name,
        "shard_size": size,
        "extensions": ["mp4", "flac", "json"],
        "headers": [encode_header(VIDEO), encode_header(AUDIO)],
    }
    columns = {name: rows[name].astype(_WIDTHS[kind]) for name, kind in COLUMNS.items()}
    data = save(columns, metadata={HEADER_KEY: json.dumps(about)})
    index.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return ShardEntry(tar.name, size, "0" * 64, count, len(data), digest)


def measure(folder: Path, what: str) -> dict[str, float]:
    """Open the data set and do one thing; seconds of each, and MiB of memory."""
    seconds: dict[str, float] = {}
    before = _resident()

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - began

    with timed("open"):
        data_set = Dataset.open(folder)
        assert data_set.fingerprint
    opened = _resident()
    order = Order(seed=1, num_samples=len(data_set))
    numbers = {
        "first batch": [order.sample(0, n) for n in range(BATCH)],
        "resumed": [order.sample(3, len(data_set) // 2 + n) for n in range(BATCH)],
        "keys": [order.sample(0, n) for n in range(3)],
        "labels": [order.sample(0, n) for n in range(BATCH)],
        "more": [order.sample(0, n) for n in range(min(MORE, len(data_set)))],
    }[what]
    with timed(what):
        if what == "keys":
            assert [data_set.find(f"clip-{i:08d}") for i in numbers] == numbers
        elif what == "labels":
            assert all(data_set.metadata(i)["label"] == f"{i % 400}" for i in numbers)
        else:
            for i in numbers:
                _read_second(data_set, i)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "open": seconds["open"],
        "seconds": seconds[what],
        "each": 1000 * seconds[what] / len(numbers),
        "cpu": time.process_time(),
        "before": before,
        "opened": opened,
        "after": _resident(),
        "peak": peak,
    }


def _read_second(data_set: Dataset, i: int) -> None:
    sample = data_set.sample(i)
    ranges = []
    for track in (sample.video, sample.audio):
        assert track is not None
        packets = track.packets
        last = min(len(packets), 30) - 1
        start = int(packets.offset[0])
        ranges.append((start, int(packets.offset[last]) + int(packets.size[last]) - start))
    data_set.read_many(sample, ranges)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--packets", type=int, default=4, help="of a sample, in two tracks")
    parser.add_argument("--linked", action="store_true", help="one shard under many names")
    parser.add_argument("--place", type=Path, help="where the data set is made; removed after")
    parser.add_argument("--alone", nargs=2, help="a folder and what to measure, as json")
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(measure(Path(given.alone[0]), given.alone[1])))
        return
    with tempfile.TemporaryDirectory(dir=given.place) as name:
        write_data_set(Path(name), given.samples, given.shards, given.packets, given.linked)
        print(f"{given.samples:,} samples in {given.shards:,} shards, {given.packets} packets each")
        for what in ("first batch", "resumed", "keys", "labels", "more"):
            if what in ("keys", "labels") and given.linked:
                continue
            command = [sys.executable, "-m", "benchmarks.scale", "--alone", name, what]
            done = subprocess.run(command, check=True, capture_output=True)
            line = (
                "open {open:.2f} s · {what} {seconds:.2f} s ({each:.2f} ms each) · CPU {cpu:.2f} "
                "s · memory {before:.0f} → {opened:.0f} → {after:.0f} MiB, peak {peak:.0f}"
            )
            print(line.format(what=what, **json.loads(done.stdout)), flush=True)


if __name__ == "__main__":
    main()
