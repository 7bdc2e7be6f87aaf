"""Tell a row's own entry of a memory bank from entries drawn at random.

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018,
arXiv:1805.01978, equations 4 to 8; the constants are those of the authors' code.

Legend: B rows, K drawn entries, N samples of the data set.
"""

import math
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import num_ranks

Objective = Literal["nce", "softmax"]


class NoiseContrast(nn.Module):
    """The loss of scores whose first column is the row's own entry.

    With "nce" each column is told from noise on its own: h = P / (P + K/N + ε), where P = exp s / Z
    and Z is N times the mean of exp s over the first batch, positives included, of all ranks; it
    never changes again. With "softmax" it is a cross-entropy over the columns.

    Args:
        num_samples: N.
        temperature: that scores are divided by.
        objective: "nce" or "softmax".
        epsilon: ε.
    """

    mean_exp: Tensor  # scalar: Z/N; 0 until the first batch

    def __init__(
        self,
        num_samples: int,
        temperature: float,
        objective: Objective = "nce",
        epsilon: float = 1e-7,
    ) -> None:
        super().__init__()
        self.num_samples, self.temperature = num_samples, temperature
        self.objective, self.epsilon = objective, epsilon
        self.register_buffer("mean_exp", torch.zeros(()))

    def forward(self, scores: Tensor) -> Tensor:
        """Return the loss of each row, [B]; in training the first call fixes Z.

        Args:
            scores: cosines, float [B, 1 + K].
        """
        logits = scores / self.temperature
        if self.objective == "softmax":
            return logits.logsumexp(dim=1) - logits[:, 0]
        num_drawn = scores.shape[1] - 1
        slack = self.epsilon * self.num_samples / num_drawn
        # h = sigmoid(s - bias), and 1 - h = sigmoid(bias - s) / (1 + slack)
        mean_exp = fixed_mean_exp(self.mean_exp, logits, self.training)
        bias = mean_exp.log() + math.log(num_drawn * (1 + slack))
        noise = -F.logsigmoid(bias - logits[:, 1:]).sum(dim=1)
        return noise - F.logsigmoid(logits[:, 0] - bias) + num_drawn * math.log1p(slack)


@torch.no_grad()
def fixed_mean_exp(kept: Tensor, logits: Tensor, training: bool) -> Tensor:
    """Return the constant of noise: Z over the number of rows, fixed once.

    Args:
        kept: the buffer that holds it, 0 until it is fixed; fixed here in training.
        logits: scores over their temperature, of any shape; their mean exp is taken over all ranks.
        training: whether to keep it.
    """
    if kept > 0:
        return kept
    exps = logits.double().exp()
    summed = torch.stack([exps.sum(), exps.new_tensor(float(exps.numel()))])
    if num_ranks() > 1:
        dist.all_reduce(summed)
    mean = (summed[0] / summed[1]).to(kept)
    if training:
        kept.copy_(mean)
    return mean
