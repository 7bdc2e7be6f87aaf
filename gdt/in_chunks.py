"""Exact gradients of a large batch with the activations of a small one.

A contrastive loss needs the embeddings of all rows, but an encoder works on each row alone: so
chunks are embedded without keeping what the encoder's backward pass needs, the loss is taken of all
embeddings, and the backward pass embeds each chunk again, just before it is its turn. Source: Gao
et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (GradCache).

It costs a second forward pass of the encoders, and the memory of the inputs of all chunks, of their
embeddings and of one chunk's activations.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Chunk = TypeVar("Chunk")


def embed_in_chunks(
    module: nn.Module,
    chunks: Sequence[Chunk],
    embed: Callable[[Chunk], tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, Tensor]:
    """The embeddings and codes of all chunks, as `module` gives them for each.

        embeddings, codes = embed_in_chunks(towers, batches)
        plan_loss(plan, embeddings, codes, temperature).backward()

    leaves the gradients of one pass over all batches. Random steps (dropout) are the same in both
    passes, and buffers (running statistics) are moved once. Batch normalisation in training takes
    its statistics of a chunk, as it would of a rank's rows.

    Args:
        module: whose buffers are kept from moving twice; called with a chunk.
        chunks: whatever the module takes, a `Batch` say; at least one.
        embed: called with a chunk instead of the module, of which it is a method, say.

    Returns:
        float [N, D] and int64 [N, M], chunk by chunk.

    Raises:
        ValueError: no chunks.
    """
    if not chunks:
        raise ValueError("no chunks to embed: give at least one")
    call = module if embed is None else embed

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _buffers_kept(module)

    embedded = [
        checkpoint(call, chunk, use_reentrant=False, context_fn=contexts) for chunk in chunks
    ]
    embeddings, codes = zip(*embedded, strict=True)
    return torch.cat(embeddings), torch.cat(codes)


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Give a module its buffers back as they were before."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, values in before:
                buffer.copy_(values)
