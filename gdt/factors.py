"""The factors there are: what each draws, where, and what its table in a plan may say.

A new factor is a class here and its place in `FACTORS`, which is the place of its code column;
the stage that it names (`pipelines`) then has to make its draws.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Final

from gdt.factor import Factor
from gdt.modalities import MODALITIES


class Sample(Factor):
    """Which sample; its draws are the samples of the batch, so that K is 1 in a plan."""

    name = "sample"
    stage = "decode"

    def check(self) -> None:
        """Distinctive, all pairs: what ignores the sample has nothing to tell apart."""
        own_tables = self.contrast is not None or self.weight is not None
        if self.relation != "distinctive" or self.pairs != "all" or own_tables:
            self.refuse(
                "must be distinctive, with all pairs and no table of its own: "
                "a representation that ignores the sample has nothing to tell apart"
            )
        if self.draws != 1 or self.values:
            self.refuse(f"draws = {self.draws}: its draws are the batch's samples; leave it out")


@dataclass(frozen=True)
class TimeShift(Factor):
    """Where in the clip a segment starts.

    Attributes:
        min_seconds_apart: the starts of a clip's segments are at least so far from each other.
    """

    name = "time_shift"
    stage = "decode"

    min_seconds_apart: float = 0.0

    def check(self) -> None:
        """A distance needs two starts."""
        distance = self.min_seconds_apart
        if type(distance) not in (int, float) or not 0 <= distance < math.inf:
            self.refuse(f"min_seconds_apart = {distance!r}, must be a number of seconds from 0 on")
        if distance > 0 and self.draws < 2:
            self.refuse(f"min_seconds_apart = {distance} is between starts: set draws = 2 or more")


class Speed(Factor):
    """How fast a segment plays: `values` are the factors, 2.0 fits two seconds into one."""

    name = "speed"
    stage = "decode"
    value_type = float

    FASTEST: ClassVar[float] = 16.0

    def check(self) -> None:
        """Numbers above 0, and as many as draws."""
        in_range = all(1 / self.FASTEST <= value <= self.FASTEST for value in self.values)
        if not self.values or not in_range:
            self.refuse(
                f"values = {list(self.values)}, must be different speeds from {1 / self.FASTEST} "
                f"to {self.FASTEST}, such as [1.0, 2.0]"
            )


class ModalitySlice(Factor):
    """Which modality of the segment is kept: one of `values`."""

    name = "modality"
    stage = "decode"

    def check(self) -> None:
        """Named ones of `MODALITIES`."""
        if not self.values or not set(self.values) <= set(MODALITIES):
            self.refuse(
                f"values = {list(self.values)}, must be different ones of {', '.join(MODALITIES)}"
            )


class TimeReversal(Factor):
    """Forwards (code 0) or backwards (code 1)."""

    name = "time_reversal"
    stage = "device"

    def check(self) -> None:
        """Two ways to play."""
        if self.draws > 2:
            self.refuse(
                f"draws = {self.draws}; a segment plays forwards or backwards, so at most 2"
            )


class Crop(Factor):
    """Which part of the picture: boxes drawn independently of each other."""

    name = "crop"
    stage = "device"


class Augmentation(Factor):
    """Whatever else is drawn at random: colour, noise, and the crop if it is no factor itself."""

    name = "augmentation"
    stage = "device"


#: name → factor, in the order of the columns of every code.
FACTORS: Final[dict[str, type[Factor]]] = {
    factor.name: factor
    for factor in (Sample, TimeShift, Speed, ModalitySlice, TimeReversal, Crop, Augmentation)
}
