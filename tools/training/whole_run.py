"""The batches of a whole run, as Lightning takes them: from anywhere, to the end or a stop."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

from gdt import Batch
from pipelines.device.overlap import Overlap
from pipelines.loading.stream import RawBatch, Stream


class WholeRun:
    """The batches of all epochs as one sequence, on the device, which can start anywhere.

    Has the `state_dict` that Lightning looks for in a loader and keeps in its checkpoints. The
    stream may be ahead of it, by the batch that is being prepared.

    Args:
        stream: raw batches, epoch by epoch.
        overlap: makes them into batches on the device.
        num_steps: where the run ends.
        agree: asked by every rank before every step, with whether nothing is left of its share of
            the batch: (the run is to stop, the batch is to be passed over).
        say: gets a line for a batch that is passed over.
    """

    def __init__(
        self,
        stream: Stream,
        overlap: Overlap,
        num_steps: int,
        agree: Callable[[bool], tuple[bool, ...]],
        say: Callable[[str], None],
    ) -> None:
        self.stream, self.overlap, self.num_steps = stream, overlap, num_steps
        self._agree, self._say = agree, say
        self._position = (stream.epoch, stream.step)

    @property
    def next_step(self) -> int:
        """The step, over the whole run, of the batch that will be handed out next."""
        epoch, step = self._position
        return epoch * len(self.stream) + step

    def __len__(self) -> int:
        """Steps of the whole run."""
        return self.num_steps

    def __iter__(self) -> Iterator[Batch]:
        """The batches from the current position to the end of the run, or to a stop.

        A batch of which one rank's share is skipped whole is passed over by all: they share the
        negatives, the gradients and the batch statistics of a step.
        """
        if (self.stream.epoch, self.stream.step) != self._position:
            self.stream.seek(*self._position)
        with closing(self._raw()) as raw, closing(self.overlap.batches(raw)) as batches:
            for batch in batches:
                is_stopping, is_empty = self._agree(not batch.modalities)
                if is_stopping:
                    return
                self._position = (batch.epoch, batch.step + 1)
                if is_empty:
                    self._say(
                        f"epoch {batch.epoch + 1}, step {batch.step}: passed over, for every "
                        "sample of one rank's share was skipped"
                    )
                else:
                    yield batch

    def _raw(self) -> Generator[RawBatch, None, None]:
        def is_over() -> bool:
            return self.stream.epoch * len(self.stream) + self.stream.step >= self.num_steps

        try:
            while not is_over():
                for batch in self.stream:
                    yield batch
                    if is_over():
                        break
        finally:
            self.stream.close()

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch handed out, and what it is a position in."""
        epoch, step = divmod(self.next_step, len(self.stream))
        return self.stream.state_dict() | {"epoch": epoch, "step": step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position; the stream refuses one in another data set."""
        self.stream.load_state_dict(state)
        self._position = (self.stream.epoch, self.stream.step)
