"""One rank's failure, as the others and the process that started them see it, in words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch.multiprocessing.spawn import ProcessRaisedException

from tools.training.finite import TrainingError

#: An error of ours in the traceback of a forked rank, which is text: its last line or lines.
_OURS = re.compile(r"^(?:shards|pipelines|models|tools)\.[\w.]+Error: (.+)\Z", re.M | re.S)
_TIMEOUT = re.compile(r"timed out|timeout", re.I)
_GONE = re.compile(r"connection (?:closed by peer|reset|refused)|broken pipe", re.I)


@contextmanager
def rank_errors_explained(timeout_seconds: float) -> Iterator[None]:
    """Turn the errors of collectives and of forked ranks into ones that say what to do.

    Args:
        timeout_seconds: `trainer.rank_timeout_seconds`.

    Raises:
        TrainingError: a rank hangs, has ended, or raised an error of ours.
    """
    try:
        yield
    except (RuntimeError, ProcessRaisedException) as error:
        text = str(error)
        if isinstance(error, ProcessRaisedException) and (ours := _OURS.search(text)):
            raise TrainingError(ours.group(1).strip()) from error
        if "torch/distributed" not in _places(error) + text:
            raise
        if _TIMEOUT.search(text):
            raise TrainingError(
                f"a rank did not answer for {timeout_seconds:g} s (trainer.rank_timeout_seconds): "
                "it hangs, or takes much longer for a step than the others. All ranks end; "
                "--resume goes on from the last checkpoint, --set data.isolate=true keeps a "
                "decoder that hangs from holding a rank up"
            ) from error
        if _GONE.search(text):
            raise TrainingError(
                "a rank has ended, so that the others cannot go on: its own message is above, or "
                "it was killed. --resume goes on from the last checkpoint"
            ) from error
        raise


def _places(error: BaseException) -> str:
    """The files through which an error came."""
    places, trace = [], error.__traceback__
    while trace is not None:
        places.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    return "\n".join(places)
