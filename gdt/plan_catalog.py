"""Published methods as plans: each is a table, none is a branch.

The paper's hypotheses by what they do about time: `v` stands for distinctive ("variant" in the
authors' list), `i` for invariant. Source: facebookresearch/GDT, README, hypotheses 1 to 9. What c
and w follow from each is drawn in docs/gdt.md.
"""

from collections.abc import Mapping
from typing import Any, Final

_SAMPLE: Final = {"relation": "distinctive"}
_CROSS_MODAL: Final = {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"}
_IMAGE: Final = {"relation": "invariant", "values": ["image"]}
_TWO_VIEWS: Final[dict[str, dict[str, Any]]] = {
    "sample": _SAMPLE,
    "modality": _IMAGE,
    "augmentation": {"relation": "invariant", "draws": 2},
}


def _hypothesis(**relations: str) -> dict[str, dict[str, Any]]:
    factors = {name: {"relation": relation, "draws": 2} for name, relation in relations.items()}
    return {"sample": _SAMPLE, "modality": _CROSS_MODAL, **factors}


NAMED_PLANS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "cross_modal_baseline": _hypothesis(),  # hypothesis 1
    "v_reversal": _hypothesis(time_reversal="distinctive"),
    "i_reversal": _hypothesis(time_reversal="invariant"),
    "v_shift": _hypothesis(time_shift="distinctive"),
    "i_shift": _hypothesis(time_shift="invariant"),
    "v_reversal_v_shift": _hypothesis(time_reversal="distinctive", time_shift="distinctive"),
    "i_reversal_v_shift": _hypothesis(time_reversal="invariant", time_shift="distinctive"),
    "v_reversal_i_shift": _hypothesis(time_reversal="distinctive", time_shift="invariant"),
    "i_reversal_i_shift": _hypothesis(time_reversal="invariant", time_shift="invariant"),
    "simclr": _TWO_VIEWS,
    "moco": _TWO_VIEWS,  # the same relations; its keys come from the momentum encoder and a queue
    "cmc": {  # a view is compared with the other view only: L with ab in the authors' code
        **_TWO_VIEWS,
        "augmentation": {"relation": "invariant", "draws": 2, "pairs": "cross"},
    },
    "clip": {
        "sample": _SAMPLE,
        "modality": {"relation": "invariant", "values": ["image", "text"], "pairs": "cross"},
    },
}


def tables_of(name: object) -> Mapping[str, Mapping[str, Any]]:
    """The tables of a published plan, one for each factor.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in NAMED_PLANS:
        raise ValueError(f"no plan is named {name!r}, there are {', '.join(NAMED_PLANS)}")
    return NAMED_PLANS[name]
