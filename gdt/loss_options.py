"""Which contrastive loss: the paper's by default, its relatives by name."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

#: key → what it may say
_ALLOWED: Final = {
    "objective": ("softmax", "sigmoid", "reference"),
    "other_positives": ("in", "out"),
    "reduction": ("pair", "row"),
}


@dataclass(frozen=True)
class LossOptions:
    """How the pairs of a batch become a loss, given c and w.

    Attributes:
        objective: "softmax" is the paper's equation 1; "sigmoid" decides for each pair alone
            whether it is positive (Zhai et al. 2023, "Sigmoid Loss for Language Image
            Pre-Training"); "reference" is what the authors' code computes (`gdt.reference`).
        other_positives: of the softmax: whether a row's other positives stand in the denominator of
            each ("in", the paper) or not ("out").
        stop_gradient_keys: no gradient through the keys, only through the queries.
        reduction: a mean over all positive pairs ("pair", the paper), or over rows of the mean over
            their positives ("row"; Khosla et al. 2020, "Supervised Contrastive Learning",
            equation 2). They differ where rows have different Σ c·w.

    Raises:
        ValueError: an unknown name, or a choice that the objective does not leave.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    objective: Literal["softmax", "sigmoid", "reference"] = "softmax"
    other_positives: Literal["in", "out"] = "in"
    stop_gradient_keys: bool = False
    reduction: Literal["pair", "row"] = "pair"

    def __post_init__(self) -> None:
        for key, allowed in _ALLOWED.items():
            if getattr(self, key) not in allowed:
                raise ValueError(
                    f"loss: {key} = {getattr(self, key)!r}, allowed are {', '.join(allowed)}"
                )
        if self.objective == "sigmoid" and self.other_positives == "out":
            raise ValueError(
                'loss: other_positives = "out" is of the softmax: a sigmoid has no denominator'
            )
        if self.objective == "reference" and replace(self, objective="softmax") != LossOptions():
            raise ValueError(
                'loss: objective = "reference" fixes all other keys (detached keys, the other '
                "positive out, its own mean): leave them out"
            )
