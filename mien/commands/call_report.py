"""The table that `mien call` prints when it is over."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from mien.call.carriers import CarrierCounts
from mien.call.lip_sync import Skew
from mien.call.statistics import (
    CallStatistics,
    RateStatistics,
    RungChange,
    VoiceReceived,
    VoiceSent,
    reason_name,
    verdict_name,
)
from mien.call.wire_cause import Cause, Direction
from mien.call.wire_tariff import ASSUMPTIONS, tariff
from mien.call.wire_totals import Flow


def print_call(console: Console, statistics: CallStatistics) -> None:
    """Print what the call cost and how it went."""
    console.print(wire_table(statistics))
    console.print(quality_table(statistics))


def wire_table(statistics: CallStatistics) -> Table:
    """Return kbps by cause, both ways; IP and UDP headers are counted. And what the same would cost elsewhere."""
    wire = statistics.wire
    table = Table(title=f"on the wire, {statistics.seconds:.1f} s of call", title_justify="left")
    table.add_column("what for")
    for name in ("kbps up", "packets", "kbps down", "packets"):
        table.add_column(name, justify="right")
    for cause in Cause:
        flows = wire.sent.get(cause), wire.received.get(cause)
        if any(flows):
            _add_row(table, cause.value, flows[0] or Flow(), flows[1] or Flow(), wire.elapsed_us)
    table.add_section()
    _add_row(table, "all", wire.total(Direction.SENT), wire.total(Direction.RECEIVED), wire.elapsed_us)
    table.add_section()
    sent, received = tariff(wire, Direction.SENT), tariff(wire, Direction.RECEIVED)
    if wire.sent_path.ipv6_datagrams or wire.sent_path.relayed_datagrams:
        table.add_row("the same over IPv4", f"{sent.ipv4_kbps:.2f}", "", f"{received.ipv4_kbps:.2f}", "")
    table.add_row("the same over IPv6", f"{sent.ipv6_kbps:.2f}", "", f"{received.ipv6_kbps:.2f}", "")
    table.add_row("the same through TURN", f"{sent.turn_kbps:.2f}", "", f"{received.turn_kbps:.2f}", "")
    table.caption = f"Computed: {ASSUMPTIONS}."
    table.caption_justify = "left"
    return table


def quality_table(statistics: CallStatistics) -> Table:
    """Return frame rates, latency, losses and the ladder's steps."""
    sent, received = statistics.sent, statistics.received
    table = Table(show_header=False, title="how it went", title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    rows = [
        ("ended", statistics.ended or "not yet"),
        ("connected in", _seconds(statistics.connect_s)),
        (
            "sent",
            f"{sent.fps:.1f} fps tracked, {sent.cpu_ms_per_frame:.1f} ms of one core each, {sent.frames_left_out} left out",
        ),
        (
            "our avatar",
            f"{verdict_name(sent.avatar_verdict) or 'none'}, {sent.avatar_bytes / 1000:.1f} kB sent",
        ),
        ("shown", f"{received.fps:.1f} fps, drawn by {received.backend}"),
        (
            "their avatar",
            (
                f"{verdict_name(received.avatar_verdict) or 'none'}, "
                f"{received.avatar_bytes / 1000:.1f} kB came, face after {_seconds(received.first_face_s)}"
            ),
        ),
        (
            "latency",
            (
                f"{received.latency.median_ms:.0f} ms from frame to picture here "
                f"(95 %: {received.latency.p95_ms:.0f}), {sent.reported_latency_ms:.0f} ms over there"
            ),
        ),
        ("lips and voice", _lip_sync(received.lip_sync)),
        ("round trip", f"{statistics.round_trip_ms:.1f} ms, jitter {received.jitter_ms:.1f} ms"),
        (
            "lost messages",
            f"{received.lost} here ({received.late_ticks} frames late), {sent.reported_lost} over there"
            + (f", {sent.reported_mean_run:.1f} in a row" if sent.reported_mean_run else ""),
        ),
        ("our face took", _carriers(sent.by_carrier)),
        ("their face took", _carriers(received.by_carrier)),
        (
            "bad messages",
            (
                f"{received.malformed} of {received.messages + received.malformed}, "
                f"control {received.control_malformed}, transfer {received.transfer_malformed}"
            ),
        ),
        ("our voice", _voice_sent(statistics.voice.sent)),
        ("their voice", _voice_received(statistics.voice.received)),
        ("our rate", _rate(statistics.rate)),
        ("camera pixels sent", f"{sent.camera_pixels} in {sent.video_packets} video packets"),
        ("we showed", _rungs(sent.rungs)),
        ("they showed", _rungs(received.rungs)),
    ]
    if received.recorded_by_other:
        rows.append(("recorded", "by the other side"))
    for name, value in rows:
        table.add_row(name, value)
    return table


def _carriers(by_carrier: Mapping[str, CarrierCounts]) -> str:
    names = {"audio": "voice packets", "datachannel": "the data channel"}
    used = [
        f"{names.get(name, name)}: {counts.messages} messages, {counts.message_bytes / 1000:.1f} kB"
        for name, counts in by_carrier.items()
        if counts.messages
    ]
    return "; ".join(used) or "nothing"


def _add_row(table: Table, name: str, sent: Flow, received: Flow, elapsed_us: int) -> None:
    table.add_row(
        name,
        f"{sent.kbps(elapsed_us):.2f}",
        str(sent.datagrams),
        f"{received.kbps(elapsed_us):.2f}",
        str(received.datagrams),
    )


def _voice_sent(voice: VoiceSent) -> str:
    if not voice.packets:
        return "none sent"
    text = (
        f"{voice.packets} packets, {voice.kbps:.1f} kbps of Opus, speech {voice.speech_share:.0%} of the time, "
        f"{voice.reported_lost} lost on the way"
    )
    kinds = (("noise suppression", voice.noise_suppression), ("gain", voice.gain), ("echo", voice.echo))
    for name, treatment in kinds:
        if treatment is not None:
            text += f"; {name} {'on' if treatment.on else 'off'} ({treatment.why})"
    return text


def _voice_received(voice: VoiceReceived) -> str:
    if not voice.packets:
        return "none came"
    return (
        f"{voice.packets} packets, {voice.kbps:.1f} kbps of Opus, {voice.lost} lost, {voice.late} late, "
        f"{voice.repaired_share:.0%} repaired and {voice.filled_share:.0%} of {voice.played_s:.1f} s filled in (pauses too), waits {voice.wait_ms:.0f} ms"
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def _rate(rate: RateStatistics) -> str:
    if not rate.plan:
        return "-"
    budget = f"budget {rate.budget_kbps:g} kbps, " if rate.budget_kbps is not None else ""
    sent = (
        f"{rate.mean_kbps:.1f} on average, {rate.most_kbps:.1f} at most in 5 s"
        if rate.mean_kbps
        else "not measured"
    )
    return f"{budget}{sent}; at the end {rate.plan}; {len(rate.changes) - 1} changes"


def _rungs(changes: tuple[RungChange, ...]) -> str:
    return (
        ", ".join(f"{c.rung.name.lower()} at {c.seconds:.1f} s ({reason_name(c.reason)})" for c in changes)
        or "-"
    )


def _lip_sync(skew: Skew) -> str:
    """Return how far lips and voice were apart, for a person."""
    if not skew.samples:
        return "not known: nobody was seen speaking"
    side = "after" if skew.mean_ms >= 0 else "before"
    return f"seen {abs(skew.mean_ms):.0f} ms {side} heard (95 % within {skew.p95_ms:.0f})"
