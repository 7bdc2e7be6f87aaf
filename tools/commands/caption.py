"""`gdt caption`: captions that a run writes of clips, beside those that they have."""

from pathlib import Path
from typing import Annotated, Final

import typer

from tools.say import say

EXAMPLES: Final = ("gdt caption --run runs/coca --shards data/shards/val --out captions.jsonl",)


def caption(
    run: Annotated[
        Path, typer.Option(help="Run folder of `gdt pretrain coca` or contrastive_captioning.")
    ],
    shards: Annotated[str, typer.Option(help="Data set; its clips need no captions.")],
    out: Annotated[Path, typer.Option(help="JSON lines: key, caption, and the given ones.")],
    shown: Annotated[int, typer.Option(min=0, help="How many clips to print.")] = 12,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips decoded together.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Threads that decode.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
) -> None:
    """Write a caption of each clip, word by word, each the likeliest."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from tools.display.progress_bar import progress_bar
    from tools.evaluation.captions import CaptionRequest, write_captions
    from tools.terminal import Terminal

    request = CaptionRequest(
        run=run, shards=shards, out=out, batch_size=batch_size, threads=threads, device=device
    )
    with progress_bar("captions") as report:
        found = write_captions(request, report)
    table = Table("clip", "caption", "given", box=SIMPLE_HEAD)
    for clip in found[:shown]:
        table.add_row(clip.key, clip.caption, " / ".join(clip.given) or "–")
    if shown:
        Terminal().print(table)
    known = [clip for clip in found if clip.given]
    same = sum(clip.is_given for clip in known)
    say(f"{out}: captions of {len(found)} clips; {same} of {len(known)} are the given one")
