"""The pages of search: one answer as a file of its own, and the live page that a server has."""

from collections.abc import Sequence

from tools.display.page_parts import Card, Media, card_html, escape, page_html


def answer_page(title: str, words: str, hits: Sequence[tuple[Card, int, float]]) -> str:
    """A page of the hits of one query, each a card with its rank and score."""
    media = Media()
    cards = "".join(
        card_html(card, f"<b>{rank}</b><span>{score:.3f}</span>", media)
        for card, rank, score in hits
    )
    body = (
        f"<header><h1>{escape(title)}</h1><p class=note>{escape(words)}</p></header>"
        f'<article><div class="hits">{cards}</div></article>{media.html()}'
    )
    return page_html(title, body)


def live_page(about: str, modalities: Sequence[str], query_modalities: Sequence[str]) -> str:
    """The page of `gdt serve`: a field, a file to ask with, and cards that fill as one types.

    Where words can be asked with, Enter does. Its script and its look come from the server that
    sends it.
    """
    words = "name, label or key of a clip"
    if "text" in query_modalities:
        words += "; Enter: by meaning"
    find, by = (
        "".join(f"<option>{escape(name)}</option>" for name in names)
        for names in (modalities, query_modalities)
    )
    body = f"""<header><h1>Search</h1><p class=note>{escape(about)}</p></header>
<form class="controls" role="search"{' data-text="yes"' * ("text" in query_modalities)}>
<input type="search" id="words" placeholder="{words}" aria-label="search"
  autocomplete="off" autofocus>
<label class="note">file <input type="file" id="file" accept="video/*,audio/*,image/*"></label>
<select id="by" aria-label="query as"><option value="">query as …</option>{by}</select>
<select id="find" aria-label="look through"><option value="">find …</option>{find}</select>
</form>
<p class="note" id="status" role="status">Type, choose a file, or choose a clip.</p>
<article><div class="hits" id="hits"></div></article>"""
    return page_html("Search", body).replace("</body>", '<script src="/search.js"></script></body>')


SEARCH_SCRIPT = """
"use strict";
const words = document.getElementById("words"), file = document.getElementById("file"),
  by = document.getElementById("by"), find = document.getElementById("find"),
  status = document.getElementById("status"), hits = document.getElementById("hits");
let latest = 0, last = () => listed("");

function element(name, attributes, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}
function card(hit) {
  const head = element("div", {className: "head"});
  if (hit.rank) head.append(element("b", {textContent: hit.rank}),
    element("span", {textContent: hit.score.toFixed(3)}));
  const picture = element("img",
    {src: `/clips/${hit.row}/picture`, alt: hit.name, loading: "lazy"});
  const sound = element("audio", {src: `/clips/${hit.row}/sound`, controls: true, preload: "none"});
  const more = element("button", {type: "button", textContent: "nearest to this"});
  more.addEventListener("click", () => ask(() => byKey(hit.key)));
  const caption = element("figcaption", {textContent: hit.name},
    element("span", {className: "label", textContent: hit.label}), more);
  const figure = element("figure", {className: "card", title: hit.key}, head, picture);
  if (hit.has_sound) figure.append(sound);
  figure.append(caption);
  return figure;
}
function settings() {
  return new URLSearchParams({by: by.value, find: find.value, k: 24});
}
async function listed(text) {
  return fetch("/clips?" + new URLSearchParams({words: text, k: 24}));
}
async function byKey(key) {
  const asked = settings();
  asked.set("key", key);
  return fetch("/search?" + asked);
}
async function byText(text) {
  const asked = settings();
  asked.set("text", text);
  return fetch("/search?" + asked);
}
async function byFile(chosen) {
  const asked = settings();
  asked.set("name", chosen.name);
  return fetch("/search?" + asked, {method: "POST", body: chosen});
}
async function ask(question) {
  const number = ++latest, began = performance.now();
  last = question;
  status.textContent = "…";
  let answer;
  try {
    answer = await (await question()).json();
  } catch (error) {
    answer = {error: "the server does not answer"};
  }
  if (number !== latest) return;  // a later question was asked meanwhile
  if (answer.error) {
    status.textContent = answer.error;
    hits.replaceChildren();
    return;
  }
  const took = Math.round(performance.now() - began);
  status.textContent = answer.about + ` · ${answer.hits.length} clips in ${took} ms`;
  hits.replaceChildren(...answer.hits.map(card));
}
words.addEventListener("input", () => ask(() => listed(words.value)));
file.addEventListener("change", () => { if (file.files.length) ask(() => byFile(file.files[0])); });
for (const control of [by, find]) control.addEventListener("change", () => ask(last));
const form = document.querySelector("form");
form.addEventListener("submit", event => {
  event.preventDefault();
  if (form.dataset.text && words.value.trim()) {
    const text = words.value;
    ask(() => byText(text));
  }
});
document.addEventListener("play", event => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
ask(last);
"""
