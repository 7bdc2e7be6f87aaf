"""Sentences that say the same in other words: triples to learn from, and pairs with scores.

    OUT/triples.tsv   a sentence, one that means the same, one that does not: to learn from
    OUT/pairs.tsv     text, text, score: how many of five facts they share, over five

A scene has five facts: size, colour, shape, motion, pace. Each has several words for one meaning,
drawn anew for every sentence, and sentences are built in several ways; so words in common say
little, and only triples tell which words mean the same. What the first sentence of a pair says, no
triple begins with. Of a triple's third sentence one fact is another. All follows from the seed.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

#: Fact → its values → words for each.
FACTS: Final = (
    (("small", "little", "tiny"), ("large", "big", "huge"), ("middling", "medium", "moderate")),
    (("red", "crimson", "scarlet"), ("blue", "azure", "navy"), ("green", "emerald", "olive")),
    (
        ("disc", "circle", "coin"),
        ("square", "box", "tile"),
        ("triangle", "wedge", "pyramid"),
        ("star", "asterisk", "spark"),
    ),
    (("rises", "climbs", "ascends"), ("sinks", "falls", "descends"), ("turns", "spins", "rotates")),
    (("slowly", "gently", "calmly"), ("fast", "quickly", "rapidly")),
)
TEMPLATES: Final = (
    "a {0} {1} {2} {3} {4}",
    "{4} a {0} {2} that is {1} {3}",
    "there {3} {4} one {1} {2} which is {0}",
)
_HELD_OUT: Final = 4  # one scene of so many is of pairs

Scene = tuple[int, ...]  # which value of each fact


@dataclass(frozen=True)
class ParaphrasesOptions:
    """How many sentences.

    Raises:
        ValueError: a number out of range; the message says which and what is allowed.
    """

    num_triples: int = 2000
    num_pairs: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_triples", 1), ("num_pairs", 3), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"paraphrases: {name} is {getattr(self, name)}; allowed: {least} or more"
                )


def write_paraphrases(out: Path, options: ParaphrasesOptions) -> None:
    """Write both files; the folder is made."""
    rng = np.random.default_rng(options.seed)
    scenes = list(itertools.product(*(range(len(values)) for values in FACTS)))
    order = [scenes[place] for place in rng.permutation(len(scenes))]
    held_out, learned = order[::_HELD_OUT], [s for n, s in enumerate(order) if n % _HELD_OUT]
    triples = []
    for _ in range(options.num_triples):
        scene = learned[rng.integers(len(learned))]
        other = changed(scene, 1, rng)
        triples.append("\t".join(sentence(of, rng) for of in (scene, scene, other)))
    pairs = []
    for number in range(options.num_pairs):
        scene = held_out[rng.integers(len(held_out))]
        num_changed = number % (len(FACTS) + 1)
        texts = sentence(scene, rng), sentence(changed(scene, num_changed, rng), rng)
        pairs.append(f"{texts[0]}\t{texts[1]}\t{1 - num_changed / len(FACTS):g}")
    out.mkdir(parents=True, exist_ok=True)
    for name, lines in (("triples.tsv", triples), ("pairs.tsv", pairs)):
        (out / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def sentence(scene: Scene, rng: np.random.Generator) -> str:
    """Say what a scene is, in words that are drawn."""
    meanings = [values[value] for values, value in zip(FACTS, scene, strict=True)]
    words = [meaning[rng.integers(len(meaning))] for meaning in meanings]
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(*words)


def changed(scene: Scene, count: int, rng: np.random.Generator) -> Scene:
    """Give so many facts of a scene another value."""
    facts = list(scene)
    for fact in rng.permutation(len(FACTS))[:count].tolist():
        facts[fact] = int(facts[fact] + rng.integers(1, len(FACTS[fact]))) % len(FACTS[fact])
    return tuple(facts)
