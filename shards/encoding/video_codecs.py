"""Video encoders as tables: the settings of each codec, and how hard each profile tries.

All give the same layout: closed groups of frames of a fixed length, no B-frames and no hidden
frames, one thread, no scene cuts. So a decoder starts at any keyframe, every packet is one frame,
and the same frames give the same bytes. x264's macroblock tree is off, because its AVX-512 code
does not (one clip in fifty differed from run to run); at equal PSNR that costs 20 % more bytes.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from shards.options import BuildOptions


@dataclass(frozen=True)
class Effort:
    """How hard an encoder tries under one profile.

    crf_offset brings `crf`, which is on x264's scale, to the encoder's own, so that the same number
    means about the same PSNR (measured at 20, see docs/encoding.md; MJPEG would grow too large).
    """

    crf_offset: int
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Encoder:
    """One codec's encoder.

    Attributes:
        name: FFmpeg's.
        layout: frames from keyframe to keyframe, quality → the settings that all profiles share.
        efforts: by profile.
        tag: what an mp4 calls the codec, where the muxer would choose one that players refuse.
        environment: variables that silence a library which prints.
    """

    name: str
    layout: Callable[[int, int], dict[str, str]]
    efforts: Mapping[str, Effort]
    tag: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def settings(self, options: BuildOptions) -> dict[str, str]:
        """All settings of a build, as FFmpeg takes them."""
        effort = self.efforts[options.profile]
        quality = options.crf + effort.crf_offset
        return self.layout(options.gop_frames, quality) | dict(effort.settings)


def _h264(gop: int, quality: int) -> dict[str, str]:
    return {
        "crf": f"{min(51, quality)}",
        "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:bframes=0"
        ":mbtree=0:rc-lookahead=0:threads=1:lookahead-threads=1:sliced-threads=0",
    }


def _hevc(gop: int, quality: int) -> dict[str, str]:
    return {
        "crf": f"{min(51, quality)}",
        "x265-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:bframes=0"
        ":cutree=0:rc-lookahead=0:pools=none:frame-threads=1:wpp=0:info=0:log-level=none",
    }


def _vp9(gop: int, quality: int) -> dict[str, str]:
    return {
        "g": f"{gop}",
        "keyint_min": f"{gop}",
        "crf": f"{quality}",
        "b": "0",  # constant quality
        "deadline": "good",
        "lag-in-frames": "0",  # no frames that are decoded and not shown
        "auto-alt-ref": "0",
        "row-mt": "0",
        "tile-columns": "0",
    }


def _av1(gop: int, quality: int) -> dict[str, str]:
    return {
        "g": f"{gop}",
        "crf": f"{quality}",
        # low delay, which has no hidden frames; one thread; keyframes that close the group
        "svtav1-params": "pred-struct=1:lp=1:scd=0:irefresh-type=2:enable-overlays=0",
    }


def _mpeg4(gop: int, quality: int) -> dict[str, str]:
    # as in H.264, six more of `crf` are steps twice as wide; 21 and 3 are alike within 2 dB
    scale = min(31, max(2, round(3 * 2 ** ((quality - 21) / 6))))
    return {
        "g": f"{gop}",
        "bf": "0",
        "sc_threshold": "1000000000",
        "qmin": f"{scale}",
        "qmax": f"{scale}",
        "lmin": f"{118 * scale}",  # FF_QP2LAMBDA: what a bit is worth, for motion and trellis
        "lmax": f"{118 * scale}",
    }


def _mjpeg(_gop: int, quality: int) -> dict[str, str]:
    scale = min(31, max(2, quality))
    return {"qmin": f"{scale}", "qmax": f"{scale}"}


ENCODERS: Final[Mapping[str, Encoder]] = {
    "h264": Encoder(
        "libx264",
        _h264,
        {
            "fast": Effort(0, {"preset": "veryfast", "tune": "fastdecode"}),
            "compact": Effort(1, {"preset": "slow"}),
        },
    ),
    "hevc": Encoder(
        "libx265",
        _hevc,
        {
            "fast": Effort(2, {"preset": "veryfast", "tune": "fastdecode"}),
            "compact": Effort(3, {"preset": "slow"}),
        },
        tag="hvc1",
    ),
    "vp9": Encoder(
        "libvpx-vp9",
        _vp9,
        {"fast": Effort(8, {"cpu-used": "5"}), "compact": Effort(10, {"cpu-used": "2"})},
    ),
    "av1": Encoder(
        "libsvtav1",
        _av1,
        {"fast": Effort(6, {"preset": "8"}), "compact": Effort(8, {"preset": "4"})},
        environment={"SVT_LOG": "1"},
    ),
    "mpeg4": Encoder(
        "mpeg4",
        _mpeg4,
        {
            "fast": Effort(0, {}),
            "compact": Effort(
                0,
                {
                    "flags": "+mv4",
                    "mbd": "rd",
                    "trellis": "1",
                    "cmp": "satd",
                    "subcmp": "satd",
                },
            ),
        },
    ),
    "mjpeg": Encoder(
        "mjpeg",
        _mjpeg,
        {
            "fast": Effort(-17, {"huffman": "default"}),
            "compact": Effort(-17, {"huffman": "optimal"}),
        },
    ),
}


def encoder_of(options: BuildOptions) -> Encoder:
    """The encoder that a build uses."""
    encoder = ENCODERS[options.codec]
    for name, value in encoder.environment.items():
        os.environ.setdefault(name, value)
    return encoder
