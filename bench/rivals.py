"""The video rivals: VP8, VP9, x264, x265 and SVT-AV1 through PyAV, with what they cost on the wire.

`encode` gives the decoded pictures with the rates. A rival does not always meet the rate that it is asked for:
encoders have floors, so `RivalClip` says what was reached.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, cast

import av
import cv2
import msgpack
import numpy as np
from numpy.typing import NDArray

from mien.bench.rivals_rtp import wire_bytes
from mien.bench.rivals_settings import (
    DECODERS,
    QUALITY_RANGE,
    RIVALS,
    Effort,
    Rival,
    best_options,
    realtime_options,
)
from mien.protocol.errors import MienError

__all__ = ["RIVALS", "Effort", "Rival", "RivalClip", "encode", "fitted", "missing"]

Picture = NDArray[np.uint8]  # [height, width, 3], RGB

NEAR: Final = 0.15  # of the target: a rate within it counts as met
FINEST_LOG: Final = (
    4.0  # of rate over target at the finest quantiser, before it is known: it only starts the search
)
_CACHE_VERSION: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class RivalClip:
    """What came out. `frames` are RGB [size, size, 3], one for each that went in; `packets` coded sizes in bytes.

    `payload_kbps` counts the encoder's bytes, `wire_kbps` what RTP carries. `target_kbps` was asked for.
    """

    payload_kbps: float
    wire_kbps: float
    frames: list[Picture]
    packets: tuple[int, ...]
    target_kbps: float

    @property
    def note(self) -> str:
        """Says by how much the target was missed; empty where it was not."""
        miss = self.payload_kbps / self.target_kbps - 1
        return f"asked for {self.target_kbps:g}, got {self.payload_kbps:.1f} kbps" if abs(miss) > NEAR else ""


def missing(rival: Rival) -> str:
    """Say what this machine's PyAV lacks for `rival`; empty where it has all."""
    for name, mode in ((rival.codec, "w"), (DECODERS[rival.codec], "r")):
        try:
            av.Codec(name, cast(Any, mode))
        except av.codec.codec.UnknownCodecError:
            return f"this PyAV ({av.__version__}) has no {name}"
    return ""


def fitted(frames: Sequence[Picture], size: int) -> list[Picture]:
    """Return the frames at a square size (their aspect gives way, as where pictures are compared)."""
    return [
        f if f.shape[:2] == (size, size) else np.asarray(cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
        for f in frames
    ]  # fmt: skip


def encode(
    frames: Sequence[Picture],
    rate: Fraction,
    rival: Rival,
    target_kbps: float,
    *,
    cache: Path | None = None,
) -> RivalClip:
    """Code `frames` at `rate` frames per second with `rival`, and decode them again.

    Frames of another size are scaled first. `cache` is a folder that keeps coded packets by the pictures' hash and
    the settings. Raises `MienError` where PyAV has no such encoder, or it ignores an option.
    """
    if not frames or target_kbps <= 0 or rate <= 0:
        raise ValueError(f"{len(frames)} frames at {rate} Hz and {target_kbps} kbps: nothing to code")
    if lack := missing(rival):
        raise MienError(lack)
    clip = _Clip(fitted(frames, rival.size), rate, rival, cache)
    if rival.effort == "realtime":
        packets = clip.coded(realtime_options(rival.codec, target_kbps))
    else:
        packets = _searched(clip, target_kbps)
    wire = sum(wire_bytes(rival.codec, p) for p in packets)
    return RivalClip(
        payload_kbps=clip.kbps(packets),
        wire_kbps=8 * wire / float(len(frames) / rate) / 1000,
        frames=_decoded(rival, packets, len(frames)),
        packets=tuple(map(len, packets)),
        target_kbps=target_kbps,
    )


class _Clip:
    """Pictures of one size, and what was coded of them already."""

    def __init__(self, frames: list[Picture], rate: Fraction, rival: Rival, cache: Path | None) -> None:
        self._frames, self._rate, self._rival, self._cache = frames, rate, rival, cache
        digest = hashlib.sha256(f"{rate} {len(frames)} {frames[0].shape}".encode())
        for frame in frames if cache else ():
            digest.update(frame.tobytes())
        self._digest = digest.digest()

    @property
    def codec(self) -> str:
        """FFmpeg's name of the encoder."""
        return self._rival.codec

    def kbps(self, packets: Sequence[bytes]) -> float:
        """Return the payload's rate."""
        return 8 * sum(map(len, packets)) / float(len(self._frames) / self._rate) / 1000

    def coded(self, options: dict[str, str]) -> list[bytes]:
        """Return the packets at these options."""
        if self._cache is None:
            return _coded(self._frames, self._rate, self._rival, options)
        settings = json.dumps([_CACHE_VERSION, av.__version__, self._rival.codec, sorted(options.items())])
        name = hashlib.sha256(self._digest + settings.encode()).hexdigest()[:32]
        path = self._cache / f"{name}.packets"
        kept = _read(path, len(self._frames))
        if kept is None:
            kept = _coded(self._frames, self._rate, self._rival, options)
            self._cache.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_bytes(msgpack.packb(kept))
            partial.replace(path)
        return kept


def _read(path: Path, frames: int) -> list[bytes] | None:
    """Return kept packets; `None` where there are none, or a run that was stopped left half of them."""
    try:
        kept = msgpack.unpackb(path.read_bytes())
    except (OSError, ValueError, msgpack.UnpackException):
        return None
    ok = isinstance(kept, list) and 0 < len(kept) <= 2 * frames and all(isinstance(p, bytes) for p in kept)
    return kept if ok else None


def _searched(clip: _Clip, target_kbps: float) -> list[bytes]:
    """Return the best constant quality whose rate does not pass the target; the coarsest where all do."""
    finest, coarsest = QUALITY_RANGE[clip.codec]
    packets = clip.coded(best_options(clip.codec, coarsest))
    fits, fits_log = coarsest, math.log(clip.kbps(packets) / target_kbps)
    # The logarithm of the rate falls about evenly with the quantiser, so a straight line finds it in few steps.
    below, below_log = finest - 1, FINEST_LOG
    while fits_log < 0 and fits - below > 1:
        share = fits_log / (fits_log - below_log)
        quality = min(max(round(fits - share * (fits - below)), below + 1), fits - 1)
        tried = clip.coded(best_options(clip.codec, quality))
        excess = math.log(clip.kbps(tried) / target_kbps)
        if excess <= 0:
            packets, fits, fits_log = tried, quality, excess
            if excess > -NEAR / 2:
                break
        else:
            below, below_log = quality, excess
    return packets


def _coded(frames: Sequence[Picture], rate: Fraction, rival: Rival, options: dict[str, str]) -> list[bytes]:
    os.environ.setdefault("SVT_LOG", "1")  # errors only; the library prints around FFmpeg's logging
    encoder = cast(av.VideoCodecContext, av.CodecContext.create(rival.codec, "w"))
    encoder.width = encoder.height = rival.size
    encoder.pix_fmt = "yuv420p"
    encoder.time_base, encoder.framerate = 1 / rate, rate
    encoder.thread_count = 1
    encoder.options = dict(options)
    encoder.open()
    if encoder.options:  # what the encoder did not take
        raise MienError(f"{rival.codec} knows no option {', '.join(encoder.options)}")
    packets = [bytes(p) for frame in _pictures(frames, rate) for p in encoder.encode(frame)]
    return packets + [bytes(p) for p in encoder.encode(None)]


def _pictures(frames: Sequence[Picture], rate: Fraction) -> Iterator[av.VideoFrame]:
    for number, rgb in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, 1 / rate
        yield frame


def _decoded(rival: Rival, packets: Sequence[bytes], count: int) -> list[Picture]:
    decoder = cast(av.VideoCodecContext, av.CodecContext.create(DECODERS[rival.codec], "r"))
    decoder.thread_count = 1
    decoded = [f for p in packets for f in decoder.decode(av.Packet(p))] + decoder.decode(None)
    pictures = [np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in decoded]
    if len(pictures) != count:
        raise MienError(f"{rival.name} gave {len(pictures)} pictures for {count}")
    return pictures
