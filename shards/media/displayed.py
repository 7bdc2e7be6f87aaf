"""Whether a video is shown as its frames are coded: tars that are indexed are read as they lie.

A build turns, stretches and tone-maps frames once. What reads a packet straight out of a tar does
none of it, so a video that needs it would come out lying on its side, or grey.
"""

import io

from shards.errors import SourceError
from shards.media.container import open_container
from shards.media.frame_fitting import orientation
from shards.media.hdr import needs_mapping
from shards.media.orientation import UPRIGHT
from shards.media.streams import first_frame, video_stream

BUILD = "build shards of it with `gdt shards build`"


def check_displayed(data: bytes) -> None:
    """See that the video in a member's bytes is upright, of square pixels, and of SDR colours.

    Raises:
        SourceError: it is not, and what a player would do with it.
    """
    with open_container(io.BytesIO(data)) as container:
        video = video_stream(container)
        try:
            frame = first_frame(container, video)
        except SourceError:
            return  # nothing is known of it but its packets
        aspect = video.sample_aspect_ratio
        if orientation(frame) != UPRIGHT:
            detail = f"{frame.rotation} degrees, display matrix {orientation(frame)}; {BUILD}"
            raise SourceError("index", "a rotated or mirrored video", detail)
        if aspect is not None and aspect > 0 and aspect != 1:
            detail = f"{aspect.numerator}:{aspect.denominator}; {BUILD}"
            raise SourceError("index", "pixels that are not square", detail)
        if needs_mapping(frame):
            detail = f"transfer {frame.color_trc}, primaries {frame.color_primaries}; {BUILD}"
            raise SourceError("index", "HDR or wide colours", detail)
