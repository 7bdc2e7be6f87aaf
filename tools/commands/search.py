"""`gdt embed`, `gdt search` and `gdt serve`: find clips by a film, a sound, a picture or a clip."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tools.say import say

EMBED_EXAMPLES = (
    "gdt embed data/shards/val --run runs/first --out index",
    "gdt embed holiday/*.mp4 --run runs/first --out index --modality video",
)
SEARCH_EXAMPLES = (
    "gdt search --index index rain.wav -k 5",
    "gdt search --index index rain.wav --find audio --json",
    "gdt search --index index 'a dog barks'",
)
SERVE_EXAMPLES = ("gdt serve --index index",)

Index = Annotated[Path, typer.Option(help="Folder that `gdt embed` wrote.")]
RunOfIndex = Annotated[Path | None, typer.Option(help="Run folder, where it is not where it was.")]
Exact = Annotated[bool, typer.Option("--exact", help="Leave FAISS's index aside.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]


def embed(
    sources: Annotated[list[str], typer.Argument(help="One data set of shards, or media files.")],
    run: Annotated[Path, typer.Option(help="Run folder of `gdt pretrain`.")],
    out: Annotated[Path, typer.Option(help="Folder for the index.")],
    modality: Annotated[
        list[str] | None, typer.Option(help="Embed this modality alone. May be repeated.")
    ] = None,
    segments: Annotated[int, typer.Option(min=1, help="Evenly spaced segments of a clip.")] = 5,
    faiss: Annotated[
        str, typer.Option(help="none, flat, ivf, hnsw, or auto: ivf from 100,000 clips on.")
    ] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Clips encoded together.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Decoding threads.")] = 2,
    device: Device = "auto",
) -> None:
    """Embed clips into an index that can be searched."""
    from shards.plural import plural
    from tools.search.build import build_index

    index, skipped = build_index(
        sources,
        run,
        out,
        modalities=tuple(modality or ()),
        segments=segments,
        faiss=faiss,
        batch_size=batch_size,
        threads=threads,
        device=device,
    )
    causes = ", ".join(f"{stage} {count}" for stage, count in skipped.items())
    left_out = f"; {sum(skipped.values())} skipped ({causes})" if skipped else ""
    say(f"{out}: {plural(len(index), 'clip')}{left_out}")
    for name, rows in index.vectors.items():
        say(f"  {name}: {rows.shape[1]} numbers a clip, searched {index.how(name)}")


def search(
    query: Annotated[
        str | None, typer.Argument(help="A film, sound or picture, the key of a clip, or words.")
    ] = None,
    index: Index = Path("index"),
    k: Annotated[int, typer.Option("-k", min=1, help="How many to find.")] = 10,
    by: Annotated[str, typer.Option(help="Take the query as this modality; text: as words.")] = "",
    find: Annotated[
        str, typer.Option(help="Look through this modality; pictures by default.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    page: Annotated[Path | None, typer.Option(help="Write a page of the hits, to look at.")] = None,
    serve_page: Annotated[
        bool, typer.Option("--serve", help="Serve live search in a browser: `gdt serve`.")
    ] = False,
    run: RunOfIndex = None,
    exact: Exact = False,
    device: Device = "auto",
) -> None:
    """Find the clips that are nearest to a film, a sound, a picture, another clip, or words."""
    if serve_page:
        serve(index, run=run, exact=exact, device=device)
        return
    if query is None:
        raise typer.BadParameter("nothing to look for: give a file or a key, or --serve")
    from tools.search.index import SearchIndex
    from tools.search.report import print_answer, write_page
    from tools.search.searcher import Searcher

    searcher = Searcher(SearchIndex(index, exact=exact), run, device)
    answer = searcher.answer(query, by, find, k)
    if page is not None:
        write_page(searcher, answer, page)
    if as_json:
        say(json.dumps(answer.to_tables(), indent=2, ensure_ascii=False))
    else:
        print_answer(answer)
        if page is not None:
            say(f"page        {page}")


def serve(
    index: Index = Path("index"),
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    run: RunOfIndex = None,
    exact: Exact = False,
    device: Device = "auto",
) -> None:
    """Serve a page with live search, to this machine alone unless --host says otherwise."""
    from tools.search.index import SearchIndex
    from tools.search.searcher import Searcher
    from tools.search.server import make_server

    searcher = Searcher(SearchIndex(index, exact=exact), run, device)
    searcher.encoder()  # and what it refuses, before anyone asks
    server = make_server(searcher, host, port)
    say(f"search  http://{host}:{server.server_address[1]}/   (end with Ctrl-C)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
