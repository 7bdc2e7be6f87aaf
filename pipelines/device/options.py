"""How segments are augmented, and what a spectrogram is: tables of a config.

[video_augment], [image_augment], [audio_augment], [log_mel] and [text]: frozen, and checking
themselves. No torch, so that a config is read in a moment.

Source of the defaults: the reference GDT code (github.com/facebookresearch/GDT) for video and
audio, SimCLR (Chen et al. 2020, appendix A) and MoCo v2 for images.

Legend: S output size, F mel bins, L spectrogram frames.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Final

from pipelines.device.crop import CROPS

__all__ = ["CHANNELS", "AudioAugment", "ImageAugment", "LogMel", "Text", "VideoAugment"]

#: What the three channels of a picture may be.
CHANNELS: Final = ("rgb", "lab")
#: What an encoder may be given of a sound.
AUDIO_VALUES: Final = ("log_mel", "waveform")
#: Whose mean and standard deviation normalise a spectrogram.
NORMALIZATIONS: Final = ("dataset", "clip")
_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}
_MOST_CELLS: Final = 64  # of a side of a grid
_PROBABILITIES: Final = (
    "flip_probability",
    "jitter_probability",
    "gray_probability",
    "blur_probability",
    "solarize_probability",
)


@dataclass(frozen=True)
class VideoAugment:
    """What is done to the frames of a segment; all of its frames get the same, unless it says so.

    Attributes:
        size: S, pixels of the square that the encoder sees.
        crop: "random" (a square; scales of the short side) or "random_resized" (a box of random
            area and aspect; scales of the area).
        scales: least and greatest, see `crop`.
        aspects: least and greatest width / height of "random_resized".
        frame_crops: draw the crop in each frame anew; contrast then keeps the mean of each frame,
            not that of the clip.
        center_scale: side of the middle square used in evaluation, share of the short side.
        flip_probability: of mirroring left to right.
        jitter_probability: of the four steps below (together, in random order).
        brightness, contrast, saturation: factor uniform in [max(0, 1 − x), 1 + x].
        hue: turns of the chroma plane, uniform in [−x, x]; at most 0.5.
        gray_probability: of gray, after those steps.
        gray_first: gray before them (MoCo v1, InstDisc), with `stepwise_colors`; composed it would
            be the same.
        stepwise_colors: take the steps one after the other, each clipped, hue in HSV: what
            torchvision's ColorJitter does. Else they are composed into one matrix, clipped at the
            end, hue a turn of the chroma plane: the same but for clipping and hue, and quicker.
        blur_probability: of a Gaussian blur.
        blur_sigmas: its least and greatest sigma, output pixels.
        solarize_probability: of inverting what is as bright as `solarize_threshold` or brighter.
        solarize_threshold: in [0, 1].
        channels: "rgb", or "lab": CIE L, a, b under D65, from 0 to 100 and about −100 to 100.
        mean, std: normalisation of the three channels, R, G, B in [0, 1].
        grid: n, cuts the crop into n × n patches of `size` pixels, row by row; 1 leaves it whole,
            and so does evaluation.
        window: side of the square in which a patch has its place, share of the crop's; 0 is 1 / n,
            windows side by side, and greater ones overlap.
        patch_scales: least and greatest area of a patch, share of its window's.
        patch_aspects: its least and greatest width / height, where the window has 1.
        patch_colors: draw jitter, gray, blur and solarizing for each patch by itself.
        patch_frames: draw a patch's place in each frame anew; contrast then keeps the mean of each
            frame, not that of the clip.
        views: a recipe for each draw of the plan's `augmentation`, in order: tables of the keys
            above that differ from this one's, and of `count`, for how many draws it stands. Empty:
            all draws have this recipe.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    size: int = 112
    crop: str = "random"
    scales: tuple[float, float] = (0.7, 0.875)
    aspects: tuple[float, float] = (3 / 4, 4 / 3)
    frame_crops: bool = False
    center_scale: float = 0.875
    flip_probability: float = 0.5
    jitter_probability: float = 1.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0
    gray_probability: float = 0.0
    gray_first: bool = False
    stepwise_colors: bool = False
    blur_probability: float = 0.0
    blur_sigmas: tuple[float, float] = (0.1, 2.0)
    solarize_probability: float = 0.0
    solarize_threshold: float = 0.5
    channels: str = "rgb"
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)
    grid: int = 1
    window: float = 0.0
    patch_scales: tuple[float, float] = (1.0, 1.0)
    patch_aspects: tuple[float, float] = (1.0, 1.0)
    patch_colors: bool = False
    patch_frames: bool = False
    views: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.size < 8:
            raise ValueError(f"{name}: size = {self.size}, must be at least 8 pixels")
        if self.crop not in CROPS:
            raise ValueError(f"{name}: crop = {self.crop!r}, must be one of {', '.join(CROPS)}")
        for key in _PROBABILITIES:
            _check_range(name, key, getattr(self, key), 0, 1)
        _check_range(name, "solarize_threshold", self.solarize_threshold, 0, 1)
        if self.channels not in CHANNELS:
            raise ValueError(
                f"{name}: channels = {self.channels!r}, must be one of {', '.join(CHANNELS)}"
            )
        for key in ("brightness", "contrast", "saturation"):
            _check_range(name, key, getattr(self, key), 0, 10)
        _check_range(name, "hue", self.hue, 0, 0.5)
        _check_range(name, "center_scale", self.center_scale, 0.05, 1)
        _check_pair(name, "scales", self.scales, 1e-3, 1)
        _check_pair(name, "aspects", self.aspects, 0.1, 10)
        _check_pair(name, "blur_sigmas", self.blur_sigmas, 1e-3, 50)
        if self.gray_first and not self.stepwise_colors:
            raise ValueError(
                f"{name}: gray_first = true does nothing without stepwise_colors = true: composed "
                "steps leave gray as it is, whichever comes first"
            )
        if not 1 <= self.grid <= _MOST_CELLS:
            raise ValueError(f"{name}: grid = {self.grid}, must lie in [1, {_MOST_CELLS}]")
        _check_range(name, "window", self.window, 0, 1)
        _check_pair(name, "patch_scales", self.patch_scales, 1e-3, 1)
        _check_pair(name, "patch_aspects", self.patch_aspects, 0.1, 10)
        if min(self.std) <= 0:
            raise ValueError(f"{name}: std = {self.std}, must be positive")
        self._expanded()  # what a view refuses is refused now

    @property
    def num_patches(self) -> int:
        """How many pictures a crop gives: n · n."""
        return self.grid**2

    def recipes(self, draws: int) -> "tuple[VideoAugment, ...]":
        """The recipe of each draw.

        Raises:
            ValueError: there are views, and not as many as draws.
        """
        if not self.views:
            return (self,) * draws
        recipes = self._expanded()
        if len(recipes) != draws:
            raise ValueError(
                f"{type(self).__name__}: views stand for {len(recipes)} draws (their counts "
                f"together), and plan.augmentation.draws = {draws}: make both alike"
            )
        return recipes

    def _expanded(self) -> "tuple[VideoAugment, ...]":
        recipes: list[VideoAugment] = []
        for number, view in enumerate(self.views):
            where = f"{type(self).__name__}: views[{number}]"
            count = view.get("count", 1)
            if type(count) is not int or count < 1:
                raise ValueError(f"{where}: count = {count!r}, must be a count, at least 1")
            keys = {key: value for key, value in view.items() if key != "count"}
            recipes += [replace(self, views=(), **self._checked(keys, where))] * count
        return tuple(recipes)

    def _checked(self, keys: dict[str, Any], where: str) -> dict[str, Any]:
        """The values of a view, lists as tuples, each of the type of this table's own."""
        allowed = [field.name for field in fields(self) if field.name != "views"]
        checked = {}
        for key, value in keys.items():
            if key not in allowed:
                raise ValueError(f"{where}: unknown key {key!r}, allowed are count, {allowed}")
            own = getattr(self, key)
            plain = tuple(value) if isinstance(value, list) else value
            if type(own) is float and type(plain) is int:
                plain = float(plain)
            if type(plain) is not type(own) or (isinstance(own, tuple) and len(plain) != len(own)):
                raise ValueError(f"{where}: {key} = {value!r}, must be like {own!r}")
            checked[key] = plain
        return checked


@dataclass(frozen=True)
class ImageAugment(VideoAugment):
    """The same for single frames, with the defaults of SimCLR and MoCo v2."""

    crop: str = "random_resized"
    scales: tuple[float, float] = (0.2, 1.0)
    jitter_probability: float = 0.8
    hue: float = 0.1
    gray_probability: float = 0.2
    blur_probability: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("frame_crops", "patch_frames"):
            if getattr(self, key):
                raise ValueError(f"ImageAugment: {key} is for clips, and an image has one frame")


@dataclass(frozen=True)
class AudioAugment:
    """What is done to the sound of a segment (defaults: the reference recipe's "medium").

    Attributes:
        values: what the encoder sees: a "log_mel" spectrogram [1, F, L], or the "waveform" [1, S]
            at `segment.sample_rate_hz`, in [-1, 1], which has no masks.
        volume: gain uniform in [1 − x, 1 + x].
        frequency_masks, time_masks: how many bands are masked (SpecAugment, Park et al. 2019).
        frequency_width, time_width: greatest width of a mask, in mel bins and spectrogram frames.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    values: str = "log_mel"
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
        _check_range(name, "volume", self.volume, 0, 0.99)
        for key in ("frequency_masks", "time_masks"):
            _check_range(name, key, getattr(self, key), 0, 100)
        for key in ("frequency_width", "time_width"):
            _check_range(name, key, getattr(self, key), 0, 10_000)


def _check_range(name: str, key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}: {key} = {value}, must lie in [{low}, {high}]")


def _check_pair(name: str, key: str, pair: tuple[float, float], low: float, high: float) -> None:
    if not low <= pair[0] <= pair[1] <= high:
        raise ValueError(
            f"{name}: {key} = {list(pair)}, must be least and greatest, both in [{low}, {high}]"
        )


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
