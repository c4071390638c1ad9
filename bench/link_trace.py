"""What a mobile link did over a minute: its rate, delay and loss, row by row, for the impaired links of the bench.

A trace is a CSV file with the columns `time_ms,rate_kbps,delay_ms,loss_percent`, starting at 0; its rows lie
the same time apart, and after the last one it begins again. The two in `bench/traces/` are made up, by
`mien.bench.make_link_traces`; they are *like* such links, not measured on any.
"""

import csv
import io
import math
from dataclasses import dataclass
from importlib import resources
from typing import Final, Self

from mien.protocol.errors import MienError

COLUMNS: Final = ("time_ms", "rate_kbps", "delay_ms", "loss_percent")
TRACES: Final = ("edge", "lte")


@dataclass(frozen=True, slots=True)
class LinkMoment:
    """The link during one row."""

    rate_kbps: float
    delay_us: int
    loss: float  # share of packets


@dataclass(frozen=True, slots=True)
class LinkTrace:
    """Rows of `step_us` each, repeated for ever. At least one has a rate above 0."""

    step_us: int
    moments: tuple[LinkMoment, ...]

    def __post_init__(self) -> None:
        if self.step_us <= 0 or not any(m.rate_kbps > 0 for m in self.moments):
            raise MienError("a link's trace needs rows some time apart, one of them with a rate above 0")

    @classmethod
    def named(cls, name: str) -> Self:
        """Return one of `TRACES`."""
        if name not in TRACES:
            raise MienError(f"no trace {name!r}, there are: {', '.join(TRACES)}")
        path = resources.files("mien.bench") / "traces" / f"{name}.csv"
        return cls.parse(path.read_text(encoding="utf-8"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the CSV text. Raises `MienError`."""
        rows = list(csv.reader(io.StringIO(text)))
        if not rows or tuple(rows[0]) != COLUMNS:
            raise MienError(f"a link's trace begins with the line {','.join(COLUMNS)}")
        try:
            values = [[float(cell) for cell in row] for row in rows[1:]]
            times_us = [round(1000 * time_ms) for time_ms, _, _, _ in values]
        except (ValueError, OverflowError) as error:
            raise MienError(f"a link's trace holds four numbers a line: {error}") from error
        if len(times_us) < 2 or times_us != list(range(0, len(times_us) * times_us[1], times_us[1] or 1)):
            raise MienError("a link's trace begins at 0 and its rows lie the same time apart")
        if any(
            not (0 <= rate < math.inf and 0 <= delay < math.inf and 0 <= loss <= 100)
            for _, rate, delay, loss in values
        ):
            raise MienError("a link's trace has rates and delays from 0 on, and losses from 0 to 100 percent")
        moments = (LinkMoment(rate, round(1000 * delay), loss / 100) for _, rate, delay, loss in values)
        return cls(times_us[1], tuple(moments))

    def serialize(self) -> str:
        """Return the CSV text."""
        lines = [",".join(COLUMNS)]
        for number, m in enumerate(self.moments):
            lines.append(
                f"{number * self.step_us / 1000:g},{m.rate_kbps:g},{m.delay_us / 1000:g},{100 * m.loss:g}"
            )
        return "\n".join(lines) + "\n"

    @property
    def duration_us(self) -> int:
        """How long it is until it begins again."""
        return self.step_us * len(self.moments)

    def at(self, time_us: int) -> LinkMoment:
        """Return the row of a time."""
        return self.moments[time_us // self.step_us % len(self.moments)]

    def sent_us(self, start_us: int, size: int) -> int:
        """Return when `size` bytes have passed that begin to leave at `start_us`."""
        bits, now_us = 8.0 * size, start_us
        while True:
            end_us = (now_us // self.step_us + 1) * self.step_us
            rate_kbps = self.at(now_us).rate_kbps
            passed = rate_kbps * (end_us - now_us) / 1000
            if passed >= bits:
                return now_us + round(bits * 1000 / rate_kbps)
            bits -= passed
            now_us = end_us
