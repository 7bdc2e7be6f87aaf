"""Raw batches, as decoders leave them: planar frames and waveforms, not yet augmented.

Legend: R rows (samples × time shifts × speeds), T frames, H W luma size, S audio samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["RawBatch"]


@dataclass(frozen=True)
class RawBatch:
    """The segments of one step, by sample, in each sample by shift, and in each shift by speed.

    Attributes:
        frames: uint8 [R, T, H·W·3/2], I420 planes one after another, or [R, T, H, W, 3] where
            `pixels` says so; None without video.
        audio: float32 [R, S] in [-1, 1]; None without audio.
        sample: int64 [R], index in the data set.
        shift: int64 [R], the time_shift code (in evaluation: the number of the segment).
        start_seconds: float64 [R], where the segment starts on the clip's clock.
        keys: of the samples, one a row.
        height, width: H and W.
        color_matrix, color_range: of all rows, see color.py.
        sample_rate_hz: of the audio.
        epoch, step: where in the run the batch stands, zero-based.
        speed: int64 [R], the speed code; None where all are 0.
        captions: [R], texts of each row: the one that was drawn, or all in order; None without
            text.
        pixels: what frames hold, see color.PIXELS.
        data_epoch: int64 [R], the epoch of each row's own data set, which draws are made from; None
            where that is `epoch`, as it is unless data sets are mixed.
    """

    frames: Tensor | None
    audio: Tensor | None
    sample: Tensor
    shift: Tensor
    start_seconds: Tensor
    keys: tuple[str, ...]
    height: int
    width: int
    color_matrix: str
    color_range: str
    sample_rate_hz: int
    epoch: int
    step: int
    speed: Tensor | None = None
    captions: tuple[tuple[str, ...], ...] | None = None
    pixels: str = "i420"
    data_epoch: Tensor | None = None

    def __post_init__(self) -> None:
        num_rows = len(self.keys)
        columns = ("sample", "shift", "start_seconds", "speed", "data_epoch")
        for name in ("frames", "audio", "captions", *columns):
            rows = getattr(self, name)
            if rows is not None and len(rows) != num_rows:
                raise ValueError(f"raw batch: {name} has {len(rows)} rows for {num_rows} keys")

    def __len__(self) -> int:
        """R."""
        return len(self.keys)

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name}: {list(tensor.shape)}"
            for name in ("frames", "audio")
            if (tensor := getattr(self, name)) is not None
        )
        return f"RawBatch(epoch={self.epoch}, step={self.step}, rows={len(self)}, {shapes})"

    @property
    def device(self) -> torch.device:
        """Where frames, or else audio, are."""
        held = next((x for x in (self.frames, self.audio) if x is not None), self.sample)
        return held.device

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "RawBatch":
        """The same with frames and audio on `device`; the rows' names stay where draws are made."""
        return self._with_pixels(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "RawBatch":
        """The same in page-locked memory, from where copies to a GPU run beside its work.

        What a GPU decoder left on the GPU stays there.
        """
        return self._with_pixels(lambda tensor: tensor if tensor.is_cuda else tensor.pin_memory())

    def _with_pixels(self, change: Callable[[Tensor], Tensor]) -> "RawBatch":
        return replace(
            self,
            frames=None if self.frames is None else change(self.frames),
            audio=None if self.audio is None else change(self.audio),
        )
