"""What each video rival's encoder is told: real-time as a call would, and best effort as a file would.

Real-time: one key frame, no B-frames, no lookahead, constant rate with a buffer of two seconds, every frame
out before the next comes in. Best effort: slow presets, B-frames, lookahead and constant quality; the quality that
meets the rate is searched, which a second pass would only come near.
All run on one thread, so that the same pictures give the same bytes.
"""

from dataclasses import dataclass
from typing import Final, Literal

Effort = Literal["realtime", "best"]

CODECS: Final = ("libvpx", "libvpx-vp9", "libx264", "libx265", "libsvtav1")
SIZES_PX: Final = (256, 512)
NO_MORE_KEY_FRAMES: Final = "9999"
_AMPLE_BPS: Final = "20000000"  # a limit that constant quality never meets
# x265's own pool of threads would make its output depend on the machine.
_X265: Final = "log-level=none:pools=none:frame-threads=1"
_SVT: Final = "lp=1"

NAMES: Final = {
    "libvpx": "VP8",
    "libvpx-vp9": "VP9",
    "libx264": "x264",
    "libx265": "x265",
    "libsvtav1": "SVT-AV1",
}
DECODERS: Final = {
    "libvpx": "vp8",
    "libvpx-vp9": "vp9",
    "libx264": "h264",
    "libx265": "hevc",
    "libsvtav1": "libdav1d",
}
# The quantiser's range, finest first, for constant quality.
QUALITY_RANGE: Final = {
    "libvpx": (4, 63),
    "libvpx-vp9": (4, 63),
    "libx264": (1, 51),
    "libx265": (1, 51),
    "libsvtav1": (1, 63),
}


@dataclass(frozen=True, slots=True)
class Rival:
    """A video encoder at one square picture size. `codec` is FFmpeg's name of it."""

    name: str
    codec: str
    size: int
    effort: Effort

    @property
    def family(self) -> str:
        """The encoder as people call it, without size and effort."""
        return NAMES[self.codec]


RIVALS: Final = tuple(
    Rival(f"{NAMES[codec]} {size}" + (" best" if effort == "best" else ""), codec, size, effort)
    for effort in ("realtime", "best")
    for codec in CODECS
    for size in SIZES_PX
)


def realtime_options(codec: str, target_kbps: float) -> dict[str, str]:
    """Return the encoder's options at a rate."""
    bps, buffer = str(round(1000 * target_kbps)), str(round(2000 * target_kbps))
    common = {"b": bps, "g": NO_MORE_KEY_FRAMES}
    capped = {"maxrate": bps, "bufsize": buffer}
    vpx = {"deadline": "realtime", "lag-in-frames": "0", "minrate": bps, "qmin": "2", "qmax": "63"}
    if codec == "libvpx":
        return common | capped | vpx | {"cpu-used": "4", "error-resilient": "1"}
    if codec == "libvpx-vp9":
        return common | capped | vpx | {"cpu-used": "6"}
    if codec == "libx264":
        return common | capped | {"preset": "medium", "tune": "zerolatency"}
    if codec == "libx265":
        return common | capped | {"preset": "medium", "tune": "zerolatency", "x265-params": _X265}
    if codec == "libsvtav1":
        return common | {"preset": "9", "svtav1-params": f"rc=2:pred-struct=1:tune=1:{_SVT}"}
    raise ValueError(f"no settings for {codec}")


def best_options(codec: str, quality: int) -> dict[str, str]:
    """Return the encoder's options at a quantiser of `QUALITY_RANGE`."""
    common = {"crf": str(quality), "g": NO_MORE_KEY_FRAMES}
    vpx = {"deadline": "good", "auto-alt-ref": "1", "lag-in-frames": "25", "arnr-maxframes": "7"}
    if codec == "libvpx":  # its constant quality has a floor of some hundred kbps; fixed quantisers have not
        fixed = {"qmin": str(quality), "qmax": str(quality), "b": _AMPLE_BPS}
        return {"g": NO_MORE_KEY_FRAMES} | vpx | fixed | {"cpu-used": "1"}
    if codec == "libvpx-vp9":
        return common | vpx | {"b": "0", "cpu-used": "1"}
    if codec == "libx264":
        return common | {"preset": "veryslow"}
    if codec == "libx265":
        return common | {"preset": "slow", "x265-params": _X265}
    if codec == "libsvtav1":
        return common | {"preset": "4", "svtav1-params": _SVT}
    raise ValueError(f"no settings for {codec}")
