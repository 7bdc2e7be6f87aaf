"""The retrieval page: one HTML file that needs nothing else, for looking at what a model finds.

A row is a query and its top hits, best first; right ones are marked, and where the right one is not
among the hits it is shown behind them with its rank. All text is escaped; pictures and sounds are
data URIs; there is no script.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

#: First bytes of what a card may carry → its media type.
_MEDIA_TYPES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG", "image/png"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
)


@dataclass(frozen=True)
class Card:
    """One clip as seen through one modality.

    Args:
        key: The sample's key.
        caption: A few words more: a label, where in its source the clip lies.
        picture: JPEG or PNG bytes: frames, or a log-mel spectrogram.
        sound: MP3 bytes to play, or None.
    """

    key: str
    caption: str
    picture: bytes
    sound: bytes | None = None


@dataclass(frozen=True)
class Hit:
    """A gallery clip that was found for a query."""

    card: Card
    rank: float
    score: float
    right: bool


@dataclass(frozen=True)
class Query:
    """A query, its top hits from the best on, and its right answer, which may be among them."""

    card: Card
    hits: Sequence[Hit]
    answer: Hit


@dataclass(frozen=True)
class Direction:
    """All queries of one direction, and how the whole gallery did in it."""

    query_name: str
    gallery_name: str
    metrics: Mapping[str, float]
    queries: Sequence[Query]


def retrieval_page(
    title: str,
    facts: Mapping[str, str],
    directions: Sequence[Direction],
    chance: Mapping[str, float],
) -> str:
    """Renders the page.

    Args:
        title: The heading.
        facts: What was evaluated, name → value, shown under the heading.
        directions: Each with its metrics and queries.
        chance: What random embeddings score, under the same names as the metrics.

    Returns:
        A whole HTML document.
    """
    terms = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    body = "".join(_direction(direction) for direction in directions)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<dl class="facts">{terms}</dl>
{_metrics_table(directions, chance)}
<p class="note">{escape(_PROTOCOL)}</p>
</header>
{body}</body>
</html>
"""


def metric_text(name: str, value: float) -> str:
    """Writes a metric as the tables show it: recalls in per cent, ranks plain."""
    return f"{100 * value:.1f} %" if name.startswith("R@") else f"{value:.1f}"


def _metrics_table(directions: Sequence[Direction], chance: Mapping[str, float]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in chance)
    rows = [(f"{d.query_name} → {d.gallery_name}", d.metrics, "") for d in directions]
    rows.append(("chance", chance, ' class="chance"'))
    body = "".join(
        f"<tr{style}><th>{escape(words)}</th>"
        + "".join(f"<td>{metric_text(name, metrics[name])}</td>" for name in chance)
        + "</tr>"
        for words, metrics, style in rows
    )
    return f'<table class="metrics"><tr><th></th>{head}</tr>{body}</table>'


def _direction(direction: Direction) -> str:
    words = escape(f"{direction.query_name} → {direction.gallery_name}")
    rows = "".join(_query(query, direction) for query in direction.queries)
    return f"<section><h2>{words}</h2>{rows}</section>\n"


def _query(query: Query, direction: Direction) -> str:
    found = any(hit.right for hit in query.hits)
    hits = "".join(_hit(hit) for hit in query.hits)
    answer = "" if found else f'<div class="gap">…</div>{_hit(query.answer)}'
    kind = escape(direction.query_name)
    return (
        f'<article><div class="query">{_card(query.card, f"query: {kind}", "")}</div>'
        f'<div class="hits">{hits}{answer}</div></article>'
    )


def _hit(hit: Hit) -> str:
    mark = '<span class="tick" title="the right one">✓ right</span>' if hit.right else ""
    head = f"<b>{hit.rank:g}</b>{mark}<span>{hit.score:.3f}</span>"
    return _card(hit.card, head, " right" if hit.right else "")


def _card(card: Card, head: str, style: str) -> str:
    sound = ""
    if card.sound is not None:
        sound = f'<audio controls preload="none" src="{_data_uri(card.sound)}"></audio>'
    key = escape(card.key)
    caption = f'<p class="caption">{escape(card.caption)}</p>' if card.caption else ""
    return (
        f'<figure class="card{style}"><div class="head">{head}</div>'
        f'<img src="{_data_uri(card.picture)}" alt="{key}">{sound}'
        f'<figcaption><p class="key" title="{key}">{key}</p>{caption}</figcaption></figure>'
    )


def _data_uri(content: bytes) -> str:
    for first_bytes, media_type in _MEDIA_TYPES:
        if content.startswith(first_bytes):
            return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    raise ValueError(
        f"retrieval page: content begins with {content[:4]!r}; expected JPEG, PNG or MP3"
    )


_PROTOCOL = (
    "Every clip is embedded as the mean of the embeddings of its segments, scaled back to length "
    "1, once from its sound and once from its pictures. A query is compared with all clips of the "
    "gallery by inner product; the right answer is the same clip in the other modality. Ties "
    "count as the expected rank among the equals. The queries shown are evenly spaced over the "
    "data set, not picked. The number at the top left of a hit is its rank, at the top right its "
    "score."
)

_STYLE = """
:root { --page: #f6f7f9; --card: #fff; --ink: #1f2329; --faint: #69707c; --line: #dde1e7;
  --good: #1a7f4b; --good-soft: #e3f4ea; --shade: rgb(20 30 50 / 8%); }
@media (prefers-color-scheme: dark) {
  :root { --page: #14161a; --card: #1e2127; --ink: #e8eaee; --faint: #98a0ad; --line: #333842;
    --good: #4cc38a; --good-soft: #173326; --shade: rgb(0 0 0 / 40%); } }
* { box-sizing: border-box; margin: 0; }
body { font: 15px/1.45 system-ui, sans-serif; background: var(--page); color: var(--ink);
  max-width: 1280px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; } h2 { font-size: 19px; margin: 38px 0 12px; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 28px; margin: 10px 0 18px; }
.facts dt { font-size: 12px; color: var(--faint); } .facts dd { overflow-wrap: anywhere; }
.metrics { border-collapse: collapse; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; font-variant-numeric: tabular-nums; }
.metrics th, .metrics td { padding: 6px min(16px, 2vw); text-align: right; font-weight: 500;
  white-space: nowrap; }
.metrics td { font-weight: 600; }
.metrics th:first-child { text-align: left; } .metrics tr:first-child { color: var(--faint); }
.metrics tr + tr { border-top: 1px solid var(--line); } .metrics .chance * { color: var(--faint); }
.note { color: var(--faint); font-size: 13px; max-width: 78ch; margin-top: 14px; }
article { display: flex; gap: 14px; padding: 14px; margin-bottom: 14px; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; box-shadow: 0 1px 3px var(--shade); }
.query { flex: 0 0 172px; min-width: 0; padding-right: 14px; border-right: 1px solid var(--line); }
.hits { flex: 1; display: flex; gap: 7px; overflow-x: auto; align-items: flex-start; }
.gap { align-self: center; color: var(--faint); padding: 0 2px; }
.card { flex: 0 0 147px; min-width: 0; padding: 6px;
  border: 2px solid transparent; border-radius: 8px; }
.query .card { padding: 6px 0; border: 0; }
.card.right { border-color: var(--good); background: var(--good-soft); }
.head { display: flex; justify-content: space-between; gap: 6px; font-size: 13px;
  color: var(--faint); margin-bottom: 4px; font-variant-numeric: tabular-nums; }
.head b { color: var(--ink); } .tick { color: var(--good); font-weight: 600; }
.card img { width: 100%; display: block; border-radius: 4px; }
.card audio { width: 100%; height: 30px; margin-top: 4px; }
.key { font-size: 11.5px; margin-top: 5px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.caption { font-size: 11.5px; color: var(--faint); }
@media (max-width: 640px) { article { flex-direction: column; }
  .query { flex-basis: auto; border: 0; padding: 0; } .query .card { max-width: 220px; } }
"""
