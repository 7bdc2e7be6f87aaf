"""What a data set holds, in numbers: from its indexes, and from the json of every sample.

Sizes, lengths, rates and codecs are in the indexes, which are small; sources and labels are in the
samples' json, a few hundred bytes each that are read where they lie.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.building.report import BuildSummary, count, read_report
from shards.building.target import REPORT_NAME
from shards.format.index import IndexedSample, Track
from shards.maintenance.verify import PARTS, open_data_sets
from shards.reading.dataset import Dataset
from shards.reading.remote_store import RemoteStore
from shards.storage.transfer import RemoteOptions
from shards.storage.urls import folder_or_url, public

_READERS = 16  # of json, where a request takes its time
_BATCH = 1024


@dataclass
class Stats:
    """Totals, counts by what they are of, and one number per sample for distributions.

    deinterlaced: samples whose source has interlaced frames, as their json says.
    clip_seconds, clip_bytes: float64 [N] and int64 [N], of every sample; bytes of all its members.
    skipped: sources and clips that the build left out, by cause; empty where no report is there.
    """

    location: str
    samples: int = 0
    shards: int = 0
    bytes: int = 0
    seconds: float = 0.0
    video_seconds: float = 0.0
    video_bytes: int = 0
    audio_seconds: float = 0.0
    audio_bytes: int = 0
    sources: int = 0
    deinterlaced: int = 0
    frame_rates: Counter[str] = field(default_factory=Counter)
    coded_sizes: Counter[str] = field(default_factory=Counter)
    codecs: Counter[str] = field(default_factory=Counter)
    sample_rates: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    skipped_sources: Counter[str] = field(default_factory=Counter)
    skipped_clips: Counter[str] = field(default_factory=Counter)
    clip_seconds: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    clip_bytes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for json, with five quantiles in place of the distributions."""
        plain = {k: v for k, v in vars(self).items() if not k.startswith("clip_")}
        plain |= {k: dict(v.most_common()) for k, v in plain.items() if isinstance(v, Counter)}
        plain["clip_seconds"] = quantiles(self.clip_seconds)
        plain["clip_bytes"] = quantiles(self.clip_bytes)
        plain["bytes_per_second"] = quantiles(self.bytes_per_second)
        return plain

    @property
    def bytes_per_second(self) -> npt.NDArray[np.float64]:
        """Bytes of a sample for a second of it, float64 [N]; of samples that have a length."""
        long = self.clip_seconds > 0
        return self.clip_bytes[long] / self.clip_seconds[long]


def quantiles(values: npt.NDArray[Any]) -> dict[str, float]:
    """Least, quarter, half, three quarters and most of some values; empty where there are none."""
    names = ("min", "25 %", "50 %", "75 %", "max")
    if not len(values):
        return {}
    return dict(zip(names, np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist(), strict=True))


def stats(
    data_set: Path | str,
    *,
    remote: RemoteOptions | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Stats:
    """Count what a data set holds.

    Args:
        data_set: its folder or URL, or a folder with train and val, which are counted together.
        remote: connections, attempts and cache, for a URL.
        progress: called with samples done and samples to do.

    Raises:
        ShardError: it cannot be opened, or a sample's json is damaged.
    """
    place = folder_or_url(data_set)
    stores = [store for store, _ in open_data_sets(place, remote)]
    places = [s.url if isinstance(s, RemoteStore) else s.location for s in stores]
    sets = [Dataset.open(each, remote=remote) for each in places]
    found = Stats(f"{sets[0].path}" if len(sets) == 1 else public(f"{place}"))
    total = sum(map(len, sets))
    seconds, sizes = np.zeros(total), np.zeros(total, np.int64)
    sources = np.zeros(total, np.uint64)
    done = 0
    for each in sets:
        found.shards += len(each.manifest.shards)
        found.bytes += sum(shard.size for shard in each.manifest.shards)
        for sample, info in _samples(each):
            seconds[done], sizes[done] = _count_tracks(sample, found)
            sources[done] = _hash(str(info.get("source", sample.key)))
            found.labels.update(_labels(info))
            found.deinterlaced += info.get("deinterlaced") is True
            done += 1
            if done % 256 == 0 or done == total:
                progress(done, total)
    found.samples, found.seconds = total, float(seconds.sum())
    found.sources = len(np.unique(sources))
    found.clip_seconds, found.clip_bytes = seconds, sizes
    if isinstance(place, Path):
        _count_skips(place, found)
    return found


def _samples(data_set: Dataset) -> Iterator[tuple[IndexedSample, dict[str, Any]]]:
    if not data_set.is_remote:
        for i in range(len(data_set)):
            yield data_set.sample(i), data_set.metadata(i)
        return
    with ThreadPoolExecutor(_READERS) as pool:
        for first in range(0, len(data_set), _BATCH):
            numbers = range(first, min(first + _BATCH, len(data_set)))
            for i, info in zip(numbers, pool.map(data_set.metadata, numbers), strict=True):
                yield data_set.sample(i), info


def _count_tracks(sample: IndexedSample, found: Stats) -> tuple[float, int]:
    """Add a sample's tracks; returns its length in seconds and its bytes."""
    length = 0.0
    for track in (sample.video, sample.audio):
        if track is None:
            continue
        lasts = track.stop_seconds - track.start_seconds
        length = length or lasts
        found.codecs[f"{track.codec} in .{track.member}"] += 1
        if track.kind == "video":
            found.video_seconds += lasts
            found.video_bytes += track.member_size
            found.coded_sizes[f"{track.width}×{track.height}"] += 1
            found.frame_rates[_rate(track)] += 1
        else:
            found.audio_seconds += lasts
            found.audio_bytes += track.member_size
            found.sample_rates[f"{track.sample_rate_hz} Hz × {track.num_channels}"] += 1
    return length, sum(member.size for member in sample.members.values())


def _rate(track: Track) -> str:
    return "unknown" if track.frame_rate is None else f"{float(track.frame_rate):.6g}"


def _labels(info: dict[str, Any]) -> list[str]:
    several = info.get("labels")
    if isinstance(several, list):
        return [str(label) for label in several]
    return [str(info["label"])] if "label" in info else []


def _hash(text: str) -> int:
    return int.from_bytes(
        blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big"
    )


def _count_skips(folder: Path, found: Stats) -> None:
    """Add what the report says was left out; train and val have theirs in the folder above."""
    above = [folder.parent] if folder.name in PARTS else []
    for place in [folder, *above]:
        path = place / REPORT_NAME
        if path.exists():
            summary = BuildSummary()
            for _ in count(read_report(path), summary):
                pass
            found.skipped_sources = summary.skipped_sources
            found.skipped_clips = summary.skipped_clips
            return
