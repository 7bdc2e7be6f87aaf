"""Captions to token numbers, by a tokenizer file of the library `tokenizers`; and how one is made.

    "a red disc" ─► [CLS] a red disc [EOS] [PAD] [PAD]     int64 [S]

The file is JSON, written by `gdt tokenizer train`; another's does, too, if its token 0 is the
padding, as BERT's is: encoders take 0 for a place without a token. Nothing is fetched.

Legend: N captions, S = max_tokens.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from pipelines.device.options import Text

__all__ = ["LEAST_VOCABULARY", "Tokens", "train_tokenizer"]

#: Of a tokenizer that is trained here, numbered from 0 on.
SPECIAL: Final = ("[PAD]", "[CLS]", "[EOS]")
_PADDING: Final = ("[PAD]", "<pad>")
#: Bytes and special tokens: nothing is ever an unknown token.
LEAST_VOCABULARY: Final = 256 + len(SPECIAL)


class Tokens:
    """A tokenizer, which cuts and pads to one length.

    Args:
        options: its file and S.

    Attributes:
        vocab_size: how many tokens it knows.

    Raises:
        ImportError: the library is missing.
        ValueError: no file is named, or it is no such file, or its token 0 is not the padding.
    """

    def __init__(self, options: Text) -> None:
        if options.tokenizer is None:
            raise ValueError(
                "the plan has the modality 'text': set text.tokenizer to a file that `gdt "
                "tokenizer train SHARDS --out tokenizer.json` wrote"
            )
        path = Path(options.tokenizer)
        if not path.is_file():
            raise ValueError(f"text.tokenizer = {options.tokenizer!r}: there is no such file")
        try:
            self._tokenizer = _library().Tokenizer.from_file(str(path))
        except ImportError:
            raise
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path} is no tokenizer file: {error}") from error
        padding = self._tokenizer.id_to_token(0)
        if padding not in _PADDING:
            raise ValueError(
                f"{path}: token 0 is {padding!r}, and must be the padding, one of "
                f"{', '.join(_PADDING)}; `gdt tokenizer train` writes such files"
            )
        self.vocab_size: int = self._tokenizer.get_vocab_size()
        self._tokenizer.enable_truncation(options.max_tokens)
        self._tokenizer.enable_padding(length=options.max_tokens, pad_id=0, pad_token=padding)

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Token numbers int64 [N, S], 0 behind the last token."""
        encoded = self._tokenizer.encode_batch(list(captions))
        return torch.tensor([row.ids for row in encoded], dtype=torch.int64)

    @property
    def ends(self) -> tuple[int, int]:
        """The tokens that every caption begins and ends with.

        Raises:
            ValueError: the tokenizer puts none around captions.
        """
        around = [token for token in self._tokenizer.encode("").ids if token]
        if len(around) != 2:
            raise ValueError(
                f"text.tokenizer: puts {len(around)} tokens around captions, and what writes them "
                "needs one that begins and one that ends: `gdt tokenizer train` makes such"
            )
        return around[0], around[1]

    def words(self, tokens: Sequence[int]) -> str:
        """The caption that tokens are of, without those around it."""
        return " ".join(self._tokenizer.decode(list(tokens), skip_special_tokens=True).split())


def train_tokenizer(captions: Iterable[str], vocab_size: int, path: Path) -> int:
    """Write a byte-pair encoding of lower-cased captions as a tokenizer file.

    Sennrich et al. 2016 (arXiv:1508.07909), over bytes as in GPT-2; lower case as in CLIP.

    Args:
        captions: to learn from.
        vocab_size: tokens at most, special ones included.
        path: of the file, JSON.

    Returns:
        How many tokens it has: fewer where the captions have no more.

    Raises:
        ImportError: the library is missing.
        ValueError: a vocabulary that does not even hold the bytes.
    """
    if vocab_size < LEAST_VOCABULARY:
        raise ValueError(
            f"vocab_size = {vocab_size}, must be at least {LEAST_VOCABULARY}: the 256 bytes and "
            f"{', '.join(SPECIAL)}"
        )
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.normalizer = library.normalizers.Sequence(
        [library.normalizers.NFC(), library.normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = library.decoders.ByteLevel()
    tokenizer.train_from_iterator(
        captions,
        library.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL),
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    numbers = [(name, tokenizer.token_to_id(name)) for name in SPECIAL]
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [EOS]", special_tokens=numbers
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return int(tokenizer.get_vocab_size())


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            "the modality 'text' needs the library tokenizers: pip install 'gdt-stream[text]'"
        ) from error
    return tokenizers
