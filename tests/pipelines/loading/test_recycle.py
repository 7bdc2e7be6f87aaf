import gc
import pickle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.loading.recycle import Recycler


def address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_comes_back_when_the_last_view_or_tensor_is_gone() -> None:
    recycler = Recycler(limit=4)
    array = recycler.empty((4, 3, 5), np.uint8)
    first = address(array)
    row = array[2]
    tensor = torch.from_numpy(array.reshape(12, 5))
    part = tensor[3:5].view(-1)
    del array, tensor
    others = [recycler.empty((4, 3, 5), np.uint8)]
    del row
    others.append(recycler.empty((4, 3, 5), np.uint8))
    assert first not in [address(other) for other in others]
    part.fill_(7)
    del part
    gc.collect()
    again = recycler.empty((6, 10), np.uint8)  # another shape of the same size
    assert address(again) == first
    assert again.flags.writeable
    assert again.flags.c_contiguous


def test_what_is_held_is_never_handed_out_again() -> None:
    recycler = Recycler(limit=2)
    held: list[tuple[int, torch.Tensor]] = []
    for number in range(20):
        tensor = torch.from_numpy(recycler.empty((8, 16), np.float32))
        tensor.fill_(number)
        if number % 3 == 0:
            held.append((number, tensor))
    for number, tensor in held:
        assert (tensor == number).all()


def test_a_copy_starts_with_nothing() -> None:
    recycler = Recycler(limit=2)
    recycler.empty((3,), np.uint8)
    assert pickle.loads(pickle.dumps(recycler)).empty((3,), np.uint8).shape == (3,)


def test_only_so_much_is_kept() -> None:
    recycler = Recycler(limit=2)
    arrays = [recycler.empty((100 + i,), np.uint8) for i in range(5)]
    del arrays
    recycler.empty((1,), np.uint8)
    assert len(recycler._free) == 2
