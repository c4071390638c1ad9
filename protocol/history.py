"""The history extension: a coarse repeat of earlier frames inside a message, for links that lose packets.

A lost message takes a fifth of a second with it. Where the receiver reports loss, each message also carries some
frames of the one before it, at a coarser step: the headers are paid already, so this costs about 0.3 kbps, and as
much playout delay as the repeat reaches back. The idea is Opus' deep redundancy (Valin, Bethune et al.: "Deep
REDundancy", 2022) with one rung.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from mien.protocol.errors import WireError
from mien.protocol.quantizer import STEPS, to_steps
from mien.protocol.rate_distortion import FrameChooser
from mien.protocol.residual_coder import decode_body, encode_body
from mien.protocol.state import FaceState
from mien.protocol.tables import Tables

HISTORY_STEP: Final = 6  # index of the step: 3.4 times that of quality normal
HISTORY_STRIDE: Final = 2  # every second frame: what lies between is interpolated
MAX_HISTORY_BYTES: Final = 253
MAX_HISTORY_FRAMES: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Frames before a message's first one, coarse. The data of an extension of type 5.

     0                        1       2
    +---+--------+-----------+-------+--------+------------------+
    | 0 | step   | frames -1 | reach | stride | range-coded body |   as a message's body; all frames tracked
    +---+--------+-----------+-------+--------+------------------+
     bit  3 bits   4 bits      u8      u8

    The frames lie on the ticks first_tick - reach, + stride, + 2 stride, ..., the last one before first_tick.
    `values` int16 [n, 36] are as a message's.
    """

    HEAD_BYTES: ClassVar[int] = 3
    step_index: int
    reach: int
    stride: int
    values: NDArray[np.int16]

    def __post_init__(self) -> None:
        count = len(self.values)
        if not 1 <= count <= MAX_HISTORY_FRAMES or not 0 <= self.step_index < len(STEPS):
            raise WireError(
                f"history of {count} frames at step {self.step_index}, expected 1 to 16 at 0 to 7"
            )
        if not 1 <= self.stride <= 255 or not (count - 1) * self.stride < self.reach <= 255:
            raise WireError(
                f"history of {count} frames reaches {self.reach} ticks back in strides of {self.stride}: "
                "its last frame must lie before the message"
            )

    @property
    def offsets(self) -> range:
        """The frames' ticks relative to the message's first tick: negative."""
        return range(-self.reach, -self.reach + len(self.values) * self.stride, self.stride)

    def serialize(self, tables: Tables) -> bytes:
        """Return the extension's data."""
        head = bytes([self.step_index << 4 | (len(self.values) - 1), self.reach, self.stride])
        return head + encode_body(self.values.tolist(), (True,) * len(self.values), self.step_index, tables)

    @classmethod
    def parse(cls, data: bytes, tables: Tables) -> Self:
        """Read an extension's data. Raises `WireError`."""
        if not cls.HEAD_BYTES <= len(data) <= MAX_HISTORY_BYTES:
            raise WireError(f"history is {len(data)} bytes, expected {cls.HEAD_BYTES} to {MAX_HISTORY_BYTES}")
        if data[0] & 0x80:
            raise WireError("spare bit of the history is 1, expected 0")
        step_index, count = data[0] >> 4, (data[0] & 15) + 1
        frames, tracked = decode_body(data[cls.HEAD_BYTES :], count, step_index, tables)
        if not all(tracked):
            raise WireError("history holds an untracked frame")
        return cls(step_index, data[1], data[2], np.array(frames, np.int16))


def repeat_coarsely(batch: Sequence[FaceState], rest_pose: Sequence[int], tables: Tables) -> History | None:
    """Return the history of the batch before a message, from its states; `None` where a frame has no face."""
    chosen = batch[::-1][::HISTORY_STRIDE][::-1]  # the last frame is always among them
    if not chosen or not all(state.tracked for state in chosen):
        return None
    chooser = FrameChooser(tables, HISTORY_STEP)
    values = [chooser.choose(to_steps(state, rest_pose, HISTORY_STEP)) for state in chosen]
    reach = (len(chosen) - 1) * HISTORY_STRIDE + 1
    return History(HISTORY_STEP, reach, HISTORY_STRIDE, np.array(values, np.int16))
