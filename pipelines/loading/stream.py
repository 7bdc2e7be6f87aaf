"""Stream a data set under a plan: an endless, resumable sequence of raw batches.

    Order(seed)            (epoch, n) → sample                     int64 [n]
    uniform(…, "time_shift", k)  → place in the clip               float64 [n, K]
    Loader                 → RawBatch, decoded on threads          R = n · K · speeds rows

The position is (epoch, step), and everything else follows from it: the global batch of a step is
places [step · B, (step + 1) · B) of the epoch's order, and a rank takes its contiguous share. So
state is two numbers and what must not have changed; a resumed run is bit for bit the unbroken one,
and the same global batches come out for any number of ranks and threads.

Time shifts are drawn independently and uniformly over what the clip allows: two shifts of one clip
may overlap, as they may in the paper (section 4), unless the plan says how far apart they start.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from gdt.plan import Plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.decoding.speed import NORMAL_SPEED, speeds_of
from pipelines.loading.batch_loader import BatchLoader, Delivery, Request
from pipelines.loading.loader import make_loader
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.shift_room import mean_overlapping_share, refuse_too_short
from pipelines.sampling.draws import uniform
from pipelines.sampling.groups import GroupedOrder, groups_of
from pipelines.sampling.mixture import MixedOrder, Mixture
from pipelines.sampling.order import Order
from pipelines.skips import SkipCounts, SkipLog
from shards import Samples

__all__ = ["RawBatch", "StateError", "Stream", "StreamOptions", "reader_for"]

_STATE_VERSION = 1


class StateError(ValueError):
    """A saved position belongs to another stream."""


@dataclass(frozen=True)
class StreamOptions:
    """How a data set is read.

    Attributes:
        batch_size: samples of a global batch, all ranks together.
        threads: that decode, in each rank.
        prefetch: batches decoded ahead.
        isolate: decode in `threads` processes, so that a decoder that crashes or hangs costs one
            sample and not the run.
        isolate_seconds: with `isolate`, a sample that takes longer, reading included, is skipped.
        group_by: keep batches to one group: samples whose json has the same value of this key
            ("source": of one film; "label"; "speaker", …). By default all samples are mixed.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    batch_size: int = 16
    threads: int = 2
    prefetch: int = 2
    isolate: bool = False
    isolate_seconds: float = 30.0
    group_by: str | None = None

    @property
    def isolation_limit_seconds(self) -> float | None:
        """What `make_loader` takes: None where threads decode."""
        return self.isolate_seconds if self.isolate else None

    def __post_init__(self) -> None:
        for key, least in (("batch_size", 1), ("threads", 1), ("prefetch", 0)):
            if getattr(self, key) < least:
                raise ValueError(
                    f"StreamOptions: {key} = {getattr(self, key)}, must be at least {least}"
                )
        if not self.isolate_seconds > 0:
            raise ValueError(
                f"StreamOptions: isolate_seconds = {self.isolate_seconds}, must be positive"
            )
        if self.group_by == "":
            raise ValueError("StreamOptions: group_by = '', must be a key; leave it out for none")


class Stream(IterableDataset[RawBatch]):
    """Iterating gives the rest of the current epoch; iterating again, the next one.

    The threads work across the epoch's end. An iterator that is dropped loses nothing: the position
    is the one after the last batch handed out. A last batch that would not be full is left out.

    In a torch DataLoader: `DataLoader(stream, batch_size=None)`. Its worker processes have nothing
    to do, since the stream decodes ahead by itself, so num_workers stays 0.

    Args:
        dataset: indexed shards, or a mixture of them.
        plan: its modalities say what is decoded, its `time_shift` how many segments of a clip, its
            `speed` how fast each of them plays.
        segment_options: what a segment holds.
        stream_options: batch size, threads.
        seed: of the run.
        rank: of this process.
        num_ranks: of all processes.
        skip_log: where skips go; by default they are counted only.

    Raises:
        ValueError: fewer samples than a batch, fewer than one sample a rank, no such rank, clips
            that are all too short for the plan's time shifts, samples without the key of
            `group_by`, or options that the decoder or the frames do not go with.
        ImportError: the decoder's library is missing.
    """

    def __init__(
        self,
        dataset: Samples,
        plan: Plan,
        segment_options: SegmentOptions,
        stream_options: StreamOptions,
        seed: int,
        rank: int = 0,
        num_ranks: int = 1,
        skip_log: SkipLog | None = None,
    ) -> None:
        batch_size = stream_options.batch_size
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank {rank} of {num_ranks} ranks: a rank lies in [0, {num_ranks})")
        if batch_size < num_ranks:
            raise ValueError(
                f"data.batch_size = {batch_size} is shared by {num_ranks} ranks, and each needs "
                "at least one sample: make it greater"
            )
        if len(dataset) < batch_size:
            raise ValueError(
                f"{dataset.path} has {len(dataset)} samples and data.batch_size is {batch_size}: "
                "an epoch would have no batch; make it smaller or build more shards"
            )
        self.dataset, self.plan, self.seed = dataset, plan, seed
        self.options, self.segment_options = stream_options, segment_options
        self.rank, self.num_ranks = rank, num_ranks
        self.skip_log = skip_log or SkipLog()
        self.order = _order(dataset, stream_options, seed)
        self._reader = reader_for(
            dataset,
            plan.modalities,
            segment_options,
            speeds=speeds_of(plan),
            least_captions=plan.draws("augmentation"),
            isolated=stream_options.isolate,
            seconds_apart=plan.min_seconds_apart,
        )
        refuse_too_short(self._reader, plan)
        self._share = (rank * batch_size // num_ranks, (rank + 1) * batch_size // num_ranks)
        self.finished_epoch: SkipCounts | None = None
        self._loader: BatchLoader | None = None
        self._deliveries: Iterator[Delivery] | None = None
        self._make_loader().close()  # what it refuses is refused now, not at the first batch
        self.seek(0, 0)

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self.dataset) // self.options.batch_size

    def __repr__(self) -> str:
        return (
            f"Stream({self.dataset.path}, {len(self)} steps of {self.options.batch_size} samples, "
            f"at epoch {self.epoch} step {self.step}, rank {self.rank} of {self.num_ranks})"
        )

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Width and height of the frames; None where none are asked for."""
        reader = self._reader
        return (reader.width, reader.height) if reader.video else None

    @property
    def decoder(self) -> tuple[str, str]:
        """Which decoder is used, and why it is that one."""
        return self._reader.decoder, self._reader.decoder_reason

    @property
    def fallbacks(self) -> Mapping[str, int]:
        """How many samples another decoder decoded in its place, by cause."""
        return self._reader.backend.fallbacks

    @property
    def left_out(self) -> int:
        """Samples of an epoch that do not fill a last batch; other ones in every epoch."""
        if isinstance(self.dataset, Mixture):
            return 0  # whose epochs are whole batches
        return len(self.dataset) - len(self) * self.options.batch_size

    @property
    def overlapping_share(self) -> float:
        """How many of all pairs of a clip's segments overlap, as a fraction."""
        return mean_overlapping_share(self._reader, self.plan)

    def __iter__(self) -> Iterator[RawBatch]:
        """The batches from the current position to the end of its epoch.

        A batch of which nothing is left is passed over. With several ranks it is handed out, empty:
        the others have theirs, and all have to pass it over together.

        Raises:
            TooManySkipsError: see `SkipLog`.
            RuntimeError: this is a worker process of a torch DataLoader.
        """
        if (worker := get_worker_info()) is not None:
            raise RuntimeError(
                f"a Stream in worker {worker.id} of a DataLoader with num_workers = "
                f"{worker.num_workers}: each worker would hand out every batch, and the position "
                "of the training process would stay where it is. Use DataLoader(stream, "
                "batch_size=None, num_workers=0), or iterate over the stream itself; it decodes "
                "ahead on StreamOptions.threads, in processes of their own with isolate = true"
            )
        epoch = self.epoch
        while self.epoch == epoch:
            batch = self._next()
            if len(batch) or self.num_ranks > 1:
                yield batch

    def seek(self, epoch: int, step: int) -> None:
        """Go to a step; what was decoded ahead is dropped. Takes the same time for every step.

        Raises:
            ValueError: there is no such step.
        """
        if epoch < 0 or not 0 <= step <= len(self):
            raise ValueError(f"epoch {epoch} step {step}: an epoch has steps 0 to {len(self) - 1}")
        if step == len(self):
            epoch, step = epoch + 1, 0
        self.close()
        self.epoch, self.step = epoch, step
        self.skip_counts = SkipCounts()
        self._counts_from = step

    def state_dict(self) -> dict[str, int | str]:
        """The position after the last batch handed out, and what it is a position in."""
        return {
            "version": _STATE_VERSION,
            **self._identity(),
            "epoch": self.epoch,
            "step": self.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position; the number of ranks and threads may be another.

        Raises:
            StateError: a version, data set, plan, seed or batch size other than this stream's.
        """
        for field, mine in {"version": _STATE_VERSION, **self._identity()}.items():
            if state.get(field) != mine:
                raise StateError(
                    f"the saved stream has {field} {state.get(field)!r} and this one {mine!r}: a "
                    "run goes on only with what it was started with; start a new run instead"
                )
        self.seek(int(state["epoch"]), int(state["step"]))

    def close(self) -> None:
        """Stop the threads. The position stays; iterating again starts them anew."""
        if self._loader is not None:
            self._loader.close()
        self._loader = self._deliveries = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loader": None, "_deliveries": None}

    def _identity(self) -> dict[str, int | str]:
        order: dict[str, int | str] = {}
        if isinstance(self.dataset, Mixture):
            shown = (f"{name}={weight}" for name, weight in self.dataset.weights.items())
            order = {"weights": ", ".join(shown)}
        if self.options.group_by is not None:
            order = {"group_by": self.options.group_by}
        return {
            "dataset": self.dataset.fingerprint,
            **order,
            "plan": self.plan.fingerprint(),
            "seed": self.seed,
            "batch_size": self.options.batch_size,
        }

    def _requests(self, epoch: int, step: int) -> Iterator[Request]:
        """What this rank asks for, from a position to the end of time."""
        draws = np.arange(self.plan.draws("time_shift"))
        while True:
            places = step * self.options.batch_size + np.arange(*self._share)
            visits = self.order.visits(epoch, places)
            rows = visits.epochs[:, None], visits.samples[:, None]
            shifts = uniform(self.seed, *rows, "time_shift", draws)
            captions = uniform(self.seed, visits.epochs, visits.samples, "caption")
            yield Request(epoch, step, visits.samples, shifts, visits.epochs, captions)
            step += 1
            if step == len(self):
                epoch, step = epoch + 1, 0

    def _make_loader(self) -> BatchLoader:
        options = self.options
        return make_loader(
            self._reader, options.threads, options.prefetch, options.isolation_limit_seconds
        )

    def _next(self) -> RawBatch:
        if self._deliveries is None:
            self._loader = self._make_loader()
            self._deliveries = self._loader.deliveries(self._requests(self.epoch, self.step))
        try:
            delivery = next(self._deliveries)
            self._judge(delivery)
        except BaseException:
            self.close()
            raise
        self.step += 1
        if self.step == len(self):
            self._end_epoch()
        return delivery.batch

    def _judge(self, delivery: Delivery) -> None:
        for outcome in delivery.outcomes:
            if outcome is None:
                self.skip_log.deliver(self.skip_counts)
            else:
                self.skip_log.skip(self.skip_counts, outcome, epoch=self.epoch, step=self.step)

    def _end_epoch(self) -> None:
        asked = (len(self) - self._counts_from) * (self._share[1] - self._share[0])
        if self.skip_counts.total != asked:
            raise AssertionError(
                f"epoch {self.epoch}: {self.skip_counts.delivered} delivered + "
                f"{self.skip_counts.skipped} skipped samples are not the {asked} asked for; this "
                "is a bug of the stream"
            )
        self.finished_epoch = self.skip_counts
        self.epoch, self.step = self.epoch + 1, 0
        self.skip_counts, self._counts_from = SkipCounts(), 0


def _order(
    dataset: Samples, options: StreamOptions, seed: int
) -> Order | MixedOrder | GroupedOrder:
    if isinstance(dataset, Mixture):
        if options.group_by is not None:
            raise ValueError(
                f"data.group_by = {options.group_by!r} with data.mix: groups are of one data set; "
                "`gdt shards merge` makes one of several"
            )
        return dataset.order(seed, options.batch_size)
    if options.group_by is not None:
        return GroupedOrder(seed, groups_of(dataset, options.group_by), options.batch_size)
    return Order(seed, len(dataset))


def reader_for(
    dataset: Samples,
    modalities: Sequence[str],
    options: SegmentOptions,
    *,
    speeds: tuple[float, ...] = NORMAL_SPEED,
    least_captions: int = 1,
    isolated: bool = False,
    seconds_apart: float = 0.0,
) -> SegmentReader:
    """A reader of what modalities are made of: frames for video and image, samples for audio.

    Captions for text.
    """
    video, audio = "video" in modalities or "image" in modalities, "audio" in modalities
    return SegmentReader(
        dataset,
        options,
        video=video,
        audio=audio,
        text="text" in modalities,
        least_captions=least_captions,
        speeds=speeds,
        isolated=isolated,
        seconds_apart=seconds_apart,
    )
