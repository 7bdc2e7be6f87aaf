"""The retrieval page: one HTML file that needs nothing else, for looking at what a model finds.

Tables of all scores, then for each direction the ranks of the right answers, a map of similarities,
and queries with their top hits, best first. Right ones are marked; where the right one is not among
the hits it is shown behind them with its rank. A field and two lists leave out what is not looked
for. All text is escaped; nothing is fetched; what several cards show is in the file once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.display.page_parts import (
    Card,
    Media,
    Table,
    card_html,
    data_uri,
    escape,
    page_html,
    table_html,
)


@dataclass(frozen=True)
class Hit:
    """A gallery clip that was found for a query."""

    card: Card
    rank: float
    score: float
    right: bool


@dataclass(frozen=True)
class Query:
    """A query, why it is shown, its hits from the best on, and its best right answer.

    Attributes:
        kind: "best", "worst" or "evenly spaced".
        answer: None where it is not to be shown apart.
    """

    card: Card
    kind: str
    rank: float
    hits: Sequence[Hit]
    answer: Hit | None


@dataclass(frozen=True)
class Direction:
    """What was asked for what.

    Attributes:
        title: "audio → video".
        histogram: SVG of the ranks.
        map_picture: PNG bytes of the similarities, or None.
        map_words: what the map shows.
        queries: those that are shown.
    """

    title: str
    histogram: str
    map_picture: bytes | None
    map_words: str
    queries: Sequence[Query]


def retrieval_page(
    title: str,
    facts: Mapping[str, str],
    tables: Sequence[Table],
    directions: Sequence[Direction],
    protocol: Sequence[str],
    warnings: Sequence[str] = (),
) -> str:
    """Render the page.

    Args:
        title: The heading.
        facts: What was evaluated, name → value, shown under the heading.
        tables: All scores.
        directions: Each with its queries.
        protocol: What the numbers mean, line by line.
        warnings: What a reader must know first.

    Returns:
        A whole HTML document.
    """
    terms = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    said = "".join(f"<p class=warning>{escape(line)}</p>" for line in warnings)
    lines = "".join(f"{escape(line)}<br>" for line in protocol)
    media = Media()
    sections = "".join(_direction(direction, media) for direction in directions)
    body = (
        f"<header><h1>{escape(title)}</h1><dl class=facts>{terms}</dl>{said}"
        f"{''.join(table_html(table) for table in tables)}"
        f"<h2>Protocol</h2><p class=note>{lines}</p></header>"
        f"{_controls(directions)}{sections}"
        f'<p id="nothing" class=note hidden>No query fits.</p>{media.html()}'
    )
    return page_html(title, body, _SCRIPT)


def _controls(directions: Sequence[Direction]) -> str:
    ways = "".join(
        f'<option value="{n}">{escape(direction.title)}</option>'
        for n, direction in enumerate(directions)
    )
    kinds = "".join(
        f"<option>{kind}</option>"
        for kind in ("all queries", "best", "worst", "evenly spaced", "found", "missed")
    )
    return (
        '<form class="controls" role="search">'
        '<input type="search" id="words" placeholder="name, label or key" aria-label="search">'
        f'<select id="way" aria-label="direction"><option value="">all directions</option>{ways}'
        f'</select><select id="kind" aria-label="queries">{kinds}</select></form>'
    )


def _direction(direction: Direction, media: Media) -> str:
    similar = ""
    if direction.map_picture is not None:
        similar = (
            f'<figure><img src="{data_uri(direction.map_picture)}" alt="similarities">'
            f"<figcaption>{escape(direction.map_words)}</figcaption></figure>"
        )
    charts = (
        f"<div class=charts><figure>{direction.histogram}<figcaption>Share of the queries by the "
        "rank of their best right answer; under each bar the last rank it holds, the line is "
        f"chance.</figcaption></figure>{similar}</div>"
    )
    rows = "".join(_query(query, media) for query in direction.queries)
    return f"<section><h2>{escape(direction.title)}</h2>{charts}{rows}</section>\n"


def _query(query: Query, media: Media) -> str:
    found = any(hit.right for hit in query.hits)
    hits = "".join(_hit(hit, media) for hit in query.hits)
    if not found and query.answer is not None:
        hits += _hit(query.answer, media, " apart")
    words = " ".join((query.card.name, query.card.label, query.card.key)).lower()
    style = query.kind if query.kind in ("best", "worst") else ""
    head = f"<span>query</span><span class='kind {style}'>{query.kind}, rank {query.rank:g}</span>"
    return (
        f'<article data-words="{escape(words)}" data-kind="{query.kind}" '
        f'data-found="{"found" if found else "missed"}">'
        f'<div class="query">{card_html(query.card, head, media)}</div>'
        f'<div class="hits">{hits}</div></article>'
    )


def _hit(hit: Hit, media: Media, style: str = "") -> str:
    mark = '<span class="tick" title="a right one">✓ right</span>' if hit.right else ""
    head = f"<b>{hit.rank:g}</b>{mark}<span>{hit.score:.3f}</span>"
    return card_html(hit.card, head, media, (" right" if hit.right else "") + style)


_SCRIPT = """
"use strict";
const words = document.getElementById("words"), way = document.getElementById("way"),
  kind = document.getElementById("kind"), sections = [...document.querySelectorAll("section")];
function choose() {
  const asked = words.value.trim().toLowerCase(), only = kind.selectedIndex ? kind.value : "";
  let shown = 0;
  sections.forEach((section, number) => {
    let here = 0;
    for (const query of section.querySelectorAll("article")) {
      const fits = query.dataset.words.includes(asked)
        && (!only || query.dataset.kind === only || query.dataset.found === only);
      query.hidden = !fits;
      here += fits;
    }
    section.hidden = (way.value !== "" && +way.value !== number) || !here;
    if (!section.hidden) shown += here;
  });
  document.getElementById("nothing").hidden = shown > 0;
}
words.addEventListener("input", choose);
for (const list of [way, kind]) list.addEventListener("change", choose);
document.querySelector("form").addEventListener("submit", event => event.preventDefault());
document.addEventListener("play", event => {  // one sound at a time
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
"""
