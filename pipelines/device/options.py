"""How segments are augmented, and what a spectrogram is: tables of a config.

[audio_augment], [log_mel], [text], and those of pictures (picture_options.py): frozen, and checking
themselves. No torch, so that a config is read in a moment.

Source of the defaults: the reference GDT code (github.com/facebookresearch/GDT).

Legend: S samples, F mel bins, L spectrogram frames.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pipelines.device.limits import check_range
from pipelines.device.picture_options import ImageAugment, VideoAugment

__all__ = ["AudioAugment", "ImageAugment", "LogMel", "Text", "VideoAugment"]

#: What an encoder may be given of a sound.
AUDIO_VALUES: Final = ("log_mel", "waveform")
#: Whose mean and standard deviation normalise a spectrogram.
NORMALIZATIONS: Final = ("dataset", "clip")
_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class AudioAugment:
    """What is done to the sound of a segment (defaults: the reference recipe's "medium").

    Attributes:
        values: what the encoder sees: a "log_mel" spectrogram [1, F, L], or the "waveform" [1, S]
            at `segment.sample_rate_hz`, in [-1, 1], which has no masks.
        rms: of a waveform, the root mean square that each segment is brought to, so that quiet
            recordings are not below what an encoder's first bias adds; None leaves it as it is.
        volume: gain uniform in [1 − x, 1 + x].
        frequency_masks, time_masks: how many bands are masked (SpecAugment, Park et al. 2019).
        frequency_width, time_width: greatest width of a mask, in mel bins and spectrogram frames.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    values: str = "log_mel"
    rms: float | None = None
    volume: float = 0.1
    frequency_masks: int = 1
    frequency_width: int = 3
    time_masks: int = 1
    time_width: int = 6

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.values not in AUDIO_VALUES:
            raise ValueError(
                f"{name}: values = {self.values!r}, must be one of {', '.join(AUDIO_VALUES)}"
            )
        if self.rms is not None and not (self.rms > 0 and self.values == "waveform"):
            raise ValueError(
                f'{name}: rms = {self.rms}, must be above 0, with values = "waveform"; of '
                "spectrograms log_mel.normalize does it"
            )
        check_range(name, "volume", self.volume, 0, 0.99)
        for key in ("frequency_masks", "time_masks"):
            check_range(name, key, getattr(self, key), 0, 100)
        for key in ("frequency_width", "time_width"):
            check_range(name, key, getattr(self, key), 0, 10_000)


@dataclass(frozen=True)
class LogMel:
    """How a waveform becomes a log-mel spectrogram.

    Attributes:
        sample_rate_hz: of the waveform.
        num_mels: F.
        window_samples: length of the Hann window, and of the Fourier transform.
        hop_samples: from one frame to the next.
        floor: added to the power before the logarithm; 1e-6 lies just above 16-bit rounding noise.
        top_db: decibels below the loudest value of a segment at which its quieter ones are held (as
            in librosa.power_to_db): what is left of noise between words. None holds none.
        normalize: "dataset" takes `mean` and `std` from all segments alike; "clip" takes from each
            its own, so that recordings of different levels become alike: a gain then changes
            nothing but how far sound stands above `floor`.
        mean, std: of natural log-mel, for "dataset"; the defaults are those of Big Buck Bunny.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    sample_rate_hz: int = 24_000
    num_mels: int = 40
    window_samples: int = 480
    hop_samples: int = 240
    floor: float = 1e-6
    top_db: float | None = None
    normalize: str = "dataset"
    mean: float = -6.7
    std: float = 3.9

    def __post_init__(self) -> None:
        for key in ("sample_rate_hz", "num_mels", "window_samples", "hop_samples", "floor", "std"):
            if not getattr(self, key) > 0:
                raise ValueError(f"LogMel: {key} = {getattr(self, key)}, must be positive")
        if self.top_db is not None and not self.top_db > 0:
            raise ValueError(f"LogMel: top_db = {self.top_db}, must be positive")
        if self.normalize not in NORMALIZATIONS:
            raise ValueError(
                f"LogMel: normalize = {self.normalize!r}, must be one of "
                f"{', '.join(NORMALIZATIONS)}"
            )
        if self.num_mels > self.window_samples // 4:
            raise ValueError(
                f"LogMel: num_mels = {self.num_mels} is too many for a window of "
                f"{self.window_samples} samples; at most {self.window_samples // 4}"
            )

    def num_frames(self, num_samples: int) -> int:
        """L of a waveform of S samples; less than 1 where it is shorter than a window."""
        return 1 + (num_samples - self.window_samples) // self.hop_samples


@dataclass(frozen=True)
class Text:
    """How captions become tokens.

    Attributes:
        tokenizer: file of `gdt tokenizer train`, or another of the library `tokenizers` whose token
            0 is the padding. It is relative to the folder the command runs in.
        max_tokens: of a caption, its first and last ones included; the rest is cut off.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    tokenizer: str | None = None
    max_tokens: int = 32

    def __post_init__(self) -> None:
        if self.max_tokens < 3:
            raise ValueError(f"Text: max_tokens = {self.max_tokens}, must be at least 3")
