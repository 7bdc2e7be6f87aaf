"""How well methods of time, sound and words do what they are for, beside untrained and baselines.

    benchmarks/correspondence.py       masks carried through moving shapes
    benchmarks/sound_words_worlds.py   digits by CPC, captions by CLIP and its kin, worlds by C-SWM,
                                       similarity of texts by SimCSE

Seed by seed, so that an interrupted table has every row: what is on disk is not run again, and
`--kept` shows what there is.

    python -m benchmarks.video_methods --out runs/video_methods --into docs/methods.md
"""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import torch

from benchmarks.correspondence import correspondence
from benchmarks.groups import Group, table
from benchmarks.sound_words_worlds import news, paraphrases, sounds, words, worlds
from benchmarks.trials import Failed, Trial, draw, kept_trials, put_into, run_trials, values_of

BEGIN: Final = "<!-- table: python -m benchmarks.video_methods --into docs/methods.md -->"
#: Name → the group, on data in a folder, which are made if they are not there.
GROUPS: Final[dict[str, Callable[[Path], Group]]] = {
    "sounds": sounds,
    "words": words,
    "worlds": worlds,
    "paraphrases": paraphrases,
    "news": news,
    "correspondence": correspondence,
}


def main() -> None:
    """Run what is not on disk yet, print the tables, draw them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video_methods", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/video_methods"), help="data, trials")
    parser.add_argument("--groups", default=",".join(GROUPS), help="with commas between")
    parser.add_argument("--methods", help="with commas between; all of the groups by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kept", action="store_true", help="run nothing: show what is on disk")
    parser.add_argument("--into", type=Path, help="a Markdown file whose table to replace")
    asked = parser.parse_args()
    began = time.process_time()
    groups = [GROUPS[name](asked.out / "data" / name) for name in asked.groups.split(",")]
    if asked.methods:
        groups = [group.only(asked.methods.split(",")) for group in groups]
    groups = [group for group in groups if group.settings]
    trials: dict[str, list[Trial | Failed]] = {}
    for seed in range(asked.seeds):
        for group in groups:
            look = kept_trials if asked.kept else run_trials
            for name, found in look(group.settings, [seed], asked.out / "trials").items():
                trials.setdefault(name, []).extend(found)
    text = "\n\n".join(table(group, trials) for group in groups)
    text += f"\n\n{datetime.now(tz=UTC):%Y-%m-%d}, torch {torch.__version__}."
    print(text)
    if not asked.kept:
        print(f"{(time.process_time() - began) / 60:.0f} CPU minutes")
    for group in groups:
        shown = {s.name: trials[s.name] for s in group.settings if s.name in trials}
        if any(values_of(of, group.columns[0]) for of in shown.values()):
            draw(shown, group.columns[0], asked.out / f"{group.name}.png", group.name.capitalize())
    if asked.into is not None:
        put_into(asked.into, BEGIN, text)


if __name__ == "__main__":
    main()
