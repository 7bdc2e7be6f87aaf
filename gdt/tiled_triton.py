"""The tiled softmax loss as Triton kernels: a tile lives in a GPU's registers, never in its memory.

Same sums as `tile_objectives.Softmax` over the same order of rows. A program owns a block of rows
(or of columns) and goes over all blocks of the other side; blocks that w empties are skipped by the
places and samples that they span. (`while` and not `for`: Triton's interpreter cannot count a
`for` over a number that a kernel is given under numpy 2.4.)

Compiled for compute capabilities 8.0 and 9.0 and run in Triton's interpreter, but not yet timed on
a GPU: `plan_loss` takes it where it is asked to (`tiled = "triton"`), and torch's tiles otherwise.

Legend: Q queries, K keys, D embedding, G transformations of one sample.
"""

# mypy: disable-error-code="import-untyped,no-untyped-def,untyped-decorator"

from typing import Any, Final, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from gdt.tiles import Tiles

__all__ = ["softmax_rows"]

_BLOCK: Final = 64  # rows of a program, and of what it meets at a time
_CHUNK: Final = 32  # entries of D that are multiplied at a time
_OUTPUT: Final = 128  # entries of D that one program of the backward pass sums
_WARPS: Final = 8  # with these sizes next to nothing spills out of registers


class _Side(NamedTuple):
    """Embeddings and codes in the tiles' order, and what each block of them spans."""

    values: Tensor  # N × D
    samples: Tensor  # N
    places: Tensor  # N, int32
    spans: Tensor  # blocks × 4: first and last sample, lowest and highest place


def softmax_rows(queries: Tensor, keys: Tensor, tiles: Tiles) -> tuple[Tensor, Tensor]:
    """Each row's Σ c·w·(lse − s), and its Σ c·w, in the order of the queries.

    Args:
        queries: float32 [Q, D], divided by the temperature.
        keys: float32 [K, D].
        tiles: give order, codes and tables.
    """
    losses, positives = _SoftmaxRows.apply(queries, keys, tiles)  # type: ignore[no-untyped-call]
    return losses, positives


class _SoftmaxRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, tiles: Tiles) -> tuple[Tensor, Tensor]:
        rows = _side(queries, tiles.row_order, *tiles.row_codes)
        columns = _side(keys, tiles.column_order, *tiles.column_codes)
        num_rows = len(queries)
        lse, pulled, positives = (queries.new_zeros(num_rows) for _ in range(3))
        if num_rows and len(keys):
            _forward[(triton.cdiv(num_rows, _BLOCK),)](
                *rows, *columns, *tiles.tables, lse, pulled, positives, num_rows, len(keys),
                *_sizes(queries, tiles), num_warps=_WARPS,
            )  # fmt: skip
        lse.masked_fill_(positives == 0, 0)
        ctx.save_for_backward(*rows, *columns, lse, positives)
        ctx.tiles = tiles
        losses = torch.empty_like(lse).index_copy_(0, tiles.row_order, positives * lse - pulled)
        unsorted = torch.empty_like(lse).index_copy_(0, tiles.row_order, positives)
        ctx.mark_non_differentiable(unsorted)
        return losses, unsorted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        saved, tiles = ctx.saved_tensors, ctx.tiles
        rows, columns, (lse, positives) = _Side(*saved[:4]), _Side(*saved[4:8]), saved[8:]
        scale = scale[tiles.row_order].contiguous()
        statistics = lse, positives, scale
        found: list[Tensor | None] = []
        for is_query, own, other, order in (
            (True, rows, columns, tiles.row_order),
            (False, columns, rows, tiles.column_order),
        ):
            if not ctx.needs_input_grad[0 if is_query else 1]:
                found.append(None)
                continue
            gradient = torch.zeros_like(own.values)
            if len(own.values) and len(other.values):
                grid = triton.cdiv(len(gradient), _BLOCK), triton.cdiv(gradient.shape[1], _OUTPUT)
                _backward[grid](
                    *own, *other, *tiles.tables, *statistics, gradient,
                    len(own.values), len(other.values), *_sizes(gradient, tiles), _OUTPUT, is_query,
                    num_warps=_WARPS,
                )  # fmt: skip
            found.append(torch.empty_like(gradient).index_copy_(0, order, gradient))
        return found[0], found[1], None


def _side(values: Tensor, order: Tensor, samples: Tensor, places: Tensor) -> _Side:
    blocks = -len(order) % _BLOCK
    spans = []
    for codes in (samples, places):
        # the last code once more fills the last block without widening what it spans
        filled = torch.cat([codes, codes[-1:].expand(blocks)]).view(-1, _BLOCK)
        spans += [filled.amin(1), filled.amax(1)] if len(codes) else [codes, codes]
    return _Side(
        values[order].contiguous(),
        samples.contiguous(),
        places.int().contiguous(),
        torch.stack(spans, dim=1).contiguous(),
    )


def _sizes(values: Tensor, tiles: Tiles) -> tuple[int, int, int, int]:
    """D, G, and the constants that the kernels are compiled for."""
    return values.shape[1], len(tiles.tables[0]), _CHUNK, _BLOCK


@triton.jit
def _rows(samples, places, block, count, size: tl.constexpr):
    """A block of a side: which rows, whether they are there, samples and places, [size] each."""
    rows = block * size + tl.arange(0, size)
    there = rows < count
    sample = tl.load(samples + rows, mask=there, other=0)
    return rows, there, sample, tl.load(places + rows, mask=there, other=0)


@triton.jit
def _part(values, rows, there, start, dim, width: tl.constexpr):
    """Entries [start, start + width) of D of some rows, 0 beyond: [size, width]."""
    columns = start + tl.arange(0, width)
    pointers = values + rows.to(tl.int64)[:, None] * dim + columns[None, :]
    return tl.load(pointers, mask=there[:, None] & (columns < dim)[None, :], other=0.0)


@triton.jit
def _logits(
    queries, rows, there, keys, k_rows, k_there, dim, chunk: tl.constexpr, size: tl.constexpr
):
    """⟨query, key⟩ of a tile, [size, size]."""
    summed = tl.zeros([size, size], tl.float32)
    start = 0
    while start < dim:
        query = _part(queries, rows, there, start, dim, chunk)
        key = _part(keys, k_rows, k_there, start, dim, chunk)
        summed += tl.dot(query, tl.trans(key), input_precision="tf32x3")
        start += chunk
    return summed


@triton.jit
def _is_live(own_spans, block, other_spans, other, w_within, w_between, grid):
    """Whether two blocks may hold a pair that weighs; queries first."""
    first, last = tl.load(own_spans + block * 4), tl.load(own_spans + block * 4 + 1)
    lowest, highest = tl.load(own_spans + block * 4 + 2), tl.load(own_spans + block * 4 + 3)
    k_first, k_last = tl.load(other_spans + other * 4), tl.load(other_spans + other * 4 + 1)
    k_lowest, k_highest = tl.load(other_spans + other * 4 + 2), tl.load(other_spans + other * 4 + 3)
    is_single = (lowest == highest) & (k_lowest == k_highest)
    may_meet = (first <= k_last) & (k_first <= last)
    between = tl.load(w_between + lowest * grid + k_lowest)
    within = tl.load(w_within + lowest * grid + k_lowest)
    return (is_single == 0) | (between > 0) | (may_meet & (within > 0))


@triton.jit
def _relations(
    samples, places, there, k_samples, k_places, k_there,
    c_within, c_between, w_within, w_between, grid,
):  # fmt: skip
    """Of a tile, c and w, [q, k] each; w is 0 where there is no row."""
    entry = places[:, None] * grid + k_places[None, :]
    is_same = samples[:, None] == k_samples[None, :]
    contrast = tl.where(is_same, tl.load(c_within + entry), tl.load(c_between + entry))
    weight = tl.where(is_same, tl.load(w_within + entry), tl.load(w_between + entry))
    return contrast, tl.where(there[:, None] & k_there[None, :], weight, 0.0)


@triton.jit
def _forward(
    queries, q_samples, q_places, q_spans, keys, k_samples, k_places, k_spans,
    c_within, c_between, w_within, w_between, lse, pulled, positives, num_queries, num_keys,
    dim, grid, chunk: tl.constexpr, size: tl.constexpr,
):  # fmt: skip
    """One block of queries against all keys: lse, Σ p·s, Σ p."""
    block = tl.program_id(0)
    rows, there, sample, place = _rows(q_samples, q_places, block, num_queries, size)
    top = tl.full([size], -1e30, tl.float32)
    total = tl.zeros([size], tl.float32)
    pull = tl.zeros([size], tl.float32)
    positive = tl.zeros([size], tl.float32)
    other = 0
    while other < tl.cdiv(num_keys, size):
        if _is_live(q_spans, block, k_spans, other, w_within, w_between, grid):
            k_rows, k_there, k_sample, k_place = _rows(k_samples, k_places, other, num_keys, size)
            contrast, weight = _relations(
                sample, place, there, k_sample, k_place, k_there,
                c_within, c_between, w_within, w_between, grid,
            )  # fmt: skip
            logits = _logits(queries, rows, there, keys, k_rows, k_there, dim, chunk, size)
            pull += tl.sum(contrast * weight * logits, 1)
            positive += tl.sum(contrast * weight, 1)
            weighed = logits + tl.log(weight)
            higher = tl.maximum(top, tl.max(weighed, 1))
            total = total * tl.exp(top - higher) + tl.sum(tl.exp(weighed - higher[:, None]), 1)
            top = higher
        other += 1
    tl.store(lse + rows, top + tl.log(total), mask=there)
    tl.store(pulled + rows, pull, mask=there)
    tl.store(positives + rows, positive, mask=there)


@triton.jit
def _backward(
    own, own_samples, own_places, own_spans, others, other_samples, other_places, other_spans,
    c_within, c_between, w_within, w_between, lse, positives, scale, gradient, num_own, num_others,
    dim, grid, chunk: tl.constexpr, size: tl.constexpr, output: tl.constexpr,
    is_query: tl.constexpr,
):  # fmt: skip
    """One block of queries (or keys) against all of the other side: a part of its gradient."""
    block, start = tl.program_id(0), tl.program_id(1) * output
    rows, there, sample, place = _rows(own_samples, own_places, block, num_own, size)
    summed = tl.zeros([size, output], tl.float32)
    other = 0
    while other < tl.cdiv(num_others, size):
        if is_query:
            live = _is_live(own_spans, block, other_spans, other, w_within, w_between, grid)
        else:
            live = _is_live(other_spans, other, own_spans, block, w_within, w_between, grid)
        if live:
            o_rows, o_there, o_sample, o_place = _rows(
                other_samples, other_places, other, num_others, size
            )
            if is_query:
                q_rows, q_there = rows, there
                contrast, weight = _relations(
                    sample, place, there, o_sample, o_place, o_there,
                    c_within, c_between, w_within, w_between, grid,
                )  # fmt: skip
                logits = _logits(own, rows, there, others, o_rows, o_there, dim, chunk, size)
            else:
                q_rows, q_there = o_rows, o_there
                contrast, weight = _relations(
                    o_sample, o_place, o_there, sample, place, there,
                    c_within, c_between, w_within, w_between, grid,
                )  # fmt: skip
                logits = _logits(others, o_rows, o_there, own, rows, there, dim, chunk, size)
            of_row = tl.load(scale + q_rows, mask=q_there, other=0.0)
            all_positives = tl.load(positives + q_rows, mask=q_there, other=0.0)
            row_lse = tl.load(lse + q_rows, mask=q_there, other=0.0)
            share = tl.exp(logits + tl.log(weight) - row_lse[:, None])
            of_logits = (share * all_positives[:, None] - contrast * weight) * of_row[:, None]
            part = _part(others, o_rows, o_there, start, dim, output)
            if is_query:
                summed += tl.dot(of_logits, part, input_precision="tf32x3")
            else:
                summed += tl.dot(tl.trans(of_logits), part, input_precision="tf32x3")
        other += 1
    columns = start + tl.arange(0, output)
    pointers = gradient + rows.to(tl.int64)[:, None] * dim + columns[None, :]
    tl.store(pointers, summed, mask=there[:, None] & (columns < dim)[None, :])
