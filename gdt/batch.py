"""What an encoder is given: tensors of rows, each row with the codes of its transformation.

Legend: B rows, M factors; a row is one transformation T of one sample, in one modality.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class View:
    """Rows of one modality and of one shape, and their codes, which never travel apart.

    A batch holds one view of each modality, or several where its rows differ in shape: two global
    and six local crops are two views of the modality `image`.

    Attributes:
        modality: name of the modality.
        values: [B, …]: video [B, 3, T, H, W], log-mel [B, 1, F, L] or waveform [B, 1, S],
            image [B, 3, H, W], float; tokens [B, S], int64. A row that is cut into P patches has
            one more dimension, [B, P, 3, …].
        codes: int64 [B, M], one column per factor of the plan.
        boxes: float32 [B, 4], what a crop shows of the frame: top, left, height and width as shares
            of the frame's; a mirrored crop begins at its right edge and has a negative width. Of
            patches [B, P, 4]; of frames that are each cut anew [B, (P,) T, 4]. None where a row is
            no crop.

    Raises:
        ValueError: codes or boxes that are not of these rows.
    """

    modality: str
    values: Tensor
    codes: Tensor
    boxes: Tensor | None = None

    def __post_init__(self) -> None:
        num_rows, codes = len(self.values), self.codes
        if codes.dtype != torch.int64 or codes.ndim != 2 or len(codes) != num_rows:
            raise ValueError(
                f"batch modality {self.modality!r}: codes must be int64 [B, M] with B = {num_rows} "
                f"rows like its values, got {codes.dtype} {list(codes.shape)}"
            )
        shape = None if self.boxes is None else self.boxes.shape
        if shape is not None and (shape[0] != num_rows or len(shape) < 2 or shape[-1] != 4):
            raise ValueError(
                f"batch modality {self.modality!r}: boxes must be [B, 4] or [B, …, 4] with B = "
                f"{num_rows} rows, got {list(shape)}"
            )

    def __len__(self) -> int:
        """B."""
        return len(self.codes)

    def __getitem__(self, rows: Tensor | slice) -> "View":
        """The rows that a mask, an index or a slice selects."""
        return self._with_each(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "View":
        """The same view with its tensors on `device`."""
        return self._with_each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def parts(self, count: int) -> "list[View]":
        """Consecutive rows in `count` parts, as even as can be."""
        rows = torch.arange(len(self), device=self.codes.device)
        return [self[part] for part in rows.tensor_split(count)]

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> "View":
        boxes = None if self.boxes is None else change(self.boxes)
        return replace(self, values=change(self.values), codes=change(self.codes), boxes=boxes)


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of one training step, and where in the run they stand.

    Attributes:
        views: rows by modality and shape.
        epoch: zero-based epoch the batch belongs to.
        step: zero-based step within that epoch.
    """

    views: tuple[View, ...]
    epoch: int
    step: int

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that have rows, in the order of their views."""
        return tuple(dict.fromkeys(view.modality for view in self.views))

    def view(self, modality: str) -> View:
        """The only view of a modality.

        Raises:
            ValueError: it has none, or several.
        """
        found = self.of(modality)
        if len(found) != 1:
            raise ValueError(
                f"{self} has {len(found)} views of {modality!r} where one is asked for"
            )
        return found[0]

    def of(self, modality: str) -> tuple[View, ...]:
        """All views of a modality, in order."""
        return tuple(view for view in self.views if view.modality == modality)

    def where(self, column: int, code: int) -> "Batch":
        """The rows with this code in a column; a view of which nothing is left is left out."""
        views = (view[view.codes[:, column] == code] for view in self.views)
        return replace(self, views=tuple(view for view in views if len(view)))

    def parts(self, count: int) -> "list[Batch]":
        """Batches of consecutive rows of every view, at most `count`, none without a row."""
        count = max(1, min(count, *(len(view) for view in self.views)))
        parts = zip(*(view.parts(count) for view in self.views), strict=True)
        return [replace(self, views=views) for views in parts]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch with every tensor on `device`."""
        views = tuple(view.to(device, non_blocking=non_blocking) for view in self.views)
        return replace(self, views=views)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{view.modality}: {list(view.values.shape)}" for view in self.views)
        return f"Batch(epoch={self.epoch}, step={self.step}, {shapes})"
