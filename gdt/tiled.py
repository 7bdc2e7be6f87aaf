"""Row losses of a plan without the matrix of pairs: memory grows with N·D instead of N².

The forward pass goes over the tiles and keeps a few numbers a row; the backward pass computes each
tile anew and adds its share to the gradients. It costs one more matrix product than the dense loss
and saves every pass over an N × N matrix; on a CPU that makes it faster too (docs/gdt.md).

Legend: Q queries, K keys, D embedding, M factors; q, k the sides of a tile.
"""

from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gdt.loss_options import LossOptions
from gdt.objectives import RowLosses
from gdt.plan import Plan
from gdt.tile_objectives import TILE_OBJECTIVES, TileObjective
from gdt.tiles import Tiles

#: Sides of a tile: small enough for a CPU's cache, large enough to fill a GPU.
TILE_SIZE: Final = {"cpu": 512, "cuda": 8192}


def tiled_row_losses(
    plan: Plan,
    queries: Tensor,
    query_codes: Tensor,
    keys: Tensor,
    key_codes: Tensor,
    options: LossOptions,
    tile_size: int | None = None,
    *,
    triton: bool = False,
) -> RowLosses:
    """What `objectives.row_losses` gives for logits of queries @ keysᵀ and the plan's c and w.

    Args:
        plan: gives c and w.
        queries: float [Q, D], already divided by the temperature.
        query_codes: int64 [Q, M].
        keys: float [K, D].
        key_codes: int64 [K, M].
        options: which objective; not "reference".
        tile_size: most rows and columns of a tile; one that suits the device by default.
        triton: whether a Triton kernel does it: on a GPU, of float32, and the paper's softmax.

    Raises:
        ValueError: the kernel does not do what is asked.
    """
    if triton:
        return _by_triton(plan, queries, query_codes, keys, key_codes, options)
    size = tile_size or TILE_SIZE.get(queries.device.type, 4096)
    tiles = Tiles(plan, query_codes, key_codes, size, queries.dtype)
    kind = TILE_OBJECTIVES[options.objective, options.other_positives]
    return RowLosses(*_TiledRowLosses.apply(queries, keys, tiles, kind))  # type: ignore[no-untyped-call]


def _by_triton(
    plan: Plan,
    queries: Tensor,
    query_codes: Tensor,
    keys: Tensor,
    key_codes: Tensor,
    options: LossOptions,
) -> RowLosses:
    is_softmax = (options.objective, options.other_positives) == ("softmax", "in")
    if not is_softmax or queries.dtype != torch.float32:
        raise ValueError(
            'loss: tiled = "triton" is of the softmax with other positives in, in float32; got '
            f"{options} in {queries.dtype}; tiled = True does them all"
        )
    from gdt.tiled_triton import softmax_rows  # Triton comes with torch on Linux only

    tiles = Tiles(plan, query_codes, key_codes, TILE_SIZE["cuda"], queries.dtype)
    return RowLosses(*softmax_rows(queries, keys, tiles))


class _TiledRowLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, tiles: Tiles, kind: type[TileObjective]
    ) -> tuple[Tensor, Tensor]:
        queries, keys = queries[tiles.row_order], keys[tiles.column_order]
        objective = kind(len(queries), queries)
        for number, wants_all in enumerate(objective.passes):
            for tile in tiles:
                if wants_all or tile.contrast is not None:
                    logits = queries[tile.rows] @ keys[tile.columns].T  # q x k
                    objective.see(number, tile, logits)
        objective.finish()
        ctx.save_for_backward(queries, keys)
        ctx.tiles, ctx.objective = tiles, objective
        losses, positives = (
            torch.empty_like(values).index_copy_(0, tiles.row_order, values)
            for values in (objective.losses, objective.positives)
        )
        ctx.mark_non_differentiable(positives)
        return losses, positives

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, scale: Tensor, _: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        queries, keys = ctx.saved_tensors
        tiles, objective = ctx.tiles, ctx.objective
        scale = scale[tiles.row_order]
        wants_queries, wants_keys = ctx.needs_input_grad[:2]
        of_queries, of_keys = torch.zeros_like(queries), torch.zeros_like(keys)
        for tile in tiles:
            rows, columns = tile.rows, tile.columns
            logits = queries[rows] @ keys[columns].T  # q x k
            gradient = objective.gradient(tile, logits, scale)  # q x k
            if wants_queries:
                of_queries[rows].addmm_(gradient, keys[columns])
            if wants_keys:
                of_keys[columns].addmm_(gradient.T, queries[rows])
        of_queries = torch.empty_like(of_queries).index_copy_(0, tiles.row_order, of_queries)
        of_keys = torch.empty_like(of_keys).index_copy_(0, tiles.column_order, of_keys)
        return of_queries if wants_queries else None, of_keys if wants_keys else None, None, None
