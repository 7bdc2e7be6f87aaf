"""CPC: of what has been heard so far, tell which moment comes next, and next but one, among others.

van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018,
arXiv:1807.03748, §2 and §3.1; scores and negatives as in facebookresearch/CPC_audio (Rivière et al.
2020, arXiv:2002.02848).

    waveform ─ encoder ─► z [B, T, D] ─ context, causal ─► c [B, T, C] ─ K predictors ─► z_{t+k}

Legend: B rows, T moments, W = T − K of them, K steps, N negatives, D and C channels of z and c.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts.moments import Causal, ContextName, build_context
from models.towers import Towers, at_least_float32


@dataclass(frozen=True)
class CPCOptions(MethodOptions):
    """`[method]`: a prediction of the next moments of a sound, among moments of the batch.

    Attributes:
        name: "cpc".
        num_steps: K, how many moments ahead; each has a predictor.
        num_negatives: N for each row and moment, the same for all steps.
        context: "gru" (the paper), "lstm" (the authors' later code) or "transformer".
        context_dim: C.
        predictors: "linear" (the paper), or "transformer", a causal layer for each step (later).
        reverse: hear each row backwards.
    """

    name: Literal["cpc"] = "cpc"
    num_steps: int = 12
    num_negatives: int = 128
    context: ContextName = "gru"
    context_dim: int = 256
    predictors: Literal["linear", "transformer"] = "linear"
    reverse: bool = False

    def __post_init__(self) -> None:
        self._check_counts("num_steps", "num_negatives", "context_dim")


class CPC(Method):
    """An encoder of short moments, a recurrent context over them, and a predictor for each step.

    `features` are the mean of the context over time.

    Raises:
        ValueError: an encoder that does not give vectors along time.
    """

    options_type = CPCOptions
    beyond_encoder = "features are the mean over time of what a context network makes of moments"
    needs = Needs(positives=False, one_modality=True, why="CPC predicts the next moments of a row")

    def __init__(self, options: CPCOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        (modality,) = self.plan.modalities
        self.towers = Towers(setting.encoders, self.plan, lambda features_dim: nn.Identity())
        encoder = self.towers.encoder(modality)
        if len(encoder.input_shape) != 3:
            raise ValueError(
                f'CPC needs vectors along time: encoders.{modality} = "'
                f'{getattr(setting.encoders, modality)}" has none; set plan.modality.values = '
                '["audio"], encoders.audio = "waveform_cnn" and audio_augment.values = "waveform"'
            )
        self.context = build_context(options.context, encoder.embedding_dim, options.context_dim)
        self.predictors = nn.ModuleList(
            self._predictor(encoder.embedding_dim) for _ in range(options.num_steps)
        )

    def _predictor(self, dim: int) -> nn.Module:
        linear = nn.Linear(self.options.context_dim, dim, bias=False)
        if self.options.predictors == "linear":
            return linear
        return nn.Sequential(Causal(self.options.context_dim), linear)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, summed over steps, and how often the right one was found.

        Raises:
            ValueError: rows shorter than the steps that are predicted.
        """
        (view,) = self.towers.views(batch)
        moments, context = self.moments(view.modality, view.values)
        num_rows, length, _ = moments.shape
        if length <= self.options.num_steps:
            raise ValueError(
                f"method.num_steps = {self.options.num_steps}, and a row has {length} moments of "
                "160 audio samples: lower it, or make segment.seconds longer"
            )
        negatives = self.draw_negatives(num_rows, length).to(moments.device)
        past = context[:, : length - self.options.num_steps]
        predicted = torch.stack([predictor(past) for predictor in self.predictors])
        with torch.autocast(moments.device.type, enabled=False):
            found = step_losses(at_least_float32(predicted), moments, negatives)
            total = global_mean(found.losses.sum(dim=0))  # over steps, then over rows
            return Losses(total, {"accuracy": found.accuracies.mean()})

    def draw_negatives(self, num_rows: int, length: int) -> "Negatives":
        """Draw what stands beside the right moments, out of this rank's rows."""
        return draw_negatives(num_rows, length, self.options)

    def moments(self, modality: str, values: Tensor) -> tuple[Tensor, Tensor]:
        """Encode rows: moments z [B, T, D], and of each the context c [B, T, C]."""
        moments = self.towers.maps(modality, values).transpose(1, 2)
        if self.options.reverse:
            moments = moments.flip(1)
        return moments, at_least_float32(self.context(moments))

    def features(self, modality: str, values: Tensor) -> Tensor:
        """Encode rows: the mean of the context over time, [B, C]."""
        return self.moments(modality, values)[1].mean(dim=1)

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed rows: their features, L2-normalised."""
        return F.normalize(self.features(modality, values), dim=1)


class StepLosses(NamedTuple):
    """What came of the predictions.

    Attributes:
        losses: [K, B], means over moments.
        accuracies: [K], how often the right moment has the highest score.
    """

    losses: Tensor
    accuracies: Tensor


class Negatives(NamedTuple):
    """Which moments stand beside the right one.

    Attributes:
        rows: int64 [B, N, W], rows that they are of.
        times: int64 [B, N, W], when in those.
    """

    rows: Tensor
    times: Tensor

    def to(self, device: torch.device) -> "Negatives":
        """The same on `device`."""
        return Negatives(self.rows.to(device), self.times.to(device))


def draw_negatives(num_rows: int, length: int, options: CPCOptions) -> Negatives:
    """Draw N moments for each row and moment from torch's generator, of any row, at another time.

    As in the authors' code the moment that is predicted may be among them.
    """
    shape = (num_rows, options.num_negatives, length - options.num_steps)
    rows = torch.randint(num_rows, shape)  # on the CPU: the same on any device
    later = torch.randint(1, length, shape)
    return Negatives(rows, (torch.arange(shape[2]) + later) % length)


def step_losses(predicted: Tensor, moments: Tensor, negatives: Negatives) -> StepLosses:
    """Return how surprising the right moments are among their negatives.

    A score is the mean over channels of prediction × moment.

    Args:
        predicted: [K, B, W, D], of the moment k + 1 later.
        moments: [B, T, D], T = W + K.
        negatives: of each row and moment, the same for all steps.
    """
    num_steps, _, width, dim = predicted.shape
    right = torch.stack([moments[:, k : k + width] for k in range(1, num_steps + 1)])
    others = moments[negatives.rows, negatives.times]  # B × N × W × D
    scores = torch.cat(
        [
            (predicted * right).sum(dim=3, keepdim=True),
            torch.einsum("kbwd,bnwd->kbwn", predicted, others),
        ],
        dim=3,
    )
    scores = scores / dim  # K × B × W × 1+N
    losses = scores.logsumexp(dim=3) - scores[..., 0]
    found = scores.argmax(dim=3) == 0
    return StepLosses(losses.mean(dim=2), found.float().mean(dim=(1, 2)))
