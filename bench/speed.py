"""What a frame costs: the sender's CPU time and the receiver's pictures per second, on this machine.

`mien bench speed` draws a talk in every tier and size.
"""

import argparse
import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

from mien.bench.drawing_speed import DrawingSpeed, measure_drawing
from mien.bench.picture_drawing import code, enrol
from mien.bench.provenance import provenance
from mien.decoder.generator import Generator, shipped_generator
from mien.decoder.playout import Playout
from mien.decoder.recording import Segment, read_recording
from mien.decoder.renderer import BACKENDS
from mien.decoder.stage import Stage
from mien.encoder.capture import Frame
from mien.encoder.sender import FaceSender
from mien.encoder.stream_setup import make_fitter, make_stream_header
from mien.encoder.synthetic_source import SyntheticSource
from mien.encoder.tracker import Tracker
from mien.protocol.avatar import Avatar, assemble
from mien.protocol.codec import (
    BATCH_SECONDS,
    Batch,
    MessageDecoder,
    MessageEncoder,
    frames_per_batch,
)
from mien.protocol.control import Rung
from mien.protocol.errors import MienError
from mien.protocol.log import open_log
from mien.protocol.message import TICK_MODULUS, CoefficientMessage
from mien.protocol.quantizer import MAX_VALUE, Quality, to_steps
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader
from mien.protocol.tables import Tables

EXAMPLE: Final = """examples:
  mien bench speed
  mien bench speed --log talk.mien --avatar me.avatar --sizes 512x512 --generator off --json
"""
ENROL_SECONDS: Final = 8
TALK_SECONDS: Final = 8
SCENE_KBPS: Final = 5.0
WARM_UP: Final = 10  # frames or pictures that are not counted
SIZES_PX: Final = (256, 512)
PASSES: Final = 3
_Result = TypeVar("_Result")
DISPLAY_INTERVAL_US: Final = 16_667  # 60 pictures a second, most of them between ticks


@dataclass(frozen=True, slots=True)
class CodecCost:
    """CPU milliseconds a frame of the codec alone, states in, states out; means, the best of several passes.

    `codec_ms` is `encode_ms` and `decode_ms` with residuals that are simply rounded. `search_ms` comes on top of that
    where they are chosen by bits and error together, as a call does; `search_saves_percent` is what that saves of
    the messages' bytes, for some more error.
    """

    frames: int
    encode_ms: float
    decode_ms: float
    codec_ms: float
    search_ms: float
    search_saves_percent: float


@dataclass(frozen=True, slots=True)
class SenderCost:
    """CPU milliseconds for one frame, from the decoded camera frame to the message.

    Tracking is the median; coding (fitting, search, range coder) the mean, since a message is made once in several
    frames. `codec` is of the range coder's side alone.
    """

    frames: int
    tracking_ms: float
    coding_ms: float
    total_ms: float
    codec: CodecCost


@dataclass(frozen=True, slots=True)
class ReceiverSpeed:
    """Pictures of one size: playout, warp, compositing and reading back, without showing them."""

    size_px: int
    backend: str
    pictures: int
    fps: float
    cpu_ms: float


def measure_sender(
    frames: Sequence[Frame], tracker: Tracker, avatar: Avatar, *, source_rate: Fraction
) -> tuple[SenderCost, FaceSender, list[bytes]]:
    """Track and code `frames`; return the cost, the sender and its messages."""
    faces = [f for frame in frames[:WARM_UP] for f in tracker.track(frame.rgb, frame.timestamp_us).faces[:1]]
    height, width = frames[0].rgb.shape[:2]
    header = make_stream_header(
        avatar, faces, source_rate=source_rate, width=width, height=height, tracker=tracker.tracker_id
    )
    sender = FaceSender(header, make_fitter(avatar, header), source_rate=source_rate)
    tracking, coding, messages, states = [], [], [], []
    for frame in frames:
        started = time.process_time()
        found = tracker.track(frame.rgb, frame.timestamp_us)
        tracked = time.process_time()
        messages += sender.on_tracking(frame.timestamp_us - frames[0].timestamp_us, found)
        coding.append(time.process_time() - tracked)
        tracking.append(tracked - started)
        states.append(sender.state)
    tracking_ms = 1000 * float(np.median(tracking[WARM_UP:]))
    coding_ms = 1000 * float(np.mean(coding[WARM_UP:]))
    cost = SenderCost(
        frames=len(frames),
        tracking_ms=round(tracking_ms, 2),
        coding_ms=round(coding_ms, 3),
        total_ms=round(tracking_ms + coding_ms, 2),
        codec=measure_codec(header, [state for state in states if state.tracked]),
    )
    return cost, sender, messages


def measure_codec(header: StreamHeader, states: Sequence[FaceState], *, passes: int = PASSES) -> CodecCost:
    """Code and decode `states` as fast as the machine can, with and without the search."""
    searched, search = _best_of(passes, lambda: _search_and_code(header, states))
    plain, encode = _best_of(passes, lambda: _round_and_code(header, states))
    _, decode = _best_of(passes, lambda: list(map(MessageDecoder(header).decode, searched)))
    frames = len(states)
    each = [1000 * seconds / max(1, frames) for seconds in (encode, decode, search - encode)]
    sizes = sum(map(len, searched)), sum(map(len, plain))
    return CodecCost(
        frames=frames,
        encode_ms=round(each[0], 3),
        decode_ms=round(each[1], 3),
        codec_ms=round(each[0] + each[1], 3),
        search_ms=round(each[2], 3),
        search_saves_percent=round(100 * (1 - sizes[0] / max(1, sizes[1])), 1),
    )


def _search_and_code(header: StreamHeader, states: Sequence[FaceState]) -> list[bytes]:
    encoder = MessageEncoder(header)
    messages = [encoder.push(tick, state) for tick, state in enumerate(states)]
    return [m for m in (*messages, encoder.flush(last=True)) if m is not None]


def _round_and_code(header: StreamHeader, states: Sequence[FaceState]) -> list[bytes]:
    tables, size, step = Tables.load(), frames_per_batch(header), int(Quality.NORMAL)
    messages = []
    for first in range(0, len(states), size):
        batch = states[first : first + size]
        steps = np.array([to_steps(state, header.rest_pose, step) for state in batch])
        message = CoefficientMessage(
            stream=header.stream,
            first_tick=first % TICK_MODULUS,
            step_index=step,
            values=np.clip(np.rint(steps), -MAX_VALUE, MAX_VALUE).astype(np.int16),
            tracked=(True,) * len(batch),
        )
        messages.append(message.serialize(tables))
    return messages


def _best_of(passes: int, work: Callable[[], list[_Result]]) -> tuple[list[_Result], float]:
    """Return what `work` gives, and the CPU seconds that it took when it was least disturbed."""
    least = math.inf
    for _ in range(passes):
        started = time.thread_time()
        result = work()
        least = min(least, time.thread_time() - started)
    return result, least


def measure_receiver(
    avatar: Avatar, sender: FaceSender, messages: Sequence[bytes], size_px: int
) -> ReceiverSpeed:
    """Draw 60 pictures for each second of `messages`, as fast as the machine can."""
    decoder = MessageDecoder(sender.header)
    timeline = _Timeline(
        Playout(sender.header), deque(map(decoder.decode, messages)), sender.header.tick_rate
    )
    stage = Stage(width=size_px, height=size_px)
    try:
        stage.set_avatar(avatar, sender.header)
        stage.set_rung(Rung.AVATAR, now_us=0)
        for _ in range(WARM_UP):
            timeline.draw_next(stage)
        wall, cpu, pictures = time.perf_counter(), time.process_time(), 0
        while timeline.waiting:
            timeline.draw_next(stage)
            pictures += 1
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return ReceiverSpeed(
            size_px=size_px,
            backend=stage.backend,
            pictures=pictures,
            fps=round(pictures / wall, 1),
            cpu_ms=round(1000 * cpu / pictures, 2),
        )
    finally:
        stage.close()


@dataclass(slots=True, eq=False)
class _Timeline:
    """Hands batches to the playout when they would come, on a clock that only pictures advance."""

    playout: Playout
    waiting: deque[Batch]
    tick_rate: Fraction
    now_us: int = 0

    def draw_next(self, stage: Stage) -> None:
        self.now_us += DISPLAY_INTERVAL_US
        while self.waiting and self._arrival_us(self.waiting[0]) <= self.now_us:
            batch = self.waiting.popleft()
            self.playout.push(batch, arrival_us=self._arrival_us(batch))
        stage.draw(self.playout.state_at(self.now_us), now_us=self.now_us)

    def _arrival_us(self, batch: Batch) -> int:
        return int((batch.first_tick / self.tick_rate + Fraction(BATCH_SECONDS)) * 1_000_000)


# --- mien bench speed ---------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the measurement's arguments."""
    parser.add_argument("--log", metavar="FILE", help="a talk (default: one of the synthetic portrait)")
    parser.add_argument("--avatar", metavar="FILE", help="its avatar")
    parser.add_argument(
        "--sizes",
        default="256x256,512x512,1280x720",
        metavar="WxH,...",
        help="default: %(default)s",
    )
    parser.add_argument("--pictures", type=int, default=150, metavar="N", help="for each (default: 150)")
    parser.add_argument(
        "--fps",
        type=Fraction,
        default=Fraction(30),
        metavar="N",
        help="pictures made of a second of the talk; the scene's ten cost extra (default: 30)",
    )
    parser.add_argument(
        "--generator",
        default="on",
        metavar="on|off|FILE",
        help="measure tier S with it, too, or with that of an ONNX file (default: on, where there is one)",
    )
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="what draws (default: auto)")
    parser.add_argument("--json", action="store_true", help="report as one JSON line")


def run(options: argparse.Namespace) -> int:
    """Run the measurement."""
    sizes = parse_sizes(options.sizes)
    if (options.log is None) != (options.avatar is None):
        raise MienError("--log and --avatar go together")
    if options.pictures < 1 or not 0 < options.fps <= 240:
        raise MienError("expected --pictures of 1 or more and --fps of more than 0, at most 240")
    generator = chosen_generator(options.generator)
    console = Console(stderr=True)
    with console.status("preparing a talk"):
        avatar, segments = known_talk(options) if options.log else synthetic_talk()
    tiers: list[tuple[str, Generator | None]] = [("W", None)]
    if any(segment.scene for segment in segments):
        tiers += [("S", None), *([("S", generator)] if generator else [])]
    rows = []
    for size in sizes:
        for tier, network in tiers:
            with console.status(f"{tier} at {size[0]} x {size[1]}"):
                rows.append(
                    measure_drawing(
                        avatar, segments, tier=tier, size=size, rate=options.fps, pictures=options.pictures,
                        generator=network, backend=options.backend,
                    )
                )  # fmt: skip
    if options.json:
        print(json.dumps({**provenance(), "rows": [asdict(row) for row in rows]}))
    else:
        Console(soft_wrap=True).print(table_of(rows))
    return 0


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """Return the sizes of a list. Raises `MienError`."""
    try:
        sizes = [(int(w), int(h)) for w, h in (word.split("x") for word in text.split(","))]
    except ValueError:
        raise MienError(f"--sizes {text}: expected for example 256x256,1280x720") from None
    if not all(16 <= side <= 4096 for size in sizes for side in size):
        raise MienError(f"--sizes {text}: expected 16 to 4096 pixels each way")
    return sizes


def chosen_generator(text: str) -> Generator | None:
    """Return the generator that an option names. Raises `MienError`."""
    if text == "off":
        return None
    if text == "on":
        return shipped_generator()
    try:
        return Generator(Path(text).read_bytes())
    except OSError as error:
        raise MienError(f"--generator {text}: {error.strerror}; expected on, off or an ONNX file") from error


def known_talk(options: argparse.Namespace) -> tuple[Avatar, list[Segment]]:
    """Return what a log says, and the avatar that shows it. Raises `MienError`."""
    try:
        avatar = assemble(Path(options.avatar).read_bytes(), now_unix_s=int(time.time())).avatar
    except OSError as error:
        raise MienError(f"cannot read {options.avatar}: {error.strerror}") from error
    with open_log(options.log) as reader:
        segments = [segment for segment in read_recording(reader).segments if len(segment.track)]
    if avatar is None or not segments:
        raise MienError(f"{options.log} and {options.avatar} give nothing to draw")
    return avatar, segments


def synthetic_talk() -> tuple[Avatar, list[Segment]]:
    """Enrol and code the synthetic portrait, with a scene layer. Raises `MienError`."""
    with closing(SyntheticSource(ENROL_SECONDS, size_px=512)) as enrolled:
        avatar = enrol(enrolled).avatar
    with closing(SyntheticSource(TALK_SECONDS, start_s=ENROL_SECONDS, size_px=512)) as source:
        talk = code(source, avatar, Quality.NORMAL, SCENE_KBPS)
    return avatar, [segment for segment in talk.recording.segments if len(segment.track)]


def table_of(rows: Sequence[DrawingSpeed]) -> Table:
    """Return the table for people."""
    table = Table(title=f"drawing with {rows[0].device}" if rows else None, box=None)
    for heading in ("size", "tier", "generator", "pictures/s", "CPU ms each"):
        table.add_column(heading, justify="right" if heading[0] in "pC" else "left")
    for row in rows:
        network = f"{row.generator}, {row.generator_ms} ms a scene picture" if row.generator else "-"
        table.add_row(f"{row.width} x {row.height}", row.tier, network, f"{row.fps:g}", f"{row.cpu_ms:g}")
    return table
