"""How pictures are augmented: the tables [video_augment] and [image_augment] of a config.

Frozen, and checking themselves. No torch, so that a config is read in a moment.

Source of the defaults: the reference GDT code (github.com/facebookresearch/GDT) for video, SimCLR
(Chen et al. 2020, appendix A) and MoCo v2 for images.

Legend: S output size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Final

from pipelines.device.crop import CROPS
from pipelines.device.limits import check_pair, check_range

__all__ = ["CHANNELS", "MOST_MAGNITUDE", "ImageAugment", "VideoAugment"]

#: What the channels of a picture may be → how many there are.
CHANNELS: Final[Mapping[str, int]] = {"rgb": 3, "lab": 3, "sobel": 2}
#: Of RandAugment's operations.
MOST_MAGNITUDE: Final = 10
_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}
_MOST_CELLS: Final = 64  # of a side of a grid
_MOST_OPERATIONS: Final = 16
_PROBABILITIES: Final = (
    "flip_probability",
    "jitter_probability",
    "gray_probability",
    "blur_probability",
    "solarize_probability",
    "rand_augment_probability",
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
        rand_augment: K, operations of RandAugment that a row draws, after blurring; gray then comes
            after them, but with `gray_first`. They turn, shear, move or change colours
            (rand_augment.py says which); what was not in the picture becomes the mean colour
            (with "lab" the middle gray). Boxes of a batch say where a picture lay before them.
        rand_augment_probability: of each of the K.
        rand_augment_magnitude: mean of how strong they are, from 0 to 10 ...
        rand_augment_std: ... and the standard deviation; what lies outside 0 to 10 is cut.
        channels: "rgb"; "lab": CIE L, a, b under D65, from 0 to 100 and about −100 to 100; or, of
            images, "sobel": two, how the mean of the normalised R, G and B changes along x and y
            (DeepCluster), with encoders.image_channels = 2.
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
    rand_augment: int = 0
    rand_augment_probability: float = 0.5
    rand_augment_magnitude: float = 10.0
    rand_augment_std: float = 0.5
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
            check_range(name, key, getattr(self, key), 0, 1)
        check_range(name, "solarize_threshold", self.solarize_threshold, 0, 1)
        check_range(name, "rand_augment", self.rand_augment, 0, _MOST_OPERATIONS)
        for key in ("rand_augment_magnitude", "rand_augment_std"):
            check_range(name, key, getattr(self, key), 0, MOST_MAGNITUDE)
        if self.channels not in CHANNELS:
            raise ValueError(
                f"{name}: channels = {self.channels!r}, must be one of {', '.join(CHANNELS)}"
            )
        for key in ("brightness", "contrast", "saturation"):
            check_range(name, key, getattr(self, key), 0, 10)
        check_range(name, "hue", self.hue, 0, 0.5)
        check_range(name, "center_scale", self.center_scale, 0.05, 1)
        check_pair(name, "scales", self.scales, 1e-3, 1)
        check_pair(name, "aspects", self.aspects, 0.1, 10)
        check_pair(name, "blur_sigmas", self.blur_sigmas, 1e-3, 50)
        if self.gray_first and not self.stepwise_colors:
            raise ValueError(
                f"{name}: gray_first = true does nothing without stepwise_colors = true: composed "
                "steps leave gray as it is, whichever comes first"
            )
        if not 1 <= self.grid <= _MOST_CELLS:
            raise ValueError(f"{name}: grid = {self.grid}, must lie in [1, {_MOST_CELLS}]")
        check_range(name, "window", self.window, 0, 1)
        check_pair(name, "patch_scales", self.patch_scales, 1e-3, 1)
        check_pair(name, "patch_aspects", self.patch_aspects, 0.1, 10)
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
