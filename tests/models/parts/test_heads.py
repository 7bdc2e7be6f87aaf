"""Projection heads against the papers' layers; lightly's are the oracle for two of them."""

import torch
from lightly.models.modules.heads import MoCoProjectionHead, SimCLRProjectionHead
from torch import nn

from models.parts.heads import gdt_head, moco_head, simclr_head


def shapes(head: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in head.parameters()]


def test_gdt_head_is_512_512_256_as_in_the_code() -> None:
    head = gdt_head(512, 512, 256, dropout=0.3)
    kinds = [type(module).__name__ for module in head.children()]
    assert kinds == ["Dropout", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    # first Linear without bias, BatchNorm's scale and shift, second Linear with bias
    assert shapes(head) == [(512, 512), (512,), (512,), (256, 512), (256,)]
    assert head(torch.randn(4, 512)).shape == (4, 256)


def test_gdt_head_without_dropout_is_deterministic_in_training() -> None:
    torch.manual_seed(0)
    values = torch.randn(8, 16)
    plain, dropped = gdt_head(16, 16, 8, dropout=0.0), gdt_head(16, 16, 8, dropout=0.3)
    assert torch.equal(plain(values), plain(values))
    assert not torch.equal(dropped(values), dropped(values))


def test_simclr_head_equals_lightlys() -> None:
    torch.manual_seed(0)
    ours, theirs = simclr_head(16, 32, 8, dropout=0.0), SimCLRProjectionHead(16, 32, 8)
    assert shapes(ours) == shapes(theirs)
    for our_parameter, parameter in zip(ours.parameters(), theirs.parameters(), strict=True):
        our_parameter.data.copy_(parameter.data)
    values = torch.randn(6, 16)
    assert torch.equal(ours(values), theirs(values))


def test_moco_head_equals_lightlys() -> None:
    torch.manual_seed(0)
    ours, theirs = moco_head(16, 32, 8, dropout=0.0), MoCoProjectionHead(16, 32, 8)
    assert shapes(ours) == shapes(theirs)
    for our_parameter, parameter in zip(ours.parameters(), theirs.parameters(), strict=True):
        our_parameter.data.copy_(parameter.data)
    values = torch.randn(6, 16)
    assert torch.equal(ours(values), theirs(values))
