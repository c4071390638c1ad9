"""The guided part of `mien enroll camera`: requests as lines, live coverage, and a preview where there is a display."""

import contextlib
from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from mien.decoder.window import Window
from mien.encoder.capture import Frame
from mien.encoder.enroll import LOOKING, Progress
from mien.encoder.enrolment_coverage import ITEMS
from mien.encoder.enrolment_guide import REQUESTS, Guide
from mien.encoder.enrolment_script import Answer, random_order
from mien.protocol.errors import MienError

GUIDED_SECONDS: Final = 60.0  # at most: who follows at once needs half of it
MIN_GUIDED_SECONDS: Final = 30.0
PREVIEW_PX: Final = 720  # longer side

BEGIN: Final = (
    "Do what you are asked, one thing at a time; hold it until the next line comes. The order is new each time: it "
    "also shows that a living person is here."
)


class Prompter:
    """Tells the person what to do next on `console` and in `window`; `line` is how far it is."""

    def __init__(self, console: Console, window: Window | None = None) -> None:
        self._console, self._window = console, window
        self._answers = -1  # at the last request
        self.line = "starting"

    def __call__(self, guide: Guide, frame: Frame) -> None:
        """Take the state after a frame."""
        self.line = coverage_line(guide)
        asked = guide.script.asked
        if len(guide.answers) != self._answers:
            if guide.answers:
                self._say(_comment(guide.answers[-1]))
            if asked is not None:
                self._say(f"[bold]{REQUESTS[asked]}[/bold]")
            self._answers = len(guide.answers)
        if self._window is not None:
            if not self._window.open:
                guide.stop()
                return
            request = "Thank you." if asked is None else REQUESTS[asked]
            size = self._window.width, self._window.height
            self._window.show(draw_preview(frame.rgb, size, (request, _plain_line(guide))))

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def open_guide(console: Console, size: tuple[int, int], seconds: float) -> Iterator[tuple[Guide, Prompter]]:
    """Give a guide for at most `seconds` of a camera's pictures of `size`, and what tells the person."""
    if seconds < MIN_GUIDED_SECONDS:
        raise MienError(
            f"--seconds {seconds:g}: a guided enrolment needs {MIN_GUIDED_SECONDS:g} or more; or add --no-guided"
        )
    with contextlib.ExitStack() as stack:
        window = _open_window(size)
        if window is not None:
            stack.callback(window.close)
        prompter = Prompter(console, window)
        console.print(BEGIN, highlight=False, soft_wrap=True)
        yield Guide(random_order(), limit_us=round(seconds * 1e6), changed=prompter), prompter


def with_coverage(tell: Progress | None, prompter: Prompter) -> Progress | None:
    """Return `tell` with the live coverage in place of the first stage's name; nobody is told without a terminal."""
    if tell is None:
        return None

    def told(stage: str, done: int, total: int) -> None:
        tell(prompter.line if stage == LOOKING else stage, done, total)

    return told


def coverage_line(guide: Guide) -> str:
    """Return one short line: which items were held so far, how much time is left, what is wrong with the picture."""
    marks = "".join("●" if item in guide.script.held else "○" for item in ITEMS)
    return f"{marks} {_plain_line(guide)}"


def _plain_line(guide: Guide) -> str:
    trouble = {0: ", no face seen", 1: ""}.get(guide.faces, ", several faces: be alone in the picture")
    if guide.script.shown_too_early and not trouble:
        trouble = ", relax, then do it again"
    left_s = max(0, guide.script.remaining_us) // 1_000_000
    return f"{len(guide.script.held)} of {len(ITEMS)}, {left_s} s left{trouble}"


def _comment(answer: Answer) -> str:
    return "[green]good[/green]" if answer.answered else f"[yellow]not seen[/yellow]: {answer.item}; going on"


def draw_preview(rgb: NDArray[np.uint8], size: tuple[int, int], lines: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return the picture mirrored, so that left is left, scaled to `size` (width, height), with lines below."""
    shown = np.ascontiguousarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)[:, ::-1])
    scale = size[0] / 960
    step = round(36 * scale) + 4
    top = size[1] - step * len(lines) - 8
    shown[top:] = shown[top:] // 3
    for number, line in enumerate(lines, start=1):
        place = (12, top + number * step - 4)
        cv2.putText(
            shown,
            line,
            place,
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            (255, 255, 255),
            1 + (scale > 0.6),
            cv2.LINE_AA,
        )
    return np.asarray(shown, np.uint8)


def _open_window(size: tuple[int, int]) -> Window | None:
    """Return a window for pictures of `size`, or None where there is no display, or no package for one."""
    scale = min(1.0, PREVIEW_PX / max(size))
    try:
        return Window(round(size[0] * scale), round(size[1] * scale), title="mien enroll")
    except MienError:
        return None
