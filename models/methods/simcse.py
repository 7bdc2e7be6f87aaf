"""SimCSE: a sentence finds itself among the batch, encoded a second time with other values dropped.

Gao et al., "SimCSE: Simple Contrastive Learning of Sentence Embeddings", EMNLP 2021,
arXiv:2104.08821. Unsupervised (§3) the two views are one text, and nothing differs but the
encoder's dropout. Supervised (§4) they are two texts that mean the same, and a third that does not
is a hard negative: `segment.captions = "in_order"` gives each draw of `plan.augmentation` its text.

Legend: B texts of this rank, K texts of all ranks, S tokens, D embedding.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, Plan, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts.pairs import of_all_ranks
from models.towers import Towers, at_least_float32


@dataclass(frozen=True)
class SimCSEOptions(MethodOptions):
    """`[method]`: each text against the second views of all, and against their hard negatives.

    Attributes:
        name: "simcse".
        pooler: what a text's vector is: "cls", its first token and a layer, or "avg", the mean of
            its tokens.
        layer_in_training_only: of "cls": embed texts for others without the layer, as the paper's
            unsupervised models do.
        temperature: of the cosines.
        hard_negative_weight: is added to the logit of a text's own hard negative.
    """

    name: Literal["simcse"] = "simcse"
    pooler: Literal["cls", "avg"] = "cls"
    layer_in_training_only: bool = True
    temperature: float = 0.05
    hard_negative_weight: float = 0.0

    def __post_init__(self) -> None:
        self._check_temperatures("temperature")
        ok = math.isfinite(self.hard_negative_weight)
        self._check("hard_negative_weight", ok, "a number")


class SimCSE(Method):
    """A text encoder, and a layer with tanh over its first token.

    Raises:
        ValueError: a plan that is not of texts.
    """

    options_type = SimCSEOptions
    needs = Needs(2, 3, why="SimCSE compares two views of a text, and maybe a hard negative")

    def __init__(self, options: SimCSEOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options, self.num_draws = options, self.plan.draws("augmentation")
        if self.plan.modalities != ("text",) or self.plan.num_transformations != self.num_draws:
            raise ValueError(
                'SimCSE is for texts: plan.modality.values must be ["text"], and no factor but '
                f"augmentation may have several draws; got {', '.join(self.plan.modalities)} and "
                f"{self.plan.num_transformations} rows a sample"
            )
        if options.pooler == "avg":
            self.beyond_encoder = "a text's features are the mean of its tokens, not its first one"
        has_layer, self.has_dropout = options.pooler == "cls", setting.encoders.dropout > 0
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda dim: (
                nn.Sequential(nn.Linear(dim, dim), nn.Tanh()) if has_layer else nn.Identity()
            ),
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar.

        Raises:
            ValueError: two views of which nothing differs.
        """
        column = self.plan.names.index("augmentation")
        tokens = [batch.where(column, k).view("text").values for k in range(self.num_draws)]
        if not self.has_dropout and torch.equal(tokens[0], tokens[1]):
            raise ValueError(
                "SimCSE's two views are one text in two equal passes: set encoders.dropout = 0.1, "
                'or give clips two captions each and set segment.captions = "in_order"'
            )
        views = [self.projection(values) for values in tokens]  # B × D each
        with torch.autocast(tokens[0].device.type, enabled=False):
            losses = text_losses(views, self.options.temperature, self.options.hard_negative_weight)
            return Losses(global_mean(losses))

    def features(self, modality: str, values: Tensor) -> Tensor:
        """Encode texts [B, S] to what their vector is made of, without the layer: [B, D]."""
        encoder = self.towers.encoder(modality)
        if self.options.pooler == "cls":
            return at_least_float32(encoder(values))
        return at_least_float32(mean_of_tokens(encoder.maps(values).transpose(1, 2), values != 0))

    def projection(self, values: Tensor) -> Tensor:
        """Return what the loss compares, [B, D]: in evaluation maybe without the layer."""
        features = self.features("text", values)
        if not self.training and self.options.layer_in_training_only:
            return features
        return at_least_float32(self.towers.heads["text"](features))

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed texts, L2-normalised."""
        self.towers.encoder(modality)  # refuses what the plan does not have
        return F.normalize(self.projection(values), dim=1)

    @classmethod
    def loss_of_equal_embeddings(cls, plan: Plan, batch_size: int) -> float | None:
        """Return the logarithm of how many texts there are to choose from."""
        return math.log(batch_size * (plan.draws("augmentation") - 1))


def mean_of_tokens(tokens: Tensor, is_token: Tensor) -> Tensor:
    """Average tokens [B, S, D] where `is_token` [B, S] says there is one: [B, D]."""
    weights = is_token.to(tokens)[:, :, None]
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)


def text_losses(views: list[Tensor], temperature: float, weight: float = 0.0) -> Tensor:
    """Return the loss of each text, [B]: one direction only, as in the authors' code.

    Args:
        views: two or three of [B, D]: texts, their second views, and hard negatives.
        temperature: of the cosines.
        weight: is added to the logit of a text's own hard negative.
    """
    text, *others = (F.normalize(view, dim=1, eps=1e-8) for view in views)
    logits, own = [], torch.zeros(0)
    for number, other in enumerate(others):
        every, own = of_all_ranks(other)  # K × D
        extra = weight * F.one_hot(own, len(every)).to(text) if number else 0.0
        logits.append(text @ every.T / temperature + extra)
    return F.cross_entropy(torch.cat(logits, dim=1), own, reduction="none")
