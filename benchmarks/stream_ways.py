"""Ways to load one second of picture and sound in batches: ours, and those of our peers.

A peer's way is what a user of it would write: a function from a clip's bytes to RGB frames and a
waveform, under torch's DataLoader. Random access to members costs the peers with a map-style data
set nothing but the read: they are given the place of every member by our index.

Legend: B segments of a batch, T frames, H×W pixels, S audio samples.
"""

import io
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import data

from gdt.named_plans import named_plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.loading.stream import Stream, StreamOptions
from shards import Dataset

__all__ = ["BATCH", "CLIP_SECONDS", "NUM_FRAMES", "RATE", "SIZE", "Way", "ways"]

BATCH: Final = 16
REFERENCE_BATCH: Final = 4  # its segments take so long that a batch of 16 would be a measurement
NUM_FRAMES: Final = 30
RATE: Final = 24_000
CLIP_SECONDS: Final = 10.0
SIZE: Final = (224, 128)

#: (bytes of the picture's member, of the sound's, start in seconds) → uint8 [T, …], float32 [S].
Decode = Callable[[bytes, bytes, float], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Way:
    """One way to load.

    Attributes:
        name: for the table.
        batches: workers → (a context) an endless iterator of the numbers of segments of batches.
        one: (clip number, start) → frames uint8 [T, H·W·3/2] or RGB [T, H, W, 3], sound [S].
        originals: whether it reads the original clips and not the shards.
    """

    name: str
    batches: Callable[[int], AbstractContextManager[Iterator[int]]]
    one: Callable[[int, float], tuple[NDArray[np.uint8], NDArray[np.float32]]]
    originals: bool = False


def ways(dataset: Dataset, originals: list[Path]) -> tuple[list[Way], list[str]]:
    """All that can run here, ours first; and why the others cannot."""
    found, missing = [ours(dataset), ours(dataset, isolate=True)], []
    makers: list[Callable[[], Way]] = [
        lambda: torchcodec(dataset, "approximate"),
        lambda: torchcodec(dataset, "exact"),
        lambda: webdataset(dataset, "webdataset + PyAV", decode_by_pyav),
        lambda: webdataset(dataset, "webdataset + Energon's AVDecoder", energon()),
        lambda: reference(originals),
    ]
    for make in makers:
        try:
            found.append(make())
        except (ImportError, RuntimeError) as error:
            missing.append(str(error).splitlines()[0])
    return found, missing


def ours(dataset: Dataset, *, isolate: bool = False) -> Way:
    """The stream: planes, waveforms and codes, decoded on threads or in worker processes."""
    reader = SegmentReader(dataset, SegmentOptions(num_frames=NUM_FRAMES, sample_rate_hz=RATE))

    @contextmanager
    def batches(workers: int) -> Iterator[Iterator[int]]:
        options = StreamOptions(batch_size=BATCH, threads=workers, isolate=isolate)
        plan = named_plan("cross_modal_baseline")
        stream = Stream(dataset, plan, reader.options, options, seed=0)

        def numbers() -> Iterator[int]:
            while True:
                yield from map(len, stream)

        try:
            yield numbers()
        finally:
            stream.close()

    def one(index: int, start: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        segment = reader.segments(index, [start])[0]
        assert segment.video is not None
        assert segment.audio is not None
        return segment.video, segment.audio

    return Way("ours, isolated in processes" if isolate else "ours, threads", batches, one)


class Clips(data.Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """Map-style: item n is a random second of a random clip, the same one whoever asks."""

    def __init__(self, num_clips: int, load: Callable[[int, float], Any]) -> None:
        self._num_clips, self._load = num_clips, load

    def __len__(self) -> int:
        return 1 << 24

    def __getitem__(self, n: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        rng = np.random.default_rng((0, n))
        index = int(rng.integers(self._num_clips))
        return (*self._load(index, float(rng.random() * (CLIP_SECONDS - 1))), index)


@contextmanager
def _loading(clips: Any, workers: int, **options: Any) -> Iterator[Iterator[int]]:
    loader: data.DataLoader[Any] = data.DataLoader(
        clips, num_workers=workers, prefetch_factor=2, **options
    )
    iterator = iter(loader)
    try:
        yield (len(batch[0]) for batch in iterator)
    finally:
        iterator._shutdown_workers()  # type: ignore[attr-defined]


def _mapped(
    name: str, num_clips: int, load: Callable[[int, float], Any], *, originals: bool
) -> Way:
    def one(index: int, start: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        return _arrays(*load(index, start))

    return Way(
        name,
        lambda workers: _loading(
            Clips(num_clips, load), workers, batch_size=REFERENCE_BATCH if originals else BATCH
        ),
        one,
        originals,
    )


def _arrays(
    frames: torch.Tensor, sound: torch.Tensor
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    pixels = frames.permute(0, 2, 3, 1) if frames.shape[1] == 3 else frames
    return pixels.contiguous().numpy(), sound.numpy()


def _members(dataset: Dataset, index: int) -> tuple[bytes, bytes]:
    sample = dataset.sample(index)
    mp4, flac = (sample.members[extension] for extension in ("mp4", "flac"))
    return tuple(dataset.read(sample, m.offset, m.size) for m in (mp4, flac))  # type: ignore[return-value]


def torchcodec(dataset: Dataset, mode: str) -> Way:
    """The two decoders of torchcodec on the members' bytes, under DataLoader."""
    decoders: Any = import_module("torchcodec.decoders")
    middles = (torch.arange(NUM_FRAMES) + 0.5) / NUM_FRAMES

    def load(index: int, start: float) -> tuple[torch.Tensor, torch.Tensor]:
        picture, sound = _members(dataset, index)
        video = decoders.VideoDecoder(picture, seek_mode=mode, num_ffmpeg_threads=1)
        frames = video.get_frames_played_at((start + middles).tolist()).data
        samples = decoders.AudioDecoder(sound).get_samples_played_in_range(start, start + 1)
        return frames, samples.data[0, :RATE]

    name = f"torchcodec {mode} + DataLoader"
    return _mapped(name, len(dataset), load, originals=False)


def webdataset(dataset: Dataset, name: str, decode: Decode) -> Way:
    """The tars are read by webdataset from front to back; each sample gives a random second."""
    wds: Any = import_module("webdataset")
    urls = [str(Path(dataset.path) / shard.name) for shard in dataset.manifest.shards]

    def second(sample: dict[str, bytes]) -> tuple[torch.Tensor, torch.Tensor, str]:
        start = np.random.default_rng().random() * (CLIP_SECONDS - 1)
        return (*decode(sample["mp4"], sample["flac"], float(start)), str(sample["__key__"]))

    def batches(workers: int) -> AbstractContextManager[Iterator[int]]:
        tars = wds.WebDataset(urls, shardshuffle=False, resampled=True)
        return _loading(tars.map(second).batched(BATCH), workers, batch_size=None)

    def one(index: int, start: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        return _arrays(*decode(*_members(dataset, index), start))

    return Way(name, batches, one)


def decode_by_pyav(picture: bytes, sound: bytes, start: float) -> tuple[torch.Tensor, torch.Tensor]:
    """PyAV by the book: open, seek, decode to the end of the second, to RGB."""
    frames = _rgb_frames(io.BytesIO(picture), start)
    rate = RATE
    parts: list[NDArray[Any]] = []
    first = 0
    container: Any
    with av.open(io.BytesIO(sound)) as container:
        stream: Any = container.streams.audio[0]
        container.seek(round(start / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            begin = round(float(frame.pts * frame.time_base) * rate)
            if begin + frame.samples <= start * rate:
                continue
            if not parts:
                first = begin
            parts.append(frame.to_ndarray()[0])
            if begin + frame.samples >= (start + 1) * rate:
                break
    samples = np.concatenate(parts)[round(start * rate) - first :][:rate]
    return frames, torch.from_numpy(samples.astype(np.float32) / 32768)


def _rgb_frames(file: Any, start: float) -> torch.Tensor:
    """uint8 [T, 3, H, W]."""
    found, times = [], []
    with av.open(file) as container:
        stream: Any = container.streams.video[0]
        container.seek(round(start / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            seconds = float(frame.pts * frame.time_base)
            if seconds >= start + 1:
                break
            if seconds + float(1 / stream.average_rate) > start:
                found.append(frame.to_ndarray(format="rgb24"))
                times.append(seconds)
    chosen = np.searchsorted(times, start + (np.arange(NUM_FRAMES) + 0.5) / NUM_FRAMES, "right") - 1
    return torch.from_numpy(np.stack([found[max(0, i)] for i in chosen])).permute(0, 3, 1, 2)


def energon() -> Decode:
    """Megatron-Energon's decoder; its range includes the frame on screen at its end."""
    try:
        decoder: Any = import_module("megatron.energon.av").AVDecoder
    except ImportError as error:
        raise ImportError(
            f"Energon's AVDecoder: {error}; pip install megatron-energon into an environment "
            "beside this one"
        ) from error

    def decode(picture: bytes, sound: bytes, start: float) -> tuple[torch.Tensor, torch.Tensor]:
        # it warns, for every clip, that this container is sought in frames
        video = decoder(io.BytesIO(picture), suppress_warnings=True)
        clips, _ = video.get_video_clips([(start, start + 1)], "seconds")
        sounds, _ = decoder(io.BytesIO(sound)).get_audio_clips([(start, start + 1)], "seconds")
        samples = sounds[0][0, :RATE]
        if not samples.is_floating_point():
            samples = samples.float() / 32768
        return clips[0][:NUM_FRAMES], samples

    return decode


def reference(originals: list[Path]) -> Way:
    """As the reference implementation of GDT loads (its datasets/decoder.py): from the originals.

    A file is opened twice. PyAV looks at it, seeks, decodes, and all frames of the second become
    RGB; a process, ffmpeg, decodes the whole sound track, of which a second is taken. The middle of
    the picture is kept, so that its batches are no greater than the others'.
    """
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise RuntimeError("the reference's way of loading: it starts ffmpeg, which is not here")

    def load(index: int, start: float) -> tuple[torch.Tensor, torch.Tensor]:
        path = originals[index]
        with av.open(str(path)) as container:
            rate = float(container.streams.video[0].average_rate)  # type: ignore[arg-type]
            first = int(start * rate)
            frames = _frames_by_number(container, first, round(rate))
        command = [ffmpeg, "-i", str(path), "-f", "s16le", "-ac", "1", "-ar", str(RATE), "-"]
        output = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL)
        sound = np.frombuffer(output.stdout, np.int16)
        place = min(round(first / rate * RATE), len(sound) - RATE)
        samples = torch.from_numpy(sound[place : place + RATE].astype(np.float32) / 32768)
        return middle(frames), samples

    name = "the reference's way, on the originals"
    return _mapped(name, len(originals), load, originals=True)


def _frames_by_number(container: Any, first: int, count: int) -> torch.Tensor:
    """T frames spread over `count` from number `first`, by average rate; uint8 [T, 3, H, W]."""
    found: list[NDArray[np.uint8]] = []
    stream = container.streams.video[0]
    tick = Fraction(stream.duration, stream.frames)
    begin, end = int(first * tick), int((first + count - 1) * tick)
    container.seek(max(0, begin - 1024), stream=stream)
    for frame in container.decode(stream):
        if frame.pts >= begin:
            found.append(frame.to_rgb().to_ndarray())
        if frame.pts > end:
            break
    chosen = torch.linspace(0, min(count, len(found)) - 1, NUM_FRAMES).long().tolist()
    return torch.from_numpy(np.stack([found[i] for i in chosen])).permute(0, 3, 1, 2)


def middle(frames: torch.Tensor) -> torch.Tensor:
    """The middle of pictures [T, 3, H, W], of the size of the shards' frames."""
    width, height = SIZE
    top, left = (frames.shape[2] - height) // 2, (frames.shape[3] - width) // 2
    return frames[:, :, top : top + height, left : left + width]
