"""The fallback ladder: decides, frame by frame, whether the other side sees video, the avatar or a still.

No I/O and no clock. **Nothing automatic shows more than the user chose to show**: video comes from the user's
`show`, or from lost tracking where the user allowed exactly that for this call (`allow_video`), and `hide`
takes both back. Several faces lead to the still, never to video: the second person allowed nothing.

    tracked, one face for `back_us` ----------------------------> AVATAR
    no face for `lost_us`, or no frame at all --- allowed ------> VIDEO
                                              \\- not allowed ---> STILL
    several faces for `several_us` -----------------------------> STILL
    show / hide ------------------------------------------------> VIDEO / as the face says
"""

from dataclasses import dataclass
from typing import Final

from mien.protocol.control import Rung, RungReason

STEADY_FRAMES: Final = 3  # a face in one frame of a dark picture is none
SLOW_FRAMES: Final = 3  # so many frames' time interrupt nothing, also where frames are rare


@dataclass(frozen=True, slots=True)
class LadderSettings:
    """Times in microseconds. What is shorter than `gap_us` interrupts nothing."""

    lost_us: int = 2_000_000
    back_us: int = 1_000_000  # from video to the avatar
    still_back_us: int = 300_000  # from the still to the avatar, which shows no more than before
    several_us: int = 250_000
    gap_us: int = 150_000


@dataclass(frozen=True, slots=True)
class Decision:
    """The rung, why, and whether the camera's pictures are to be sent as video."""

    rung: Rung
    reason: int

    @property
    def camera_live(self) -> bool:
        """Whether the video gate is to be open."""
        return self.rung is Rung.VIDEO


class _Run:
    """How long something has been so, in how many frames; an interruption of less than a gap is left out."""

    def __init__(self) -> None:
        self._since_us: int | None = None
        self._last_us = 0
        self.frames = 0

    def observe(self, holds: bool, now_us: int, gap_us: int) -> None:
        """Take one frame."""
        if self._since_us is not None and now_us - self._last_us > gap_us:
            self._since_us, self.frames = None, 0
        if holds:
            self._since_us = now_us if self._since_us is None else self._since_us
            self._last_us = now_us
            self.frames += 1

    def lasted_us(self, now_us: int) -> int:
        """Return for how long it has held; -1 where it does not."""
        return -1 if self._since_us is None else now_us - self._since_us


class Ladder:
    """Give it every tracked frame and, now and then, the time; it says what to show."""

    def __init__(self, *, allow_video: bool, now_us: int, settings: LadderSettings | None = None) -> None:
        self.settings = settings or LadderSettings()
        self._allow_video = allow_video
        self._shown_by_user = False
        self._one = _Run()
        self._several = _Run()
        self._crowd_us: int | None = None  # when several faces were last there, in however few frames
        self._face_us = now_us  # when a face was last there in more than a flicker
        self._frame_us = now_us
        self._ended = False
        self._decision = Decision(Rung.STILL, RungReason.START)

    @property
    def decision(self) -> Decision:
        """What holds now."""
        return self._decision

    @property
    def allow_video(self) -> bool:
        """Whether video may come by itself when tracking is lost."""
        return self._allow_video

    def show(self, now_us: int) -> Decision:
        """The user shows the camera."""
        self._shown_by_user = True
        return self._decide(now_us)

    def hide(self, now_us: int) -> Decision:
        """The user hides the camera; it does not come back by itself in this call."""
        self._shown_by_user = False
        self._allow_video = False
        return self._decide(now_us)

    def on_frame(self, faces: int, now_us: int) -> Decision:
        """Take the number of faces in one frame."""
        gap_us = max(self.settings.gap_us, SLOW_FRAMES * (now_us - self._frame_us))
        self._frame_us = now_us
        if faces > 1:
            self._crowd_us = now_us
        self._one.observe(faces == 1, now_us, gap_us)
        self._several.observe(faces > 1, now_us, gap_us)
        if faces and self._one.frames + self._several.frames >= STEADY_FRAMES:
            self._face_us = now_us
        return self._decide(now_us)

    def on_end(self, now_us: int) -> Decision:
        """The input has ended: there is no camera any more that could be shown."""
        self._ended = True
        return self._decide(now_us)

    def advance(self, now_us: int) -> Decision:
        """Let time pass without a frame, as when the camera hangs."""
        return self._decide(now_us)

    def _lost(self, now_us: int) -> bool:
        return now_us - self._face_us >= self.settings.lost_us

    def _decide(self, now_us: int) -> Decision:
        self._decision = self._next(now_us)
        return self._decision

    def _next(self, now_us: int) -> Decision:
        now = self._decision
        automatic_video = now.rung is Rung.VIDEO and now.reason == RungReason.TRACKING_LOST
        if self._ended:
            return Decision(Rung.STILL, RungReason.INPUT_ENDED)
        if self._shown_by_user:
            return Decision(Rung.VIDEO, RungReason.USER)
        crowd = self._crowd_us is not None and now_us - self._crowd_us < self.settings.lost_us
        if self._several.lasted_us(now_us) >= self.settings.several_us:
            return Decision(Rung.STILL, RungReason.SEVERAL_FACES)
        if crowd and (automatic_video or self._lost(now_us)):
            return Decision(Rung.STILL, RungReason.SEVERAL_FACES)
        if self._lost(now_us):
            return Decision(Rung.VIDEO if self._allow_video else Rung.STILL, RungReason.TRACKING_LOST)
        wait_us = self.settings.back_us if automatic_video else self.settings.still_back_us
        if now.rung is not Rung.AVATAR and self._one.lasted_us(now_us) >= wait_us:
            first = now.reason == RungReason.START
            return Decision(Rung.AVATAR, RungReason.START if first else RungReason.TRACKING_BACK)
        if now.rung is Rung.VIDEO and not (automatic_video and self._allow_video):
            return Decision(Rung.STILL, RungReason.USER)  # hidden, and no face yet to move the avatar with
        return now
