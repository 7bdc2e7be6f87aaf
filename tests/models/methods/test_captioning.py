"""CoCa and contrastive captioning equal their authors' numbers; captions are written."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gdt import Batch, View, named_plan
from models.methods.coca import last_token, word_losses
from models.methods.contrastive_captioning import ContrastiveCaptioningOptions, ratio_losses
from models.parts.captioner import most_likely_words, word_log_probs
from tests.models.conftest import PAIRS, SEEN_AND_HEARD, dataset_of
from tests.models.golden_numbers import close, golden, tensor


def test_coca_equals_open_clip(build_small: Callable[..., Any]) -> None:
    given, expected = golden("coca", "coca")
    method = build_small("coca", PAIRS).double()
    method.log_scale.data.copy_(tensor(float(given["log_scale"])))
    image, text = (tensor(given[name]).requires_grad_() for name in ("image", "text"))
    first, second = (torch.nn.functional.normalize(rows, dim=1) for rows in (image, text))
    pairs = method.row_losses(first, second).mean()
    close(pairs, expected["clip_loss"])
    logits = tensor(given["caption_logits_B_L_V"]).requires_grad_()
    captions = word_losses(logits, torch.tensor(given["labels_B_L"])).mean()
    weighted = method.options.caption_weight * captions
    close(weighted, expected["caption_loss_weighted"])
    (pairs + weighted).backward()
    for values, name in ((image, "image"), (text, "text"), (logits, "logits")):
        assert values.grad is not None
        close(values.grad, expected[f"grad_{name}"])
    close(method.log_scale.grad, expected["grad_log_scale"])


@pytest.mark.parametrize("noise", ["released", "paper"])
def test_contrast_of_captions_equals_the_authors(noise: str) -> None:
    given, results = golden("contrastive_captioning", "captions")
    expected = results["as_released_log_nu_0" if noise == "released" else "paper_log_nu"]
    end, ratios, inputs = given["end_token"], [], []
    for captions in given["sets"]:
        words = torch.tensor(captions["seq_T_B"]).T  # B × T, 0 behind the last word
        words = torch.cat([words, torch.zeros_like(words[:, :1])], dim=1)
        ends = (words == 0).int().argmax(dim=1)
        words[torch.arange(len(words)), ends] = end
        ours = tensor(captions["log_p_model_T1_B_V1"]).requires_grad_()
        theirs = tensor(captions["log_p_reference_T1_B_V1"])
        inputs.append(ours)
        of_each = []
        for log_p in (ours, theirs):
            by_row = torch.nn.functional.pad(log_p.transpose(0, 1), (1, 0))  # 0 is the padding
            of_each.append(word_log_probs(by_row, words).sum(dim=1))
        ratios.append(of_each[0] - of_each[1])
    close(torch.stack(ratios), expected["G"])
    options = ContrastiveCaptioningOptions(num_mismatched=given["nu"], noise=noise)  # type: ignore[arg-type]
    losses = ratio_losses(ratios[0], ratios[1:], options.log_noise)
    total = losses["matched"].mean() + losses["mismatched"].mean()
    close(total, expected["loss"])
    total.backward()
    close(
        torch.stack([rows.grad for rows in inputs if rows.grad is not None]),
        expected["grad_log_p_model"],
    )


def captioned(count: int) -> tuple[Tensor, Tensor]:
    """Pictures of one of four colours, and what they are called: 1, two words, 2, padding."""
    kinds = torch.arange(count) % 4
    images = torch.randn(count, 3, 32, 32) * 0.1
    images[:, 0] += (kinds % 2).float()[:, None, None] * 2
    images[:, 1] += (kinds // 2).float()[:, None, None] * 2
    tokens = torch.stack([torch.ones(count), kinds + 5, kinds + 11, torch.full((count,), 2)], dim=1)
    return images, torch.nn.functional.pad(tokens.long(), (0, 2))


def batch_of(images: Tensor, tokens: Tensor) -> Batch:
    codes = PAIRS.codes(torch.arange(len(images)))
    column = PAIRS.names.index("modality")
    views = (
        View(name, values, codes[codes[:, column] == number])
        for number, (name, values) in enumerate((("image", images), ("text", tokens)))
    )
    return Batch(tuple(views), 0, 0)


@pytest.mark.parametrize(
    ("name", "options"),
    [("coca", {}), ("contrastive_captioning", {"objective": "likelihood"})],
)
def test_captions_are_learned_and_written(
    name: str, options: dict[str, Any], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small(name, PAIRS, **options)
    images, tokens = captioned(8)
    batch = batch_of(images, tokens)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    for step in range(30):
        losses = method(batch)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        method.after_step(step)
    assert all(p.grad is not None for p in method.parameters())
    written = method.eval().caption(images, first=1, last=2, max_tokens=6)
    assert torch.equal(written, tokens)
    if name == "coca":
        found = method.embed("image", images[:4]) @ method.embed("text", tokens[:4]).T
        assert found.argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_contrast_goes_on_from_what_it_begins_with(build_small: Callable[..., Any]) -> None:
    """At first all ratios are 0; then matched captions become likelier than the reference's."""
    torch.manual_seed(0)
    method = build_small("contrastive_captioning", PAIRS)
    images, tokens = captioned(8)
    batch = batch_of(images, tokens)
    with torch.no_grad():  # as weights that a run begins with
        for parameter in method.network.parameters():
            parameter.add_(0.01)
    method.before_epoch(0, dataset_of(images))
    found = method(batch)
    assert found.total.item() == pytest.approx(2 * math.log(2), abs=1e-4)
    optimizer = torch.optim.AdamW(method.network.parameters(), lr=1e-3)
    reference = [p.clone() for p in method.reference.parameters()]
    for _ in range(15):
        losses = method(batch)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert losses.total < found.total
    assert all(map(torch.equal, method.reference.parameters(), reference))
    method.before_epoch(1, dataset_of(images))  # the reference stays, unless it is asked for
    assert all(map(torch.equal, method.reference.parameters(), reference))


def test_mismatched_captions_are_others(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = build_small("contrastive_captioning", PAIRS)
    _, tokens = captioned(8)
    drawn = torch.stack([method.draw_others(tokens) for _ in range(50)])
    assert not (tokens[drawn] == tokens).all(dim=2).any()
    assert len(drawn[:, 0].unique()) == 6  # all but the two with its own caption
    with pytest.raises(ValueError, match=r"has no mismatched caption: all captions of it are one"):
        method.draw_others(tokens[[0, 0, 0]])


def test_words_see_no_later_ones_and_the_last_token_is_found(
    build_small: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    method = build_small("coca", PAIRS).eval()
    images, tokens = captioned(2)
    changed = tokens.clone()
    changed[:, 2] += 1
    before, after = method.hidden(tokens), method.hidden(changed)
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 3], after[:, 3])
    assert torch.equal(last_token(before, tokens), before[:, 3])
    seen = method.pooled(images)[:, 1:]
    logits = method.captioner(before, seen), method.captioner(after, seen)
    torch.testing.assert_close(logits[0][:, :2], logits[1][:, :2])


def test_writing_ends_with_the_last_token() -> None:
    """A script of words for each row: the first ends early."""
    script = torch.tensor([[7, 2, 9, 9], [8, 8, 8, 2]])

    def next_logits(tokens: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(script[:, tokens.shape[1] - 1], 10).float()

    written = most_likely_words(next_logits, torch.ones(2, dtype=torch.int64), 2, 5)
    assert written.tolist() == [[1, 7, 2, 0, 0], [1, 8, 8, 8, 2]]


def test_refusals(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"CoCa writes captions: .* text, such as .* image, audio"):
        build_small("coca", SEEN_AND_HEARD)
    with pytest.raises(ValueError, match=r"a captioner learns from .* got image and 2 rows"):
        build_small("contrastive_captioning", named_plan("simclr"))
    with pytest.raises(ValueError, match=r"num_heads = 7 must divide 256"):
        build_small("coca", PAIRS, num_heads=7)
    with pytest.raises(ValueError, match=r"reference_every_epochs = -1, must be at least 0"):
        ContrastiveCaptioningOptions(reference_every_epochs=-1)
