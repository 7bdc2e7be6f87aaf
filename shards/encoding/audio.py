"""Encode one clip's audio as a member: FLAC, PCM, Opus or AAC, each in its usual container.

FLAC and PCM keep the samples bit for bit. Opus and AAC begin with samples that are not the clip's
(pre-skip, priming); the file says how many, and the index places the audio after them. The same
samples give the same bytes, and nothing in a file depends on the clock or the host.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags

from shards.encoding.video import Memory, open_muxer

LAYOUTS: Final = {1: "mono", 2: "stereo"}


@dataclass(frozen=True)
class AudioFormat:
    """One way to store audio.

    Attributes:
        extension: of the member.
        container, encoder: FFmpeg's names.
        sample_format: what the encoder takes.
        bits_a_second: for each channel; None where nothing is lost.
        container_options, encoder_options: as FFmpeg takes them.
    """

    extension: str
    container: str
    encoder: str
    sample_format: str = "s16"
    bits_a_second: int | None = None
    container_options: Mapping[str, str] = field(default_factory=dict)
    encoder_options: Mapping[str, str] = field(default_factory=dict)


AUDIO_FORMATS: Final[Mapping[str, AudioFormat]] = {
    # fixed predictors are decoded sooner, for some more bytes
    "flac": AudioFormat("flac", "flac", "flac", encoder_options={"lpc_type": "fixed"}),
    "pcm": AudioFormat("wav", "wav", "pcm_s16le"),
    "opus": AudioFormat("opus", "ogg", "libopus", bits_a_second=64_000),
    "aac": AudioFormat(
        "m4a",
        "ipod",
        "aac",
        sample_format="fltp",
        bits_a_second=80_000,
        container_options={"movflags": "+faststart"},
        encoder_options={"aac_pns": "0"},  # no noise that a decoder makes up as it likes
    ),
}


def encode_audio(samples: npt.NDArray[np.int16], sample_rate_hz: int, name: str = "flac") -> bytes:
    """The member's bytes.

    Args:
        samples: [C, S], mono or stereo.
        sample_rate_hz: of the samples.
        name: of `AUDIO_FORMATS`.
    """
    audio_format = AUDIO_FORMATS[name]
    file, layout = Memory(), LAYOUTS[len(samples)]
    with open_muxer(file, audio_format.container, audio_format.container_options) as container:
        stream: Any = container.add_stream(
            audio_format.encoder,
            rate=sample_rate_hz,
            layout=layout,
            format=audio_format.sample_format,
            options=dict(audio_format.encoder_options),
        )
        codec = stream.codec_context
        codec.thread_count = 1
        codec.flags |= Flags.bitexact
        if audio_format.bits_a_second is not None:
            codec.bit_rate = audio_format.bits_a_second * len(samples)
        interleaved = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
        frame.sample_rate = sample_rate_hz
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
