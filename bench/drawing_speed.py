"""How fast a talk is drawn, by tier and size: everything from states and scene messages to finished pictures."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from mien.decoder.artist import Artist
from mien.decoder.generator import Generator
from mien.decoder.recording import Segment
from mien.decoder.renderer import Backend
from mien.decoder.replay_schedule import make_schedule
from mien.protocol.avatar import Avatar
from mien.protocol.errors import MienError

WARM_UP: Final = 10  # pictures that are not counted


@dataclass(frozen=True, slots=True)
class DrawingSpeed:
    """Pictures of one tier and size, made as fast as the machine can; nothing is shown or written.

    `fps` is pictures a second of time that passed, `cpu_ms` what all of the process' threads computed for one.
    `stream_fps`: so many pictures were made of a second of the talk; the scene has ten of its own in it.
    `generator`: what ran it, with milliseconds for one scene picture, or None.
    """

    tier: str
    width: int
    height: int
    renderer: str
    device: str
    generator: str | None
    generator_ms: float | None
    stream_fps: float
    pictures: int
    fps: float
    cpu_ms: float


def measure_drawing(
    avatar: Avatar,
    segments: Sequence[Segment],
    *,
    tier: str,
    size: tuple[int, int],
    rate: Fraction,
    pictures: int,
    generator: Generator | None = None,
    backend: Backend = "auto",
) -> DrawingSpeed:
    """Draw at most so many pictures, `rate` of each second, as a replay does. Raises `MienError` for too short a talk."""
    schedule = make_schedule(list(segments), rate)[: WARM_UP + pictures]
    if len(schedule) <= WARM_UP:
        raise MienError(f"the talk gives {len(schedule)} pictures: too few to measure")
    artist = Artist(
        avatar,
        width=size[0],
        height=size[1],
        backend=backend,
        scene=tier == "S",
        generator=generator or False,
    )
    with closing(artist):
        for due in schedule[:WARM_UP]:
            artist.draw(due)
        wall, cpu = time.perf_counter(), time.process_time()
        for due in schedule[WARM_UP:]:
            artist.draw(due)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        count = len(schedule) - WARM_UP
        return DrawingSpeed(
            tier=tier,
            width=size[0],
            height=size[1],
            renderer=artist.backend,
            device=artist.device,
            generator=generator.device if generator else None,
            generator_ms=round(generator.run_ms, 2) if generator else None,
            stream_fps=float(rate),
            pictures=count,
            fps=round(count / wall, 1),
            cpu_ms=round(1000 * cpu / count, 2),
        )
