"""Which second comes out when one asks for a second: `python -m benchmarks.clock`.

Seventeen small videos show and sound their own time (tests/clock/corpus.py). Every reader is asked
for the same five seconds of each, picture by picture (30, at the middle of their intervals) and as
sound at 24 kHz; what comes out is read, and the largest error printed, in milliseconds, pictures /
sound. A picture's error is how far the asked instant lies outside the time for which that picture
is on screen. A star: some of what was asked for did not come out, or was not the clip's. Readers
that count are told the number: time since the file's zero × average rate, × sample rate.
"""

import argparse
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipelines.decoding.backends.choice import make_backend
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from shards import Dataset
from tests.clock.corpus import CORPUS, Variant, make_corpus
from tests.clock.measure import (
    CLIP_SECONDS,
    NUM_FRAMES,
    SAMPLE_RATE_HZ,
    Answer,
    Errors,
    Reader,
    answer_of,
    ask,
    build_shards,
    clip_start,
    errors_of,
    index_unprepared,
)

BEGIN, END = "<!-- table: python -m benchmarks.clock --into docs/clock.md -->", "<!-- end -->"


def middles(start: float) -> NDArray[np.float64]:
    return start + (np.arange(NUM_FRAMES) + 0.5) / NUM_FRAMES


def gray(pictures: Any) -> NDArray[np.uint8]:
    """RGB [T, H, W, 3] → [T, H, W]; the clock's pictures have no colour."""
    return np.asarray(np.asarray(pictures)[..., 1], np.uint8)


def ours_on_shards(dataset: Dataset, variant: Variant) -> Errors:
    reader = SegmentReader(dataset, SegmentOptions(decoder="av"))
    errors = []
    for number in range(len(dataset)):
        metadata = dataset.metadata(number)
        if metadata["source"] == variant.file_name:
            for segment in reader.segments(number, [0.0, 0.0421, CLIP_SECONDS - 1]):
                start = clip_start(variant, metadata) + segment.start_seconds
                errors.append(errors_of(variant, start, answer_of(segment)))
    return Errors.largest(errors)


def ours_unprepared(dataset: Dataset, decoder: str, variant: Variant) -> Errors:
    reader = SegmentReader(dataset, SegmentOptions(decoder=decoder, fallback="refuse"))
    number = CORPUS.index(variant)
    return ask(variant, lambda start: answer_of(reader.segments(number, [start])[0]))


def torchcodec_reader(seek_mode: str, path: Path, _zero: float) -> Reader:
    make_backend("torchcodec")  # says what is missing
    decoders: Any = import_module("torchcodec.decoders")
    video = decoders.VideoDecoder(path, seek_mode=seek_mode, dimension_order="NHWC")
    audio = decoders.AudioDecoder(path, sample_rate=SAMPLE_RATE_HZ, num_channels=1)

    def read(start: float) -> Answer:
        luma = sound = None
        with suppress(RuntimeError, IndexError, ValueError):
            luma = gray(video.get_frames_played_at(middles(start).tolist()).data)
        with suppress(RuntimeError, IndexError, ValueError):
            sound = audio.get_samples_played_in_range(start, start + 1.0).data[0].numpy()
        return luma, sound

    return read


def decord_reader(path: Path, zero: float) -> Reader:
    decord: Any = import_module("decord")
    video = decord.VideoReader(str(path), num_threads=1)
    rate = video.get_avg_fps()
    audio = decord.AudioReader(str(path), sample_rate=SAMPLE_RATE_HZ, mono=True)
    wave = audio[:].asnumpy()[0]
    wave = np.pad(wave, (max(0, audio.add_padding()), 0))  # by its own word, to begin at time 0

    def read(start: float) -> Answer:
        numbers = ((middles(start) - zero) * rate).astype(int)
        luma = None
        with suppress(IndexError, decord.DECORDError):
            luma = gray(video.get_batch(numbers).asnumpy())
        return luma, stretch(wave, round(start * SAMPLE_RATE_HZ))

    return read


def frame_number_reader(path: Path, zero: float) -> Reader:
    """PyAV as many scripts use it: frame n of all frames, sample n of all samples."""
    container: Any
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        frames = list(container.decode(video=0))
    pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
        pieces = [p for frame in container.decode(audio=0) for p in resampler.resample(frame)]
    wave = np.concatenate([p.to_ndarray()[0] for p in (*pieces, *resampler.resample(None))])

    def read(start: float) -> Answer:
        numbers = ((middles(start) - zero) * float(rate)).astype(int)
        luma = gray(pictures[numbers[numbers < len(pictures)]])
        return luma, stretch(wave, round((start - zero) * SAMPLE_RATE_HZ))

    return read


def stretch(wave: NDArray[np.float32], first: int) -> NDArray[np.float32] | None:
    """One second of it, or None where it has none."""
    whole = first >= 0 and first + SAMPLE_RATE_HZ <= len(wave)
    return wave[first : first + SAMPLE_RATE_HZ] if whole else None


def peers(paths: Mapping[str, Path]) -> dict[str, Callable[[Variant], Errors]]:
    """Column → how to ask."""

    def asked(make: Callable[[Path, float], Reader], variant: Variant) -> Errors:
        try:
            return ask(variant, make(paths[variant.name], variant.container_start))
        except ImportError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its answer
            print(f"{variant.name}: {' '.join(str(error).split())[:150]}")
            return Errors(math.nan, math.nan, whole=False)

    return {
        "torchcodec exact": partial(asked, partial(torchcodec_reader, "exact")),
        "torchcodec approximate": partial(asked, partial(torchcodec_reader, "approximate")),
        "decord": partial(asked, decord_reader),
        "PyAV, frame number": partial(asked, frame_number_reader),
    }


def shown(errors: Errors) -> str:
    star = "" if errors.whole else " *"
    return f"{milliseconds(errors.video_seconds)} / {milliseconds(errors.audio_seconds)}{star}"


def milliseconds(seconds: float) -> str:
    if math.isnan(seconds):
        return "none"
    return f"{1000 * seconds:.{2 if seconds < 0.01 else 0}f}"


def measure(folder: Path) -> dict[str, dict[str, Errors]]:
    """Variant → column → errors."""
    paths = make_corpus(folder / "videos")
    unprepared = index_unprepared(folder / "unprepared", paths)
    columns: dict[str, Callable[[Variant], Errors]] = {
        "ours, shards": partial(ours_on_shards, build_shards(folder / "built", folder / "videos")),
        "ours, unprepared": partial(ours_unprepared, unprepared, "av"),
    }
    columns |= peers(paths)
    results: dict[str, dict[str, Errors]] = {variant.name: {} for variant in CORPUS}
    for name, errors_for in columns.items():
        try:
            for variant in CORPUS:
                results[variant.name][name] = errors_for(variant)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return results


def versions() -> str:
    found = []
    for package in ("av", "torchcodec", "decord", "torch"):
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    ffmpeg = ".".join(str(n) for n in av.library_versions["libavformat"])
    with suppress(ImportError, RuntimeError):
        core: Any = import_module("torchcodec._core")
        other = ".".join(map(str, core.get_ffmpeg_library_versions()["libavformat"]))
        return f"{', '.join(found)}; libavformat {ffmpeg} in av, {other} under torchcodec"
    return f"{', '.join(found)}; libavformat {ffmpeg} in av"


def as_table(results: Mapping[str, Mapping[str, Errors]], box: Any) -> Table:
    columns = list(next(iter(results.values())))
    table = Table("video", *columns, box=box, show_edge=box is not None)
    for name, row in results.items():
        table.add_row(name, *(shown(row[c]) if c in row else "" for c in columns))
    return table


def as_markdown(results: Mapping[str, Mapping[str, Errors]]) -> str:
    columns = list(next(iter(results.values())))
    lines = [["video", *columns], ["---"] * (len(columns) + 1)]
    lines += [
        [n, *(shown(row[c]) if c in row else "" for c in columns)] for n, row in results.items()
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, help="a Markdown file whose table to replace")
    into = parser.parse_args().into
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder))
    from rich import box

    wide = max(shutil.get_terminal_size().columns, 150)
    Console(width=wide).print(as_table(results, box.SIMPLE))
    print(versions())
    if into is not None:
        text = into.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        table = f"{BEGIN}\n\n{as_markdown(results)}\n\n{versions()}.\n\n{END}"
        into.write_text(before + table + after, encoding="utf-8")


if __name__ == "__main__":
    main()
