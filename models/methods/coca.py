"""CoCa: CLIP, and the caption written from the picture, word by word.

Yu et al., "CoCa: Contrastive Captioners are Image-Text Foundation Models", 2022, arXiv:2205.01917,
§3. One pass over the words serves both: they are encoded without the picture, each seeing no later
one; the last token is the caption's embedding, and a decoder goes on from all of them. The loss of
captions is a mean over all words of the batch, as in open_clip.

Legend: B pairs, S tokens, Q queries, C channels of maps, D width of the text, V words.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import Batch, Plan, global_mean, normalize
from models.encoders.text import TextTransformer
from models.method import Losses, Setting
from models.methods.clip import CLIP, PairOptions
from models.parts.captioner import Captioner, QueryPool, most_likely_words, places_of
from models.parts.pairs import in_pairs
from models.towers import at_least_float32


@dataclass(frozen=True)
class CoCaOptions(PairOptions):
    """`[method]`: pictures and captions find each other, and captions are written.

    Attributes:
        name: "coca".
        caption_weight: of the loss of captions; that of pairs has weight 1.
        num_queries: Q, that pool what is seen for the decoder.
        decoder_depth: layers that see the picture.
        num_heads: of the decoder's and the queries' attention.
    """

    name: Literal["coca"] = "coca"
    caption_weight: float = 2.0
    num_queries: int = 256
    decoder_depth: int = 6
    num_heads: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("num_queries", "decoder_depth", "num_heads")
        ok = 0 <= self.caption_weight < float("inf")
        self._check("caption_weight", ok, "at least 0")


class CoCa(CLIP):
    """CLIP's parts, queries that pool maps, and a decoder of captions.

    Raises:
        ValueError: the plan's second modality is no text.
    """

    options_type = CoCaOptions
    beyond_encoder = "a clip's features are pooled by queries, a text's stand at its last token"
    embeds_in_chunks = False

    def __init__(self, options: CoCaOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        self.seen = seen_modality(self.plan, "CoCa")
        channels = self.towers.encoder(self.seen).embedding_dim
        width = self.towers.encoder("text").embedding_dim
        check_heads(options.num_heads, channels, width)
        self.pool = QueryPool(channels, 1 + options.num_queries, options.num_heads)
        self.captioner = Captioner(
            width, channels, setting.encoders.vocab_size, options.decoder_depth, options.num_heads
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, its two parts, and the temperature."""
        views = self.towers.views(batch)
        rows, hidden, seen = [], torch.zeros(0), torch.zeros(0)
        for view in views:
            if view.modality == "text":
                hidden, tokens = self.hidden(view.values), view.values
                features = last_token(hidden, tokens)
            else:
                pooled = self.pooled(view.values)
                features, seen = pooled[:, 0], pooled[:, 1:]
            rows.append(normalize(at_least_float32(self.towers.heads[view.modality](features))))
        codes = torch.cat([view.codes for view in views])
        first, second = in_pairs(self.plan, torch.cat(rows), codes)  # B × E each
        logits = self.captioner(hidden, seen)  # B × S × V
        with torch.autocast(first.device.type, enabled=False):
            pairs = global_mean(self.row_losses(first, second))
            captions = global_mean(word_losses(at_least_float32(logits[:, :-1]), tokens[:, 1:]))
        parts = {
            "pairs": pairs,
            "captions": captions,
            "temperature": (-self.log_scale).exp(),
        }
        return Losses(pairs + self.options.caption_weight * captions, parts)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Encode tokens [B, S], none of which sees a later one: [B, S, D]."""
        trunk = cast(TextTransformer, self.towers.encoder("text").trunk)
        return cast(Tensor, trunk(tokens, causal=True))

    def pooled(self, values: Tensor) -> Tensor:
        """Pool what is seen or heard: [B, 1 + Q, C], the first for pairs."""
        return cast(Tensor, self.pool(places_of(self.towers.maps(self.seen, values))))

    def features(self, modality: str, values: Tensor) -> Tensor:
        """Encode rows to what the embedding is made of."""
        if modality != "text":
            self.towers.encoder(modality)  # refuses what the plan does not have
            return at_least_float32(self.pooled(values)[:, 0])
        return at_least_float32(last_token(self.hidden(values), values))

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed rows of either modality, L2-normalised."""
        return normalize(self.towers.heads[modality](self.features(modality, values)))

    def caption(self, values: Tensor, first: int, last: int, max_tokens: int) -> Tensor:
        """Write a caption of each row: int64 [B, max_tokens]; see `most_likely_words`."""
        seen = self.pooled(values)[:, 1:]
        begin = torch.full((len(values),), first, device=values.device)
        return most_likely_words(
            lambda tokens: self.captioner(self.hidden(tokens), seen)[:, -1], begin, last, max_tokens
        )


def seen_modality(plan: Plan, who: str) -> str:
    """Return the modality that captions are of.

    Raises:
        ValueError: no modality, or every one, is text.
    """
    others = [name for name in plan.modalities if name != "text"]
    if len(others) != 1 or len(plan.modalities) != 2:
        raise ValueError(
            f"{who} writes captions: plan.modality.values must name one modality and text, such "
            f'as ["video", "text"]; got {", ".join(plan.modalities)}'
        )
    return others[0]


def check_heads(num_heads: int, *widths: int) -> None:
    """Refuse heads that do not divide the widths that they attend over.

    Raises:
        ValueError: names both.
    """
    for width in widths:
        if width % num_heads:
            raise ValueError(
                f"method.num_heads = {num_heads} must divide {width}, which is the width of an "
                "encoder"
            )


def last_token(hidden: Tensor, tokens: Tensor) -> Tensor:
    """Return what became of the last token of each row: [B, S, D] → [B, D].

    Args:
        hidden: [B, S, D].
        tokens: int64 [B, S]; 0 is the padding.
    """
    lengths = (tokens != 0).sum(dim=1).clamp_min(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]


def word_losses(logits: Tensor, words: Tensor) -> Tensor:
    """Return how surprising each word of the batch is, padding left out: [words].

    Args:
        logits: [B, S, V].
        words: int64 [B, S]; 0 is the padding.
    """
    is_word = words != 0
    return F.cross_entropy(logits[is_word], words[is_word], reduction="none")
