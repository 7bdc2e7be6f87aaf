"""`gdt tokenizer`: the tokens that captions are made of, learned from shards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tools.commands.group import command, group
from tools.say import say

app = group("Tokenizers of captions, for plans with the modality text.")


@command(app, "train", "gdt tokenizer train data/shards/train --out tokenizer.json")
def train(
    shards: Annotated[str, typer.Argument(help="Folder or URL of a data set with captions.")],
    out: Annotated[Path, typer.Option(help="The file to write; set text.tokenizer to it.")],
    vocab_size: Annotated[
        int, typer.Option(help="Tokens at most; encoders.vocab_size has to be as many.")
    ] = 8192,
) -> None:
    """Learn a tokenizer from the captions of a data set: byte pairs, lower case."""
    from pipelines.device.tokens import train_tokenizer
    from shards import open_samples
    from shards.reading.captions import captions_of
    from tools.runs.config import ConfigError

    dataset = open_samples(shards)
    count = 0

    def captions() -> Iterator[str]:
        nonlocal count
        for number in range(len(dataset)):
            for caption in captions_of(dataset.metadata(number)):
                count += 1
                yield caption

    first = next(captions(), None)
    if first is None:
        raise ConfigError(
            f"{dataset.path} has no captions: a sample's are `caption` or `captions` of its json, "
            "or its .txt member. A list with a column caption gives them to `gdt shards build`"
        )
    count = 0
    try:
        num_tokens = train_tokenizer(captions(), vocab_size, out)
    except (ValueError, ImportError) as error:
        raise ConfigError(str(error)) from error
    say(f"{out}: {num_tokens} tokens from {count} captions of {len(dataset)} samples")
