"""The decoder of a data set: by its name or by what this machine has; and its frames' form."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count

import numpy as np

from pipelines.decoding.backends.backend import Backend, FrameRequest, PartialBackend
from pipelines.decoding.backends.choice import AUTO, choose_decoder, make_backend
from pipelines.decoding.faults import sample_faults
from pipelines.decoding.frame_format import FrameFormat, frame_format
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.tracks import track_of
from pipelines.sampling.mixture import Mixture
from pipelines.skips import SkipError
from shards import Samples

__all__ = ["DataSetDecoder", "decoder_for"]


@dataclass(frozen=True)
class DataSetDecoder:
    """A backend, its name, why it is that one, and the form of the frames that it gives."""

    name: str
    reason: str
    backend: Backend
    form: FrameFormat


def decoder_for(
    dataset: Samples, options: SegmentOptions, *, video: bool, isolated: bool
) -> DataSetDecoder:
    """The decoder that options ask for; arguments as of `SegmentReader`.

    Raises:
        ImportError: the decoder's library is missing.
        ValueError: no frame is found to take their form from, or the decoder has none of stills.
    """
    if isolated and options.decoder == AUTO:
        name, reason = "av", "data.isolate needs frames on the CPU"
    else:
        name, reason = choose_decoder(options.decoder)
    form = FrameFormat(*(options.frame_size or (0, 0)), "bt709", "limited")
    if video:
        parts = dataset.data_sets if isinstance(dataset, Mixture) else {}
        form = frame_format(dataset, parts, options.frame_size, converts=name == "av")
    if video and form.is_still and name != "av":
        if options.decoder != AUTO:
            raise ValueError(
                f"decoder = {options.decoder!r} decodes video, and {dataset.path} holds still "
                "images: use 'av' or 'auto'"
            )
        name, reason = "av", "it is the one that decodes still images"
    colors = (form.color_matrix, form.color_range)
    backend = make_backend(name, options.fallback, colors)
    if video and options.decoder == AUTO and (cause := _refusal(backend, dataset, form)):
        name, reason = "av", f"there is a GPU, but not for this: {cause}"
        backend = make_backend(name, options.fallback, colors)
    return DataSetDecoder(name, reason, backend, form)


def _refusal(backend: Backend, dataset: Samples, form: FrameFormat) -> str | None:
    """Why the backend would leave all video to another one, as the first frames tell it."""
    if not isinstance(backend, PartialBackend):
        return None
    sample = next(s for s in map(dataset.sample, count()) if s.video is not None)
    with suppress(SkipError), sample_faults(sample):
        read, track = partial(dataset.read, sample), track_of(sample, "video")
        keyframe = np.flatnonzero(track.packets.keyframe)[:1]
        return backend.refusal(FrameRequest(read, track, keyframe, form.height, form.width))
    return None
