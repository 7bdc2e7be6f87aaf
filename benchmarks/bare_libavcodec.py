"""libavcodec itself, without PyAV around it: the floor that a packet-fed decoder can reach.

PyAV's wheels bring FFmpeg's shared libraries; ctypes calls four of their functions for each packet.
Frames are decoded and dropped: nothing is copied, read or checked. FFmpeg's ABI is that of the PyAV
in use; the few struct fields below have kept their places since FFmpeg 5.
"""

import ctypes
from pathlib import Path
from typing import Any

import av

_PATHS = (Path(av.__file__).parents[1] / "av.libs", Path(av.__file__).parent / ".dylibs")


class _Packet(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("pts", ctypes.c_int64),
        ("dts", ctypes.c_int64),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_int),
    ]


class _Parameters(ctypes.Structure):
    _fields_ = [
        ("codec_type", ctypes.c_int),
        ("codec_id", ctypes.c_int),
        ("codec_tag", ctypes.c_uint32),
        ("extradata", ctypes.c_void_p),
        ("extradata_size", ctypes.c_int),
    ]


def _library(name: str) -> Any:
    found = [path for folder in _PATHS for path in sorted(folder.glob(f"lib{name}*"))]
    if not found:
        raise SystemExit(
            f"PyAV at {_PATHS[0].parent} brings no lib{name}: it was built from source"
        )
    return ctypes.CDLL(str(found[0]))


class BareDecoder:
    """One H.264 context, one thread."""

    def __init__(self, extradata: bytes) -> None:
        self._codec, self._util = _library("avcodec"), _library("avutil")
        pointer = ctypes.c_void_p
        for library, name, result, arguments in (
            (self._codec, "avcodec_find_decoder_by_name", pointer, [ctypes.c_char_p]),
            (self._codec, "avcodec_alloc_context3", pointer, [pointer]),
            (self._codec, "avcodec_parameters_alloc", pointer, []),
            (self._codec, "avcodec_parameters_to_context", ctypes.c_int, [pointer, pointer]),
            (self._codec, "avcodec_open2", ctypes.c_int, [pointer, pointer, pointer]),
            (self._codec, "avcodec_flush_buffers", None, [pointer]),
            (self._codec, "avcodec_send_packet", ctypes.c_int, [pointer, pointer]),
            (self._codec, "avcodec_receive_frame", ctypes.c_int, [pointer, pointer]),
            (self._codec, "av_packet_alloc", pointer, []),
            (self._codec, "av_new_packet", ctypes.c_int, [pointer, ctypes.c_int]),
            (self._util, "av_frame_alloc", pointer, []),
            (self._util, "av_mallocz", pointer, [ctypes.c_size_t]),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        codec = self._codec.avcodec_find_decoder_by_name(b"h264")
        self._context = self._codec.avcodec_alloc_context3(codec)
        allocated = self._codec.avcodec_parameters_alloc()
        parameters = _Parameters.from_address(allocated)
        parameters.codec_type, parameters.codec_id = 0, 27  # video, H.264
        parameters.extradata = self._util.av_mallocz(len(extradata) + 64)
        parameters.extradata_size = len(extradata)
        ctypes.memmove(parameters.extradata, extradata, len(extradata))
        if self._codec.avcodec_parameters_to_context(self._context, allocated) < 0:
            raise SystemExit("libavcodec did not take the codec header")
        if self._codec.avcodec_open2(self._context, codec, None) < 0:
            raise SystemExit("libavcodec did not open its H.264 decoder")
        self._frame = self._util.av_frame_alloc()

    def packet(self, body: bytes) -> int:
        """A packet made in advance: its address."""
        address = int(self._codec.av_packet_alloc())
        self._codec.av_new_packet(address, len(body))
        ctypes.memmove(_Packet.from_address(address).data, body, len(body))
        return address

    def decode(self, packets: list[int]) -> int:
        """Flush, feed the packets, drop the frames; returns how many came out."""
        send, receive = self._codec.avcodec_send_packet, self._codec.avcodec_receive_frame
        context, frame, count = self._context, self._frame, 0
        self._codec.avcodec_flush_buffers(context)
        for packet in packets:
            send(context, packet)
            while receive(context, frame) == 0:
                count += 1
        return count
