"""Classifier: say the label of a row, by a linear layer on the encoder; all of it learns, or that.

What is done downstream: fine-tuning ("all"), or linear evaluation of an encoder that stays as it is
("head"). As in the authors' eval_video.py (facebookresearch/GDT@873e630): softmax cross-entropy,
the linear layer orthogonal and without bias at first. Where the head alone learns, theirs goes on
to adapt the encoder's batch statistics; here they stay, so that the features are those of
pretraining.

Legend: B rows of one view, E features, K classes, N samples of the data set.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean, normalize
from models.method import Losses, Method, MethodOptions, Needs, ParameterGroup, Setting
from models.parts.heads import simclr_layers
from models.towers import Towers


@dataclass(frozen=True)
class ClassifierOptions(MethodOptions):
    """`[method]`: a classifier of labels.

    Attributes:
        name: "classifier".
        trains: "all", or the "head" alone: then encoders keep their weights and batch statistics.
        encoder_rate: multiplies the learning rate for encoders; a tenth in the paper's code.
        dropout: of the features; none in the paper's code.
        projection_layers: first layers of SimCLR's projection head that stand before the linear
            layer, and begin as those of the run (SimCLR v2, arXiv:2006.10029, §2: 1).
        projection_dim: width of those layers: `method.hidden_dim` of the run.
    """

    name: Literal["classifier"] = "classifier"
    trains: Literal["all", "head"] = "all"
    encoder_rate: float = 1.0
    dropout: float = 0.0
    projection_layers: int = 0
    projection_dim: int = 2048

    def __post_init__(self) -> None:
        self._check("encoder_rate", self.encoder_rate > 0, "more than 0")
        self._check_shares("dropout")
        self._check("projection_layers", self.projection_layers >= 0, "at least 0")
        self._check_counts("projection_dim")
        idle = self.trains == "head" and self.encoder_rate != 1.0
        self._check("encoder_rate", not idle, 'left out where trains = "head": no encoder learns')


class Classifier(Method):
    """An encoder and a linear layer for each modality, each for itself.

    Raises:
        ValueError: the samples' labels are not known, or are all one.
    """

    options_type: ClassVar[type[MethodOptions]] = ClassifierOptions
    needs = Needs(positives=False, labels=True, why="a classifier learns labels")
    labels: Tensor

    def __init__(self, options: ClassifierOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        assert setting.labels is not None
        self.classes = tuple(setting.labels.counts)
        if len(self.classes) < 2:
            raise ValueError(
                f"all samples have the one label {self.classes[0]!r}; a classifier needs two"
            )
        num_classes = len(self.classes)
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda features_dim: linear_head(
                features_dim,
                num_classes,
                options.dropout,
                [options.projection_dim] * options.projection_layers,
            ),
        )
        if options.trains == "head":
            self.towers.encoders.requires_grad_(requires_grad=False)
        labels = torch.tensor(setting.labels.of_samples, dtype=torch.int64)
        self.register_buffer("labels", labels, persistent=False)  # the data set's, not learned
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode, but for encoders that stay as they are."""
        super().train(mode)
        if self.options.trains == "head":
            self.towers.encoders.eval()
        return self

    def forward(self, batch: Batch) -> Losses:
        """Return the mean over modalities of the cross-entropy, and each one's accuracy."""
        column = self.plan.names.index("sample")
        views = self.towers.views(batch)
        entropies, parts = [], {}
        for modality in self.plan.modalities:
            mine = [view for view in views if view.modality == modality]
            logits = torch.cat([self.towers.projection(modality, view.values) for view in mine])
            labels = torch.cat([self.labels[view.codes[:, column]] for view in mine])
            entropies.append(global_mean(F.cross_entropy(logits, labels, reduction="none")))
            parts[f"{modality}_accuracy"] = global_mean((logits.argmax(1) == labels).float())
        return Losses(torch.stack(entropies).mean(), parts)

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Return features of length 1, [B, E]: what the head says of them are logits."""
        return normalize(self.features(modality, values))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the heads, and the encoders at their own rate."""
        encoders = list(self.towers.encoders.parameters())
        return [
            ParameterGroup(list(self.towers.heads.parameters())),
            ParameterGroup(encoders, rate_scale=self.options.encoder_rate),
        ]


def linear_head(
    features_dim: int, num_classes: int, dropout: float, hidden_dims: Sequence[int] = ()
) -> nn.Sequential:
    """Return a linear layer E → K, orthogonal and without bias at first, under torchvision's name.

    Args:
        features_dim: E.
        num_classes: K.
        dropout: before it, in training.
        hidden_dims: widths of layers of SimCLR's head before it, under that head's names.
    """
    linear = nn.Linear([features_dim, *hidden_dims][-1], num_classes)
    nn.init.orthogonal_(linear.weight)
    nn.init.zeros_(linear.bias)
    layers = OrderedDict[str, nn.Module]()
    for module in simclr_layers([features_dim, *hidden_dims], dropout=0.0):
        layers[str(len(layers))] = module
    layers |= {"dropout": nn.Dropout(dropout), "fc": linear}
    return nn.Sequential(layers)
