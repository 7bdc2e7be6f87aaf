"""What GPU decoders share: the GPU, its driver's decoder, one CUDA stream per thread.

A new thread starts out on GPU 0, whichever one its process was given; so a device is named by its
number as soon as a decoder is made, and threads are put on it before they touch CUDA.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pipelines.decoding.backends.backend import Backend, FrameRequest

__all__ = ["current_gpu", "decode_on_cpu", "own_stream", "require_nvcuvid", "use_device"]

_NVCUVID = ("libnvcuvid.so", "libnvcuvid.so.1")
_of_thread = threading.local()


def current_gpu() -> str:
    """The GPU of this process, "cuda:2" say; what `torch.cuda.set_device` made it."""
    return f"cuda:{torch.cuda.current_device()}"


def use_device(device: str) -> None:
    """Put a new thread on its device: once, since going back to GPU 0 would take memory there."""
    if device != "cpu":
        torch.cuda.set_device(device)


def require_nvcuvid() -> None:
    """See that the driver brought its video decoder along.

    Raises:
        ImportError: it did not, as in containers that ask for "compute" alone; says what to do.
    """
    for name in _NVCUVID:
        try:
            ctypes.CDLL(name)
        except OSError as error:
            missing = str(error)
        else:
            return
    raise ImportError(
        f"NVDEC's library {_NVCUVID[-1]} comes with NVIDIA's driver and is not here: in a "
        "container set NVIDIA_DRIVER_CAPABILITIES=compute,utility,video; else install the "
        f"driver's decoding libraries (Debian: libnvcuvid1). What went wrong: {missing}"
    )


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Work on a stream of this thread's own, beside a training step; at the end wait for it.

    So what was written inside may be read by any stream, and freed. Does nothing on a CPU.
    """
    if device.type == "cpu":
        yield
        return
    stream = getattr(_of_thread, "stream", None)
    if stream is None or stream.device != device:
        stream = _of_thread.stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        try:
            yield
        finally:
            stream.synchronize()


def decode_on_cpu(decoder: Backend, request: FrameRequest, out: Any) -> None:
    """`decoder.frames` of a CPU's decoder, to wherever `out` is: an array, or a tensor."""
    if not isinstance(out, Tensor):
        decoder.frames(request, out)
        return
    with own_stream(out.device):
        on_host = torch.empty(out.shape, dtype=torch.uint8, pin_memory=out.is_cuda)
        decoder.frames(request, on_host.numpy())
        out.copy_(on_host, non_blocking=True)
