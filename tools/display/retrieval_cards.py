"""Small pictures and sounds of a clip, as bytes for the pages of retrieval and search.

Legend: T frames, H height, W width, S audio samples, F mel bins, L log-mel columns, Q queries,
G gallery items.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tools.display.segment_views import log_mel, rgb_frames

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipelines.decoding.segment_reader import SegmentReader
    from pipelines.device.options import LogMel

_STRIP_FRAMES = 4
_MOST_PIXELS = 240  # of a picture's longer side: more than any card shows
_QUALITY = 70  # of WebP
_BITS_A_SECOND = 32_000  # of MP3


@dataclass(frozen=True)
class Preview:
    """The middle segment of a clip, as far as the clip has it.

    Attributes:
        frames: WebP bytes: a frame over a strip of four.
        spectrogram: WebP bytes.
        sound: MP3 bytes.
    """

    frames: bytes | None
    spectrogram: bytes | None
    sound: bytes | None

    def picture(self, modality: str) -> bytes | None:
        """What stands for a modality: the spectrogram for audio, frames for all others."""
        first, second = self.frames, self.spectrogram
        return (second or first) if modality == "audio" else (first or second)


def preview_of(reader: "SegmentReader", number: int, options: "LogMel") -> Preview:
    """Decode the middle segment of a sample into a preview.

    Raises:
        SkipError: it cannot be had.
    """
    middle = reader.starts(reader.dataset.sample(number), np.array([0.5]))
    (segment,) = reader.segments(number, middle.tolist())
    has_audio = segment.audio is not None
    return Preview(
        frames=None if segment.video is None else frames_picture(rgb_frames(segment)),
        spectrogram=log_mel_picture(log_mel(segment, options)) if has_audio else None,
        sound=None if segment.audio is None else mp3_audio(segment.audio, segment.sample_rate_hz),
    )


def similarity_picture(scores: npt.NDArray[np.floating[Any]]) -> bytes:
    """Scores of queries against items [Q, G] as PNG bytes: a row a query, bright is similar."""
    from matplotlib import colormaps
    from PIL import Image

    low, high = (float(np.percentile(scores, share)) for share in (1, 99))
    level = np.clip((scores - low) / max(high - low, 1e-9), 0, 1)
    picture = Image.fromarray((level * 255).round().astype(np.uint8)).convert("P")
    picture.putpalette(colormaps["viridis"](np.arange(256), bytes=True)[:, :3].tobytes())
    return _encoded(picture, "PNG", optimize=True)


def frames_picture(frames: npt.NDArray[np.uint8]) -> bytes:
    """The middle frame over a strip of four evenly spaced ones, as WebP bytes.

    Args:
        frames: uint8 [T, H, W, 3] RGB.
    """
    from PIL import Image

    total, height, width, _ = frames.shape
    chosen = frames[((np.arange(_STRIP_FRAMES) + 0.5) * total / _STRIP_FRAMES).astype(int)]
    height, width = height - height % _STRIP_FRAMES, width - width % _STRIP_FRAMES
    small = chosen[:, :height, :width].reshape(
        _STRIP_FRAMES, height // _STRIP_FRAMES, _STRIP_FRAMES, width // _STRIP_FRAMES, -1, 3
    )
    strip = np.concatenate(list(small.mean(axis=(2, 4))), axis=1).astype(np.uint8)
    picture = np.concatenate([frames[total // 2, :height, :width], strip])
    image = Image.fromarray(picture)
    image.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    return _encoded(image, "WEBP", quality=_QUALITY)


def log_mel_picture(log_mel: npt.NDArray[np.floating[Any]]) -> bytes:
    """A log-mel spectrogram [F, L], low frequencies at the bottom, as WebP bytes."""
    from matplotlib import colormaps
    from PIL import Image

    low, high = float(log_mel.min()), float(log_mel.max())
    level = (log_mel[::-1] - low) / max(high - low, 1e-6)
    pixels = np.asarray(colormaps["magma"](level, bytes=True))[..., :3]
    return _encoded(Image.fromarray(np.ascontiguousarray(pixels)), "WEBP", quality=_QUALITY)


def _encoded(image: "Image", form: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def mp3_audio(audio: npt.NDArray[np.float32], sample_rate_hz: int) -> bytes:
    """A waveform [S] in -1…1 as MP3 bytes, which every browser plays."""
    import av

    target = io.BytesIO()
    with av.open(target, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=sample_rate_hz, layout="mono")
        stream.bit_rate = _BITS_A_SECOND
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.clip(audio, -1, 1)[None]), format="fltp", layout="mono"
        )
        frame.sample_rate = sample_rate_hz
        for piece in (frame, None):
            container.mux(stream.encode(piece))
    return target.getvalue()
