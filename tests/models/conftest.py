"""Small random batches with the codes that a plan gives them, and small models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gdt import Batch, Plan, View, named_plan
from models import METHODS, EncoderOptions, Labels, Method, RunFacts, Setting, build_method
from models.method import EmbedDataset

NUM_TOKENS = 30
ROW_SHAPES = {"video": (3, 4, 32, 32), "audio": (1, 40, 33), "image": (3, 32, 32)}

MakeBatch = Callable[..., Batch]


def random_batch(
    plan: Plan,
    samples: Sequence[int],
    patched: Sequence[int] = (),
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Batch:
    """Random values for every transformation of some samples, with all codes of the plan's grid.

    Args:
        plan: whose grid it is.
        samples: their codes.
        patched: augmentation codes whose rows are cut into 4 patches, a view of their own.
        shapes: of a row, by modality, where not those of `ROW_SHAPES`.
    """
    row_shapes = ROW_SHAPES | dict(shapes or {})
    codes = plan.codes(torch.tensor(samples))
    column, of_view = plan.names.index("modality"), plan.column("augmentation")
    views = []
    for number, name in enumerate(plan.modalities):
        of_modality = codes[codes[:, column] == number]
        cut = torch.zeros(len(of_modality), dtype=torch.bool)
        if of_view is not None:
            cut = torch.isin(of_modality[:, of_view], torch.tensor(patched))
        for rows, pieces in ((of_modality[~cut], ()), (of_modality[cut], (4,))):
            if len(rows):
                values = torch.randn(len(rows), *pieces, *row_shapes.get(name, ()))
                if name == "text":
                    values = texts(len(rows))
                boxes = 0.25 + torch.rand(len(rows), *pieces, 4) / 4  # top, left, height, width
                views.append(View(name, values, rows, boxes))
    return Batch(tuple(views), epoch=0, step=0)


@pytest.fixture
def make_batch() -> MakeBatch:
    """See `random_batch`."""
    return random_batch


def texts(count: int) -> Tensor:
    """Random tokens int64 [B, 7], of which the last ones may be padding."""
    tokens = torch.randint(1, NUM_TOKENS, (count, 7))
    lengths = torch.randint(3, 8, (count, 1))
    return tokens.masked_fill(torch.arange(7) >= lengths, 0)


#: Small heads for each method, by its name.
SMALL: dict[str, dict[str, Any]] = {
    "gdt": {"hidden_dim": 32, "embedding_dim": 16},
    "simclr": {"hidden_dim": 32, "embedding_dim": 16},
    "moco": {"hidden_dim": 32, "embedding_dim": 16, "queue_size": 12, "momentum": 0.9},
    "byol": {"hidden_dim": 32, "embedding_dim": 16, "momentum": 0.9},
    "simsiam": {"hidden_dim": 32, "embedding_dim": 16, "predictor_dim": 8},
    "barlow_twins": {"hidden_dim": 32, "embedding_dim": 16},
    "moco_v3": {"hidden_dim": 32, "embedding_dim": 16, "momentum": 0.9},
    "dino": {"hidden_dim": 32, "embedding_dim": 16, "num_outputs": 24, "momentum": 0.9},
    "mae": {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2},
    "pixpro": {"hidden_dim": 32, "embedding_dim": 16, "momentum": 0.9},
    "swav": {"hidden_dim": 32, "embedding_dim": 16, "num_prototypes": 8},
    "instdisc": {"embedding_dim": 16, "num_negatives": 8},
    "sela": {"num_clusters": 6, "num_heads": 2},
    "block_contrast": {"embedding_dim": 16},
    "cmc": {"embedding_dim": 16, "num_negatives": 8},
    "pcl": {
        "hidden_dim": 32,
        "embedding_dim": 16,
        "queue_size": 12,
        "num_prototypes": (8, 6),
        "from_epoch": 0,
    },
    "classifier": {"dropout": 0.2},
    "distillation": {"dropout": 0.2, "temperature": 0.5},
    "pirl": {"embedding_dim": 16, "num_negatives": 8, "num_pieces": 4},
    "infomin": {
        "hidden_dim": 32,
        "embedding_dim": 16,
        "queue_size": 12,
        "momentum": 0.9,
        "num_pieces": 4,
    },
    "detco": {"embedding_dim": 16, "queue_size": 12, "momentum": 0.9, "num_pieces": 4},
    "deepcluster": {"hidden_dim": 16, "num_clusters": 6, "pca_dim": 8},
    "deepcluster_v2": {"hidden_dim": 32, "embedding_dim": 16, "num_prototypes": (8, 6)},
    "crw": {"embedding_dim": 16},
    "colorization": {"embedding_dim": 16, "num_clusters": 4},
    "mast": {"embedding_dim": 16, "radius": 2},
    "udt": {"embedding_dim": 8},
    "tracked_patches": {"embedding_dim": 16, "patch_size": 16, "random_epochs": 0},
    "uvc": {"window": 2, "warm_up_epochs": 1, "cycle_weight": 0.1},
    "timecycle": {"embedding_dim": 8, "map_cells": 9, "kernels": (2, 2), "hidden_dims": (8, 4)},
    "clip": {"embedding_dim": 16},
    "simcse": {},
    "cpc": {"num_steps": 3, "num_negatives": 5, "context_dim": 16},
    "coca": {"embedding_dim": 16, "num_queries": 3, "decoder_depth": 1, "num_heads": 2},
    "contrastive_captioning": {"num_mismatched": 2, "decoder_depth": 1, "num_heads": 2},
    "cswm": {"hidden_dim": 16, "map_size": 3, "actions": "none"},
    "cpc_image": {"num_steps": 2, "context_dim": 16, "context_blocks": 2},
    "videomae": {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2, "mask_share": 0.75},
    "avid": {"hidden_dim": 16, "embedding_dim": 8, "num_negatives": 6, "within_weight": 0.5},
    "cma": {
        "hidden_dim": 16,
        "embedding_dim": 8,
        "num_negatives": 6,
        "num_positives": 2,
        "num_within": 3,
    },
    "selavi": {"num_clusters": 6, "num_heads": 2, "hidden_dim": 16, "sizes": "gaussian"},
    "siglip": {"embedding_dim": 16},
}
#: Images, one draw of each.
ONE_VIEW = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["image"]},
    }
)
#: Clips, one draw of each.
CLIPS = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["video"]},
    }
)
#: Single frames and their sound.
SEEN_AND_HEARD = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["image", "audio"], "pairs": "cross"},
    }
)
#: Sounds, one draw of each.
SOUNDS = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["audio"]},
    }
)
#: Pictures and their captions.
PAIRS = named_plan("clip")
THREE_VIEWS = Plan.from_tables(
    {"name": "simclr", "augmentation": {"relation": "invariant", "draws": 3}}
)
#: Texts, each in two views.
TEXTS = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["text"]},
        "augmentation": {"relation": "invariant", "draws": 2},
    }
)
FOUR_VIEWS = Plan.from_tables(
    {"name": "simclr", "augmentation": {"relation": "invariant", "draws": 4}}
)
#: Plans of methods that do not take two views, by the method's name.
PLANS: dict[str, Plan] = {
    "deepcluster": ONE_VIEW,
    "detco": FOUR_VIEWS,
    "infomin": THREE_VIEWS,
    "instdisc": ONE_VIEW,
    "cmc": ONE_VIEW,
    "sela": ONE_VIEW,
    "crw": CLIPS,
    "colorization": CLIPS,
    "mast": CLIPS,
    "udt": CLIPS,
    "tracked_patches": CLIPS,
    "uvc": CLIPS,
    "timecycle": CLIPS,
    "classifier": ONE_VIEW,
    "distillation": ONE_VIEW,
    "clip": PAIRS,
    "simcse": TEXTS,
    "cpc": SOUNDS,
    "avid": SEEN_AND_HEARD,
    "videomae": CLIPS,
    "cpc_image": ONE_VIEW,
    "cswm": CLIPS,
    "coca": PAIRS,
    "contrastive_captioning": PAIRS,
    "cma": SEEN_AND_HEARD,
    "selavi": SEEN_AND_HEARD,
    "siglip": PAIRS,
}
#: Shapes of rows that a method wants otherwise, by its name.
SHAPES_OF: dict[str, dict[str, tuple[int, ...]]] = {
    "cpc": {"audio": (1, 1920)},
    "cpc_image": {"image": (16, 3, 16, 16)},  # 4 × 4 patches
    "timecycle": {"video": (3, 5, 36, 36)},
}
#: Augmentation codes whose rows a method takes in patches, by its name.
PATCHED: dict[str, tuple[int, ...]] = {"pirl": (1,), "infomin": (2,), "detco": (2, 3)}


def plan_for(name: str) -> Plan:
    """A plan that a method takes: two views of images unless it wants otherwise."""
    return PLANS.get(name) or named_plan("simclr")


SMALL_ENCODERS = EncoderOptions(
    video="r2plus1d_small",
    audio="resnet9_small",
    image="resnet_small",
    text="text_mini",
    vocab_size=NUM_TOKENS,
)
#: An encoder of single frames, with cells of 4 pixels.
FRAMES: dict[str, Any] = {"video": "resnet_small", "num_stages": 2, "map_stride": 4}
#: What else of the encoders a method needs, by its name.
ENCODERS_OF: dict[str, dict[str, Any]] = {
    "cmc": {"channel_groups": (1, 2)},
    "mae": {"image": "vit_mini"},
    "crw": FRAMES,
    "colorization": FRAMES,
    "mast": FRAMES,
    "udt": FRAMES,
    "tracked_patches": FRAMES,
    "uvc": FRAMES,
    "timecycle": FRAMES,
    "simcse": {"dropout": 0.1},
    "cpc": {"audio": "waveform_cnn_small"},
    "videomae": {"video": "video_vit_mini"},
    "cswm": {"video": "cell_cnn"},
}


class BrightnessTeacher:
    """A classifier that says "odd" of bright rows, the surer the brighter."""

    fingerprint = 17

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def __call__(self, modality: str, values: Tensor) -> Tensor:
        brightness = values.flatten(1).mean(1) * 10
        return torch.stack([-brightness, brightness], dim=1)


BuildSmall = Callable[..., Any]


@pytest.fixture
def build_small() -> BuildSmall:
    """`build_small("moco", plan, momentum=0.5)`: a method with small encoders and heads."""

    def build(
        name: str, plan: Plan, num_samples: int = 64, image: str | None = None, **changes: Any
    ) -> Method:
        options = METHODS[name].options_type(**{**SMALL[name], **changes})
        facts = RunFacts(num_samples, batch_size=4, steps_per_epoch=4, num_steps=16)
        special = ENCODERS_OF.get(name, {}) if image is None else {"image": image}
        encoders = replace(SMALL_ENCODERS, **special)
        needs, labels = METHODS[name].needs, Labels.of(["even", "odd"] * (num_samples // 2))
        known = labels if needs.labels or needs.teacher else None
        teacher = BrightnessTeacher(labels) if needs.teacher else None
        return build_method(options, Setting(plan, encoders, facts, known, teacher))

    return build


def losses_of_steps(method: Method, batch: Batch) -> list[float]:
    """The losses of five steps of AdamW on one batch, with the same draws in each."""
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        torch.manual_seed(1)
        loss = method(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def dataset_of(
    pictures: Tensor, skipped: Sequence[int] = (), sounds: Tensor | None = None
) -> EmbedDataset:
    """What an epoch begins with: images [N, 3, H, W] or clips [N, 3, T, H, W]; sounds if given."""
    modality = "video" if pictures.ndim == 5 else "image"

    @torch.no_grad()
    def embed_all(embed: Any, *, training: bool = False) -> dict[str, Tensor]:
        found = {modality: pictures} | ({} if sounds is None else {"audio": sounds})
        rows = {name: embed(name, values) for name, values in found.items()}
        for embedded in rows.values():
            embedded[list(skipped)] = 0
        return rows

    return embed_all
