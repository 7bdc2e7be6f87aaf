"""Time each stage of the stream, by wrapping its functions while it is measured.

Nothing is timed otherwise: the stream has no clock in it. Times are exclusive (a stage that calls
another is not charged for it) and taken on each thread's own CPU clock beside the wall's.
"""

import threading
import time
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, Final

__all__ = ["STAGES", "StageClock"]

#: Stage → the functions that it consists of, as "module:name" or "module:Class.name".
STAGES: Final[dict[str, tuple[str, ...]]] = {
    "order and draws": (
        "pipelines.sampling.order:Order.samples",
        "pipelines.loading.stream:uniform",
    ),
    "index lookup": (
        "shards:Dataset.sample",
        "pipelines.decoding.segment_reader:SegmentReader.starts",
        "pipelines.decoding.segment_reader:frames_on_screen",
    ),
    "read and checksum": (
        "shards:Dataset.reader",
        "pipelines.decoding.backends.av:read_packets",
        "pipelines.decoding.backends.feed:read_packets",
    ),
    "video decode": (
        "pipelines.decoding.backends.av:PacketDecoder.frames",
        "pipelines.decoding.backends.torchcodec:TorchcodecDecoder.frames",
        "pipelines.decoding.backends.decord:DecordDecoder.frames",
    ),
    "audio decode, resample": ("pipelines.decoding.segment_reader:read_audio",),
    "collate": (
        "pipelines.loading.loader:Loader._start",
        "pipelines.loading.loader:Loader._collate",
    ),
    "RGB, crop, augment": ("pipelines.device.transform:DeviceTransform._frames",),
    "log-mel": ("pipelines.device.transform:DeviceTransform._audio",),
    "codes": ("pipelines.device.transform:DeviceTransform.__call__",),
}


class StageClock:
    """Measures while it is entered; not to be entered twice at a time.

    Attributes:
        cpu_seconds, wall_seconds: stage → exclusive time since it was made or reset, all threads
            together.
    """

    def __init__(self) -> None:
        self.reset()
        self._lock = threading.Lock()
        self._of_thread = threading.local()
        self._wrapped: list[tuple[Any, str, Any]] = []

    def reset(self) -> None:
        """Begin at zero again."""
        self.cpu_seconds = dict.fromkeys(STAGES, 0.0)
        self.wall_seconds = dict.fromkeys(STAGES, 0.0)

    def __enter__(self) -> "StageClock":
        for stage, places in STAGES.items():
            for place in places:
                module, _, names = place.partition(":")
                *owners, name = names.split(".")
                owner: Any = import_module(module)
                for part in owners:
                    owner = getattr(owner, part)
                function = getattr(owner, name)
                self._wrapped.append((owner, name, function))
                setattr(owner, name, self._timed(stage, function))
        return self

    def __exit__(self, *_: object) -> None:
        while self._wrapped:
            owner, name, function = self._wrapped.pop()
            setattr(owner, name, function)

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            outer = getattr(self._of_thread, "inside", (0.0, 0.0))
            self._of_thread.inside = (0.0, 0.0)
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
                inside = self._of_thread.inside
                self._of_thread.inside = (outer[0] + cpu, outer[1] + wall)
                with self._lock:
                    self.cpu_seconds[stage] += cpu - inside[0]
                    self.wall_seconds[stage] += wall - inside[1]

        return timed
