"""What the authors' code computes, term by term, for comparisons with it.

facebookresearch/GDT (commit 873e630), gdt_helper.py and main_gdt.py, differs from equation 1:

- Keys carry no gradient.
- It adds up cross-entropies between two versions of the batch at a time (plain and reversed, say).
  Where they are invariant, one term has the other version's key for its positive and one has its
  own's, and the positive of the one never stands in the denominator of the other; nor do, of its
  own rank, any keys of that version.
- The lists of other ranks' keys are extended in place from one call to the next, so that some
  negatives count several times.

Only under hypotheses 1, 2 and 4 is the sum equation 1 with detached keys.

So a term is a contrastive loss with its own c and w, and w counts how often a key is listed.

Legend: Q queries of this rank, K keys of all ranks, D embedding, M factors.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from gdt.loss_options import LossOptions
from gdt.objectives import fraction, numerator_and_count, softmax
from gdt.plan import Plan

#: The time factors, in the order in which the authors' code takes them.
TIME_FACTORS: Final = ("time_reversal", "time_shift")
Version = tuple[int, ...]  # the draws of the plan's time factors


@dataclass(frozen=True)
class Term:
    """One cross-entropy: queries of a version, their positive, and how often each key counts."""

    query: Version
    positive: Version
    same_rank: Counter[Version]
    other_ranks: Counter[Version]
    share: float


def reference_terms(plan: Plan) -> list[Term]:
    """The cross-entropies of the authors' code for one of their nine hypotheses.

    Raises:
        ValueError: a plan that is none of them.
    """
    axes = _time_factors(plan)
    plain: Version = (0,) * len(axes)
    versions = [plain]
    for axis in range(len(axes)):
        versions += [_flipped(version, axis) for version in versions]
    relations = [factor.relation for name in axes if (factor := plan.factor(name))]
    #: (relation, a version, the one it is taken with); "own" pairs a version with itself
    calls = [
        ("own", plain, _flipped(plain, axis))
        for axis, relation in enumerate(relations)
        if relation == "invariant"
    ]
    calls += [
        (relation, version, _flipped(version, axis))
        for axis, relation in enumerate(relations)
        for version in versions
        if version[axis] == 0
    ]
    if not axes:
        return [Term(plain, plain, Counter([plain]), Counter([plain]), share=1)]

    listed = {version: Counter([version]) for version in versions}  # keys of other ranks
    terms = []
    for relation, first, second in calls:
        if relation == "invariant":
            others = listed[second] = listed[second] + listed[first]
        else:
            others = listed[first] = listed[first] + listed[second]
        for query, partner in ((first, second), (second, first)):
            positive = partner if relation == "invariant" else query
            own = Counter([positive] + ([partner] if relation == "distinctive" else []))
            terms.append(Term(query, positive, own, others, share=1 / len(calls) / 2))
    return terms


def reference_loss(
    plan: Plan,
    queries: Tensor,
    query_codes: Tensor,
    keys: Tensor,
    key_codes: Tensor,
    is_same_rank: Tensor,
    temperature: float | Tensor,
) -> Tensor:
    """This rank's own loss; over ranks, the authors take the mean.

    Args:
        plan: one of the nine hypotheses.
        queries: float [Q, D], L2-normalised.
        query_codes: int64 [Q, M].
        keys: float [K, D]; no gradient reaches them.
        key_codes: int64 [K, M].
        is_same_rank: bool [K], which keys are of this rank.
        temperature: ρ.

    Raises:
        ValueError: a plan that is none of the nine hypotheses.
    """
    terms = reference_terms(plan)
    columns = [plan.names.index(name) for name in _time_factors(plan)]
    sample, modality = plan.names.index("sample"), plan.names.index("modality")
    dtype = torch.promote_types(queries.dtype, torch.float32)
    logits = queries.to(dtype) @ keys.detach().to(dtype).T / temperature  # Q x K
    crosses = query_codes[:, None, modality] != key_codes[:, modality]  # Q x K
    same_sample = (query_codes[:, None, sample] == key_codes[:, sample]) & is_same_rank  # Q x K
    loss = logits.new_zeros(())
    for term in terms:
        is_query = _is_version(query_codes, columns, term.query)  # Q
        is_positive = _is_version(key_codes, columns, term.positive)  # K
        times = torch.zeros(len(keys), dtype=dtype, device=keys.device)  # K
        for counts, where in ((term.same_rank, is_same_rank), (term.other_ranks, ~is_same_rank)):
            for version, count in counts.items():
                times += count * (where & _is_version(key_codes, columns, version))
        contrast = (same_sample & is_positive)[is_query].to(dtype)
        weight = times * crosses[is_query]
        rows = softmax(logits[is_query], contrast, weight)
        loss = loss + term.share * fraction(*numerator_and_count(rows, LossOptions()))
    return loss


def _time_factors(plan: Plan) -> list[str]:
    """The plan's time factors in the authors' order.

    Raises:
        ValueError: a plan that is none of the nine hypotheses.
    """
    axes: list[str] = [name for name in TIME_FACTORS if name in plan.names]
    modality = plan.factor("modality")
    hypothesis = (
        len(axes) + 2 == len(plan.names)
        and all(plan.draws(name) == 2 for name in axes)
        and modality is not None
        and (modality.draws, modality.relation, modality.pairs) == (2, "invariant", "cross")
        and all(factor.contrast is None and factor.weight is None for factor in plan.factors)
        and plan.contrast_of_grid is None
        and plan.weight_of_grid is None
    )
    if not hypothesis:
        raise ValueError(
            'loss: objective = "reference" is what the authors\' code computes for their nine '
            "hypotheses: two modalities, invariant, in cross pairs, and time_reversal and "
            f"time_shift of 2 draws or neither; the plan has {', '.join(plan.names)}"
        )
    return axes


def _flipped(version: Version, axis: int) -> Version:
    return (*version[:axis], 1 - version[axis], *version[axis + 1 :])


def _is_version(codes: Tensor, columns: list[int], version: Version) -> Tensor:
    is_version = torch.ones(len(codes), dtype=torch.bool, device=codes.device)
    for column, draw in zip(columns, version, strict=True):
        is_version &= codes[:, column] == draw
    return is_version
