"""When a replay shows what: one picture for each frame of the source, or at an even rate."""

from dataclasses import dataclass
from fractions import Fraction

from mien.decoder.recording import Recording, Segment


@dataclass(frozen=True, slots=True)
class Due:
    """A picture to make: when in the output, of which segment, at which position in ticks."""

    time_us: int
    segment: Segment
    position: Fraction


def make_schedule(segments: list[Segment], fps: Fraction | None) -> list[Due]:
    """Return the pictures of a replay, one segment after the other."""
    out: list[Due] = []
    start_us = 0
    for segment in segments:
        frames = segment.source_frames() if fps is None else segment.resampled(fps)
        out += [Due(start_us + time_us, segment, position) for time_us, position in frames]
        step = 1 / (fps or segment.stream.tick_rate)
        start_us = out[-1].time_us + int(1_000_000 * step) if out else 0
    return out


def default_rate(recording: Recording) -> Fraction:
    """Return the nominal frame rate of the output: the source's, or the ticks' where the source is not known."""
    known = any(segment.frames for segment in recording.segments)
    rate = recording.header.source_rate if known else recording.header.stream.tick_rate
    return min(max(rate, Fraction(1)), Fraction(240)).limit_denominator(1001)
