"""Find the one size and colour description that all frames of a data set are decoded to.

The first sample with video or an image says it; of a mixture, the first of each data set. Others
must agree (the reader sees to it, sample by sample), or `segment.frame_size` brings them to one.
Stills have any size: without a frame_size they become squares of the median of their shorter sides,
of at most 256 pixels. That is what stays when the first one happens to be a thumbnail; evaluated on
other images of the kind, a model finds the size that it was trained on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median_low

from shards import Samples, Track
from shards.media.limits import MAX_PIXELS

__all__ = ["FrameFormat", "frame_format"]

_MOST_LOOKED_AT = 256  # samples without a video track before one with
_MOST_STILL_SIDE = 256
_STILLS_MEASURED = 32  # spread evenly


@dataclass(frozen=True)
class FrameFormat:
    """Size in pixels, what turns the planes into RGB (see color.py), and whether stills are in."""

    width: int
    height: int
    color_matrix: str
    color_range: str
    is_still: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.width}×{self.height} {self.color_matrix} {self.color_range}"


def frame_format(
    dataset: Samples,
    parts: Mapping[str, Samples],
    frame_size: tuple[int, int] | None,
    *,
    converts: bool,
) -> FrameFormat:
    """The form of a data set's frames.

    Args:
        dataset: the whole.
        parts: by name, the data sets that it is a mixture of; none where it is one.
        frame_size: (width, height) that all are scaled to.
        converts: whether the decoder brings video of other colours to these.

    Raises:
        ValueError: no frames are found, they have a size that planes cannot have, or data sets of
            a mixture do not agree.
    """
    wholes = parts or {str(dataset.path): dataset}
    forms = {name: _form(whole, frame_size) for name, whole in wholes.items()}
    stills = [name for name, form in forms.items() if form.is_still]
    first_name = (stills or list(forms))[0]  # stills have one colour, which video is brought to
    first = forms[first_name]
    converts = converts or bool(stills)  # which only the decoder that converts decodes
    for name, form in forms.items():
        sizes_differ = (form.width, form.height) != (first.width, first.height)
        if sizes_differ or (form != first and not converts):
            remedy = "set segment.frame_size, or build" if sizes_differ else "build"
            raise ValueError(
                f"frames of the mixture differ: {first_name} has {first} and {name} has {form}: "
                f"{remedy} them alike with `gdt shards build`"
            )
    return first


def _form(dataset: Samples, frame_size: tuple[int, int] | None) -> FrameFormat:
    track = _first_track(dataset)
    width, height = frame_size or (track.width, track.height)
    if track.is_still and frame_size is None:
        width = height = _still_side(dataset, track)
    if width % 2 or height % 2 or not 0 < width * height <= MAX_PIXELS:
        raise ValueError(
            f"the first frames are {width}×{height}; without segment.frame_size both must be "
            f"even, as chroma has half of each, and at most {MAX_PIXELS} pixels: set it"
        )
    matrix, color_range = track.color_matrix or "bt709", track.color_range or "limited"
    return FrameFormat(width, height, matrix, color_range, track.is_still)


def _still_side(dataset: Samples, first: Track) -> int:
    spread = {len(dataset) * i // _STILLS_MEASURED for i in range(_STILLS_MEASURED)}
    tracks = (dataset.sample(number).video for number in sorted(spread))
    stills = [track for track in tracks if track is not None and track.is_still]
    side = median_low(min(still.width, still.height) for still in stills or [first])
    return max(2, min(side, _MOST_STILL_SIDE) // 2 * 2)


def _first_track(dataset: Samples) -> Track:
    fault = ""
    for number in range(min(len(dataset), _MOST_LOOKED_AT)):
        sample = dataset.sample(number)
        if sample.video is not None:
            return sample.video
        if sample.fault and not fault:
            fault = f" ({sample.key!r}: {sample.fault})"
    raise ValueError(
        f"{dataset.path}: none of its first {min(len(dataset), _MOST_LOOKED_AT)} samples has "
        f"a video track{fault}, and the plan needs one: leave video and image out of "
        "plan.modality.values, or give other shards"
    )
