"""Load batches that NVIDIA DALI decodes: coded bytes go to the GPU, and frames are born there.

    Request → [threads] a sample's packets, checked, as one small file; its audio    Feed, [K, S]
            → [one thread] fn.decoders.video over the batch                 n × RGB [U, H, W, 3]
            → gathered by segment                                           RGB [R, T, H, W, 3]

All segments of a clip are one file, whose frames are asked for once each: DALI seeks back to a
keyframe for every repeat (30 frames asked for twice took 15 times as long). Its decoder makes RGB
with BT.601's matrix whatever the stream says; `RawBatch.pixels` says so, and the map that colours
and normalises undoes it (color.py). Crops and all other draws are those of every other decoder.

A bad sample makes DALI fail the batch without saying which: the graph is made anew and the samples
are decoded one by one, and those that fail alone are skipped by name. Checksums come first, since
damaged packets decode to damaged frames without a word.

On a machine without a GPU the same graph runs on the CPU, for VP8, VP9 and MJPEG.

Legend: n samples, K rows of each (starts × speeds), T frames, R rows, U distinct frames of one.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.decoding.backends.feed import Feed
from pipelines.decoding.backends.gpu import current_gpu, require_nvcuvid, use_device
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.loading.batch_loader import Delivery, Filled, Outcome, Request, delivery_of
from pipelines.skips import SkipError

__all__ = ["DaliLoader"]

#: What the CPU side of DALI 2.4 decodes (frames_decoder_cpu.cc); NVDEC's list is the GPU's.
CPU_CODECS = ("mjpeg", "vp8", "vp9")


@dataclass(frozen=True, eq=False)
class _Fed:
    """A sample on its way: what DALI is given, and what does not go through it."""

    shard: str
    key: str
    starts: NDArray[np.float64]  # [K]
    feed: Feed
    audio: NDArray[np.float32] | None  # [K, S]
    captions: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class _Decoded:
    """A batch off the decoding thread: for each sample what was fed, or why it is skipped."""

    samples: tuple[_Fed | SkipError, ...]
    frames: Tensor  # [R, T, H, W, 3]


class DaliLoader:
    """Like `Loader`, with a decoder of batches in place of a decoder on each thread.

    Args:
        reader: says what the segments are; has to want video.
        threads: that read, check and decode audio, and as many of DALI's own.
        ahead: batches decoded in advance.
        device: "cuda" (this process's GPU) or "cpu"; by default the GPU where there is one.

    Raises:
        ImportError: DALI is missing, or there is a GPU, but not its driver's video decoder.
        ValueError: the reader's options ask for what DALI does not do.
    """

    def __init__(
        self, reader: SegmentReader, threads: int, ahead: int, device: str | None = None
    ) -> None:
        self._reader, self._threads, self._ahead = reader, threads, ahead
        name = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._device = torch.device(current_gpu() if name == "cuda" else name)
        _check(reader, self._device)
        _dali()
        self._graph: Any = None
        self._graph_samples = 0
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="feed")
        self._decoder = ThreadPoolExecutor(1, "dali", use_device, (str(self._device),))
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None

    def deliveries(self, requests: Iterable[Request]) -> Iterator[Delivery]:
        """The batches of `requests`, in their order.

        Raises:
            Exception: whatever went wrong other than a skip, with the sample named in a note.
        """
        underway: deque[tuple[Request, list[Future[_Fed]], Future[_Decoded]]] = deque()
        try:
            for request in requests:
                fed = [
                    self._readers.submit(
                        self._feed, index, request.places[i], request.caption_place(i)
                    )
                    for i, index in enumerate(request.samples.tolist())
                ]
                decoded = self._decoder.submit(
                    self._decode, fed, request.places.shape[1] * len(self._reader.speeds)
                )
                underway.append((request, fed, decoded))
                if len(underway) > self._ahead:
                    request, _, decoded = underway.popleft()
                    yield self._deliver(request, decoded.result())
            while underway:
                request, _, decoded = underway.popleft()
                yield self._deliver(request, decoded.result())
        finally:
            for _, fed, decoded in underway:
                decoded.cancel()
                for task in fed:
                    task.cancel()

    def close(self) -> None:
        """Let the threads and the graph go; tasks that have not begun are dropped."""
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._decoder.shutdown(wait=True, cancel_futures=True)
        self._graph = None

    def _feed(self, index: int, places: NDArray[np.float64], caption_place: float) -> _Fed:
        reader = self._reader
        captions = reader.captions(index, caption_place) if reader.text else None
        with reader.visit(index, places) as (sample, starts):
            feed = reader.feed(sample, starts)
            audio = None
            if reader.audio:
                audio = np.empty((len(starts), reader.options.num_samples), np.float32)
                reader.fill(sample, starts, None, audio)
        return _Fed(sample.shard, sample.key, starts, feed, audio, captions)

    def _decode(self, futures: Sequence["Future[_Fed]"], num_rows: int) -> _Decoded:
        samples: list[_Fed | SkipError] = []
        for future in futures:
            try:
                samples.append(future.result())
            except SkipError as error:
                samples.append(error)
        with torch.cuda.stream(self._stream):
            clips = self._clips(samples, len(futures))
            frames = self._gather([s for s in samples if isinstance(s, _Fed)], clips, num_rows)
            if self._stream is not None:
                self._stream.synchronize()  # DALI has its memory back when `clips` is gone
        return _Decoded(tuple(samples), frames)

    def _clips(self, samples: list[_Fed | SkipError], most: int) -> list[Tensor]:
        """The distinct frames [U, H, W, 3] of every fed sample; samples that fail become skips."""
        fed = [sample for sample in samples if isinstance(sample, _Fed)]
        try:
            return self._run([sample.feed for sample in fed], most)
        except RuntimeError as error:
            if len(fed) == 1:
                samples[samples.index(fed[0])] = _skip(fed[0], error)
                return []
        clips = []
        for place, sample in enumerate(samples):
            if isinstance(sample, _Fed):
                try:
                    clips += self._run([sample.feed], most)
                except RuntimeError as error:
                    samples[place] = _skip(sample, error)
        return clips

    def _run(self, feeds: list[Feed], most: int) -> list[Tensor]:
        if not feeds:
            return []
        if self._graph is None or self._graph_samples < most:
            self._graph = _build(most, self._threads, self._device)
            self._graph_samples = most
        graph = self._graph
        self._graph = None  # after an error it is "no longer valid"
        graph.feed_input("files", [np.frombuffer(feed.file, np.uint8) for feed in feeds])
        graph.feed_input("numbers", [feed.numbers for feed in feeds])
        (clips,) = graph.run()
        # Without a copy: the graph does not reuse a buffer that a tensor still refers to.
        tensors = [torch.utils.dlpack.from_dlpack(clips[i]) for i in range(len(feeds))]
        self._graph = graph
        height, width = self._reader.height, self._reader.width
        for tensor in tensors:
            if tensor.shape[1:] != (height, width, 3):
                raise RuntimeError(
                    f"frames came out as {list(tensor.shape[1:])}, not {[height, width, 3]}"
                )
        return tensors

    def _gather(self, fed: list[_Fed], clips: list[Tensor], num_rows: int) -> Tensor:
        reader, num_frames = self._reader, self._reader.options.num_frames
        shape = (len(fed), num_rows * num_frames, reader.height, reader.width, 3)
        frames = torch.empty(shape, dtype=torch.uint8, device=self._device)
        for row, sample, clip in zip(frames, fed, clips, strict=True):
            places = torch.from_numpy(sample.feed.places).to(self._device, non_blocking=True)
            torch.index_select(clip, 0, places, out=row)
        return frames.view(len(fed) * num_rows, num_frames, *shape[2:])

    def _deliver(self, request: Request, decoded: _Decoded) -> Delivery:
        if decoded.frames.is_cuda:
            decoded.frames.record_stream(torch.cuda.current_stream())
        outcomes: list[Outcome] = [
            s if isinstance(s, SkipError) else Filled(s.key, s.starts, s.captions)
            for s in decoded.samples
        ]
        audio = None
        if self._reader.audio:
            fed = [s for s in decoded.samples if isinstance(s, _Fed)]
            rows = [sample.audio for sample in fed if sample.audio is not None]
            empty = np.empty((0, self._reader.options.num_samples), np.float32)
            audio = torch.from_numpy(np.concatenate([empty, *rows]))
        return delivery_of(
            self._reader, request, outcomes, decoded.frames, audio, pixels="rgb_bt601"
        )


def _check(reader: SegmentReader, device: torch.device) -> None:
    if not reader.video:
        raise ValueError("decoder = 'dali' decodes video, and none is wanted: use 'av'")
    if reader.options.frame_size is not None:
        raise ValueError(
            f"decoder = 'dali' gives frames of their coded size, and segment.frame_size is "
            f"{list(reader.options.frame_size)}: leave it out, or use decoder = 'av'"
        )
    if device.type == "cuda":
        require_nvcuvid()
    track = reader.dataset.sample(0).video
    if device.type == "cpu" and track is not None and track.codec not in CPU_CODECS:
        raise ValueError(
            f"decoder = 'dali' without a GPU decodes {', '.join(CPU_CODECS)}, and the shards hold "
            f"{track.codec}: build them with --codec vp9, or use decoder = 'av'"
        )


def _dali() -> tuple[Any, Any]:
    try:
        return import_module("nvidia.dali"), import_module("nvidia.dali.fn")
    except ImportError as error:
        raise ImportError(
            "decoder = 'dali' needs NVIDIA DALI: pip install 'gdt-stream[dali]'"
        ) from error


def _build(most: int, threads: int, device: torch.device) -> Any:
    """The graph: files and frame numbers in, one [U, H, W, 3] each out."""
    dali, fn = _dali()

    def graph() -> Any:
        files = fn.external_source(name="files", dtype=dali.types.UINT8, ndim=1)
        numbers = fn.external_source(name="numbers", dtype=dali.types.INT32, ndim=1)
        return fn.decoders.video(
            files,
            frames=numbers,
            device="cpu" if device.type == "cpu" else "mixed",
            pad_mode="none",  # a number past the end is an error, and not a black frame
        )

    built: Any = dali.pipeline_def(graph)(
        batch_size=most,
        num_threads=threads,
        device_id=device.index,  # None on a CPU
        exec_dynamic=True,
        prefetch_queue_depth=1,  # `ahead` is where decoding ahead is decided
    )
    built.build()
    return built


def _skip(sample: _Fed, error: RuntimeError) -> SkipError:
    """DALI's message, which is a page with one sentence that says something."""
    text = str(error)
    found = re.search(r"encountered:\s*(.+?)\s*(?:C\+\+ context|Stacktrace|$)", text, re.DOTALL)
    cause = " ".join((found.group(1) if found else text).split())
    return SkipError(shard=sample.shard, key=sample.key, stage="decode", cause=f"DALI: {cause}")
