"""Contrastive captioning: write captions that are likelier of their picture than of any other.

Dai and Lin, "Contrastive Learning for Image Captioning", NeurIPS 2017, arXiv:1710.02534, §3. First
a captioner learns what is likely (`objective = "likelihood"`); then, from that run on
(`--init-from RUN`), it learns to tell matched from mismatched captions by how much likelier it
finds them than a frozen copy of itself: noise-contrastive estimation with the copy for its noise.
The authors' LSTMs have a transformer in their place.

Legend: B pairs, S tokens, L places, C channels, ν mismatched captions of each picture.
"""

import copy
import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean
from models.encoders.text import TextTransformer
from models.method import EmbedDataset, Losses, Method, MethodOptions, Setting
from models.methods.coca import check_heads, seen_modality, word_losses
from models.parts.captioner import Captioner, most_likely_words, places_of, word_log_probs
from models.parts.pairs import check_pairs
from models.towers import Towers, at_least_float32


@dataclass(frozen=True)
class ContrastiveCaptioningOptions(MethodOptions):
    """`[method]`: captions of pictures, by likelihood and then by contrast.

    Attributes:
        name: "contrastive_captioning".
        objective: "likelihood" first, "contrastive" from such a run on.
        num_mismatched: ν, captions of other samples of the batch for each picture.
        noise: "released": log-ratios as they are; "paper": less ln ν.
        reference_every_epochs: the frozen copy becomes the captioner as it then is; 0 for never.
        decoder_depth: layers that see the picture.
        num_heads: of their attention.
    """

    name: Literal["contrastive_captioning"] = "contrastive_captioning"
    objective: Literal["likelihood", "contrastive"] = "contrastive"
    num_mismatched: int = 5
    noise: Literal["released", "paper"] = "released"
    reference_every_epochs: int = 0
    decoder_depth: int = 6
    num_heads: int = 8

    def __post_init__(self) -> None:
        self._check_counts("num_mismatched", "decoder_depth", "num_heads")
        self._check("reference_every_epochs", self.reference_every_epochs >= 0, "at least 0")

    @property
    def log_noise(self) -> float:
        """What is taken off a log-ratio."""
        return math.log(self.num_mismatched) if self.noise == "paper" else 0.0


class WordNetwork(nn.Module):
    """Encoders and a decoder: how likely each word of a caption is.

    Args:
        towers: of what is seen, and of text.
        captioner: over both.
    """

    def __init__(self, towers: Towers, captioner: Captioner) -> None:
        super().__init__()
        self.towers, self.captioner = towers, captioner

    def seen(self, modality: str, values: Tensor) -> Tensor:
        """Encode what is seen: places [B, L, C]."""
        return places_of(self.towers.maps(modality, values))

    def hidden(self, tokens: Tensor) -> Tensor:
        """Encode tokens [B, S], none of which sees a later one: [B, S, D]."""
        trunk = cast(TextTransformer, self.towers.encoder("text").trunk)
        return cast(Tensor, trunk(tokens, causal=True))

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Return logits of the next words, [B, S, V]."""
        return at_least_float32(self.captioner(self.hidden(tokens), seen))

    def log_probability(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Return the logarithm of each caption's probability, [B]: over all words, the end too."""
        log_probs = self(tokens, seen)[:, :-1].log_softmax(dim=2)
        return word_log_probs(log_probs, tokens[:, 1:]).sum(dim=1)


class ContrastiveCaptioning(Method):
    """A captioner, and for contrast a frozen copy of it as it was when the run began.

    Batch norms of the copy take a batch's statistics where the captioner's do: both see alike.

    Raises:
        ValueError: the plan does not give each sample one row of one modality and one of text.
    """

    options_type = ContrastiveCaptioningOptions

    def __init__(self, options: ContrastiveCaptioningOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        check_pairs(self.plan, "a captioner learns from a picture and a caption of each sample")
        self.modality = seen_modality(self.plan, "contrastive captioning")
        towers = Towers(setting.encoders, self.plan, lambda features_dim: nn.Identity())
        channels = towers.encoder(self.modality).embedding_dim
        width = towers.encoder("text").embedding_dim
        check_heads(options.num_heads, width)
        captioner = Captioner(
            width, channels, setting.encoders.vocab_size, options.decoder_depth, options.num_heads
        )
        self.network = WordNetwork(towers, captioner)
        self.reference: WordNetwork | None = None
        if options.objective == "contrastive":
            self.reference = copy.deepcopy(self.network).requires_grad_(False)

    @property
    def towers(self) -> Towers:  # type: ignore[override]
        """The encoders; their weights are the network's."""
        return self.network.towers

    @torch.no_grad()
    def before_epoch(self, epoch: int, embed_dataset: EmbedDataset) -> None:
        """Take the captioner as it is for the reference, at first and where it is time."""
        every = self.options.reference_every_epochs
        if self.reference is not None and (epoch == 0 or (every and epoch % every == 0)):
            self.reference.load_state_dict(self.network.state_dict())

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, and its parts.

        Raises:
            ValueError: a batch in which a picture has no mismatched caption.
        """
        self.towers.views(batch)  # refuses a batch that lacks a modality
        values, tokens = (batch.view(name).values for name in (self.modality, "text"))
        seen = self.network.seen(self.modality, values)
        if self.reference is None:
            logits = self.network(tokens, seen)
            return Losses(global_mean(word_losses(logits[:, :-1], tokens[:, 1:])))
        with torch.no_grad():
            seen_before = self.reference.seen(self.modality, values)
        with torch.autocast(tokens.device.type, enabled=False):
            matched = self.ratio(tokens, seen, seen_before)
            others = []
            for _ in range(self.options.num_mismatched):
                wrong = tokens[self.draw_others(tokens).to(tokens.device)]
                others.append(self.ratio(wrong, seen, seen_before))
            losses = ratio_losses(matched, others, self.options.log_noise)
            parts = {name: global_mean(rows) for name, rows in losses.items()}
        return Losses(parts["matched"] + parts["mismatched"], parts)

    def ratio(self, tokens: Tensor, seen: Tensor, seen_before: Tensor) -> Tensor:
        """Return how much likelier captions are than the reference finds them, [B], as ln."""
        assert self.reference is not None
        with torch.no_grad():
            before = self.reference.log_probability(tokens, seen_before)
        return self.network.log_probability(tokens, seen) - before

    def draw_others(self, tokens: Tensor) -> Tensor:
        """Draw a row with another caption for each row, from torch's generator: int64 [B].

        Raises:
            ValueError: a row has the caption of all others.
        """
        differs = (tokens[:, None] != tokens).any(dim=2).cpu()  # B × B
        if not differs.any(dim=1).all():
            raise ValueError(
                "a picture's batch has no mismatched caption: all captions of it are one; make "
                "data.batch_size larger"
            )
        draws = torch.rand(differs.shape).masked_fill(~differs, -1.0)
        return draws.argmax(dim=1)

    def caption(self, values: Tensor, first: int, last: int, max_tokens: int) -> Tensor:
        """Write a caption of each row: int64 [B, max_tokens]; see `most_likely_words`."""
        seen = self.network.seen(self.modality, values)
        begin = torch.full((len(values),), first, device=values.device)
        return most_likely_words(
            lambda tokens: self.network(tokens, seen)[:, -1], begin, last, max_tokens
        )


def ratio_losses(matched: Tensor, mismatched: list[Tensor], log_noise: float) -> dict[str, Tensor]:
    """Return − ln h of matched and the mean of − ln (1 − h) of mismatched captions, [B] each.

    h = σ(G − ln ν) of the log-ratio G.

    Args:
        matched: G, [B].
        mismatched: ν of [B].
        log_noise: ln ν, or 0 as in the released code.
    """
    wrong = torch.stack([F.softplus(ratio - log_noise) for ratio in mismatched])
    return {"matched": F.softplus(log_noise - matched), "mismatched": wrong.mean(dim=0)}
