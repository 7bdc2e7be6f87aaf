"""A track before the index has it: the codec's header, and the table of its packets."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from shards.format.mpegts import Transport

KEYFRAME, DISCARD = 1, 2  # bits of a packet's flags


@dataclass(frozen=True)
class CodecHeader:
    """What a decoder needs before the first packet; the same for many clips of a data set.

    extradata: the codec's own header (avcC for H.264 in mp4, STREAMINFO for FLAC). Fields of the
    other kind are None or 0. transport: how packets lie in the member in pieces, None where each is
    one piece.
    """

    kind: str
    codec: str
    extradata: bytes
    time_base: Fraction
    width: int = 0
    height: int = 0
    pixel_format: str | None = None
    color_matrix: str | None = None
    color_range: str | None = None
    frame_rate: Fraction | None = None
    sample_rate_hz: int = 0
    num_channels: int = 0
    transport: Transport | None = None


@dataclass(frozen=True, eq=False)
class TrackTable:
    """One track of one member: its header and its packets [P] in file order.

    offset counts from the member's first byte; pts and duration are ticks of header.time_base;
    start and stop are the presentation range in ticks: without a codec's priming and padding, and
    without what an edit list hides.
    """

    header: CodecHeader
    member: str
    start: int
    stop: int
    offset: npt.NDArray[np.uint64]
    size: npt.NDArray[np.uint32]
    pts: npt.NDArray[np.int64]
    duration: npt.NDArray[np.int64]
    crc32: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint8]

    @property
    def is_still(self) -> bool:
        """See `Track.is_still`."""
        header = self.header
        return header.kind == "video" and header.frame_rate is None and len(self.offset) == 1
