"""Maps of a clip's frames, each of its own: what methods of correspondence compare.

Legend: B clips, T frames, C channels, h × w cells of a map.
"""

from torch import Tensor

from gdt import Plan, View
from models.encoders import EncoderOptions
from models.encoders.frames import FrameEncoder
from models.towers import Towers


def check_frames(towers: Towers, plan: Plan, encoders: EncoderOptions, why: str) -> None:
    """Raise ValueError unless the plan is of video, whose encoder sees the frames one by one.

    Args:
        towers: of the method.
        plan: its modalities.
        encoders: their names.
        why: "CRW compares the frames of a clip".
    """
    if plan.modalities != ("video",):
        raise ValueError(
            f'{why}: plan.modality.values must be ["video"], got {list(plan.modalities)}'
        )
    if not isinstance(towers.encoder("video"), FrameEncoder):
        raise ValueError(
            f'{why}, and encoders.video = "{encoders.video}" mixes them: name an image encoder, '
            'which sees them one by one: encoders.video = "resnet18", say'
        )


def frame_maps(towers: Towers, view: View, *, least_frames: int, why: str) -> Tensor:
    """Return the maps of a view's frames, [B, T, C, h, w].

    Args:
        towers: with a frame encoder, see `check_frames`.
        view: values [B, 3, T, H, W].
        least_frames: T, at least.
        why: half a sentence for the message.

    Raises:
        ValueError: fewer frames.
    """
    check_count(view.values.shape[-3], least_frames, why)
    return towers.maps(view.modality, view.values).transpose(1, 2)


def check_count(num_frames: int, least_frames: int, why: str) -> None:
    """Raise ValueError where a clip has fewer frames than a method needs."""
    if num_frames < least_frames:
        raise ValueError(
            f"{why}: a clip must have {least_frames} frames or more, got {num_frames}: set "
            "segment.num_frames, and seconds that the clips have"
        )
