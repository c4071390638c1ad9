"""The demo's figures: a table for a person, JSON for a program."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

import mien
from mien.bench.loopback_call import LoopbackResult
from mien.call.wire_cause import Cause, Direction
from mien.call.wire_path import IPV4_UDP_BYTES, IPV6_UDP_BYTES, TURN_CHANNEL_BYTES
from mien.call.wire_totals import Flow
from mien.protocol.errors import MienError
from mien.protocol.stream import TrackerId

CAUSE_TEXTS: Final = {
    Cause.COEFFICIENTS: "the face (coefficients)",
    Cause.SCENE: "the scene",
    Cause.SACK: "acknowledgements (SACK)",
    Cause.CONTROL: "control messages",
    Cause.TRANSFER: "the avatar",
    Cause.SCTP: "other SCTP",
    Cause.STUN: "STUN",
    Cause.DTLS: "DTLS handshake, alerts",
    Cause.AUDIO: "voice",
    Cause.VIDEO: "video",
    Cause.RTCP: "RTCP",
    Cause.OTHER: "other",
}


@dataclass(frozen=True, slots=True, eq=False)
class DemoReport:
    """One run of the demo."""

    heading: str
    tracker: TrackerId
    source_rate: Fraction
    result: LoopbackResult
    source_frames_left_out: int  # because the machine was too slow for real time
    film_frames_left_out: int

    def print(self, console: Console) -> None:
        """Print both tables and what the reader should know about them."""
        summary = Table(title=f"mien demo: {self.heading}", title_justify="left", show_header=False)
        for name, value in self._summary():
            summary.add_row(name, value)
        console.print(summary)
        console.print(self._wire_table())
        for note in self._notes():
            console.print(note, highlight=False, soft_wrap=True)

    def write_json(self, path: Path) -> None:
        """Write all figures. Raises `MienError` where that cannot be done."""
        try:
            path.write_text(json.dumps(self.as_json(), indent=2) + "\n")
        except OSError as error:
            raise MienError(f"cannot write {path}: {error.strerror or error}") from error

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "mien": mien.__version__,
            "source": self.heading,
            "source_fps": float(self.source_rate),
            "tracker": self.tracker.name.lower(),
            "source_frames_left_out": self.source_frames_left_out,
            "film_frames_left_out": self.film_frames_left_out,
            **self.result.as_json(),
        }

    def _summary(self) -> Iterator[tuple[str, str]]:
        result = self.result
        header, sent, received = result.header, result.sender.sent, result.receiver.received
        wire = result.wire
        yield "input", f"{header.width} x {header.height}, {float(self.source_rate):.4g} fps"
        yield "tracker", self.tracker.name.lower()
        yield "drawn by", received.backend
        yield "payload", f"{result.payload_kbps:.2f} kbps"
        yield (
            "wire, forward",
            f"{wire.kbps(Direction.SENT, Cause.COEFFICIENTS):.2f} kbps the face, {wire.kbps(Direction.SENT):.2f} in all",
        )
        yield (
            "wire, back",
            f"{wire.kbps(Direction.RECEIVED, Cause.SACK):.2f} kbps SACK, {wire.kbps(Direction.RECEIVED):.2f} in all",
        )
        yield (
            "NME",
            f"{result.error.mean_percent:.2f} % mean, {result.error.p95_percent:.2f} % p95 of {result.error.frames} frames",
        )
        yield "fps", f"{result.frames_per_s:.1f} tracked and sent, {result.pictures_per_s:.1f} shown"
        yield (
            "latency",
            f"{result.latency.median_ms:.0f} ms median, {result.latency.p95_ms:.0f} ms p95, frame to picture",
        )
        yield (
            "avatar",
            f"{sent.avatar_bytes / 1000:.1f} kB; first picture {result.first_picture_s:.1f} s after hello",
        )

    def _wire_table(self) -> Table:
        wire = self.result.wire
        table = Table(
            title=f"on the wire, {wire.elapsed_us / 1e6:.1f} s, IP and UDP headers included",
            title_justify="left",
        )
        table.add_column("cause")
        for heading in ("sent kbps", "datagrams", "received kbps", "datagrams"):
            table.add_column(heading, justify="right")
        causes = [c for c in CAUSE_TEXTS if c in wire.sent or c in wire.received]
        for cause in causes:
            flows = (wire.sent.get(cause, Flow()), wire.received.get(cause, Flow()))
            if any(flow.datagrams or flow.wire_bytes for flow in flows):
                table.add_row(CAUSE_TEXTS[cause], *self._cells(*flows))
        table.add_section()
        table.add_row("in all", *self._cells(wire.total(Direction.SENT), wire.total(Direction.RECEIVED)))
        return table

    def _cells(self, *flows: Flow) -> Iterator[str]:
        for flow in flows:
            yield f"{flow.kbps(self.result.wire.elapsed_us):.2f}"
            yield str(flow.datagrams)

    def _notes(self) -> Iterator[str]:
        wire, sender = self.result.wire, self.result.sender
        face = wire.sent.get(Cause.COEFFICIENTS, Flow())
        if face.datagrams:
            overhead = wire.overhead_bytes(Direction.SENT, Cause.COEFFICIENTS)
            yield (
                f"A message of the face is {face.payload_bytes / face.datagrams:.1f} bytes and costs {overhead:.1f} more: "
                f"{IPV4_UDP_BYTES} IP and UDP, the rest DTLS and SCTP."
            )
        more = [
            wire.total(Direction.SENT).datagrams * extra * 8000 / max(1, wire.elapsed_us)
            for extra in (IPV6_UDP_BYTES - IPV4_UDP_BYTES, TURN_CHANNEL_BYTES)
        ]
        yield f"IPv6 would add {more[0]:.2f} kbps forward, a TURN relay {more[1]:.2f}. No voice in these figures."
        before = sender.wire.total(Direction.SENT).wire_bytes - wire.total(Direction.SENT).wire_bytes
        yield f"Once, before and after: {before / 1000:.1f} kB sent for the connection and the avatar."
        if left_out := self.source_frames_left_out:
            yield (
                f"This machine was too slow for real time: of {sender.sent.frames + left_out} frames of the input "
                f"{left_out} were left out, as a camera would have dropped them."
            )
        if self.film_frames_left_out:
            yield f"The video lacks {self.film_frames_left_out} frames: writing it was slower than the call."
