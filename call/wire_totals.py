"""What one connection cost so far: bytes and datagrams of each cause, both ways. A reading, which never changes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mien.call.wire_cause import Cause, Direction


@dataclass(frozen=True, slots=True)
class Flow:
    """What one cause cost in one direction. `wire_bytes` holds the IP and UDP headers."""

    datagrams: int = 0
    wire_bytes: int = 0
    payload_bytes: int = 0

    def kbps(self, elapsed_us: int) -> float:
        """Return the mean over a time in microseconds."""
        return self.wire_bytes * 8000 / elapsed_us if elapsed_us > 0 else 0.0


@dataclass(frozen=True, slots=True)
class PathFlow:
    """How many of one direction's datagrams went over IPv6, and how many between this end and a relay."""

    ipv6_datagrams: int = 0
    relayed_datagrams: int = 0


@dataclass(frozen=True, slots=True)
class WireTotals:
    """Everything that one connection cost so far; causes that never occurred are absent."""

    elapsed_us: int
    sent: Mapping[Cause, Flow]
    received: Mapping[Cause, Flow]
    sent_path: PathFlow = PathFlow()
    received_path: PathFlow = PathFlow()

    def flows(self, direction: Direction) -> Mapping[Cause, Flow]:
        """Return one direction."""
        return self.sent if direction == Direction.SENT else self.received

    def path(self, direction: Direction) -> PathFlow:
        """Return which way one direction's datagrams went."""
        return self.sent_path if direction == Direction.SENT else self.received_path

    def total(self, direction: Direction) -> Flow:
        """Return the sum over all causes."""
        return _sum(self.flows(direction).values())

    def kbps(self, direction: Direction, cause: Cause | None = None) -> float:
        """Return the mean rate of one cause, or of all."""
        flow = self.total(direction) if cause is None else self.flows(direction).get(cause, Flow())
        return flow.kbps(self.elapsed_us)

    def overhead_bytes(self, direction: Direction, cause: Cause) -> float:
        """Return the mean bytes of headers, padding and seals for each datagram of a data channel."""
        flow = self.flows(direction).get(cause, Flow())
        return (flow.wire_bytes - flow.payload_bytes) / flow.datagrams if flow.datagrams else 0.0

    def since(self, earlier: "WireTotals") -> "WireTotals":
        """Return what was added after an earlier reading of the same meter."""
        return WireTotals(
            self.elapsed_us - earlier.elapsed_us,
            _difference(self.sent, earlier.sent),
            _difference(self.received, earlier.received),
            *(_path_difference(self.path(d), earlier.path(d)) for d in Direction),
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`, each direction with its causes and its total."""
        return {
            "elapsed_s": self.elapsed_us / 1e6,
            **{d.value: self._direction_as_json(d) for d in Direction},
        }

    def _direction_as_json(self, direction: Direction) -> dict[str, Any]:
        rows = {cause.value: flow for cause, flow in self.flows(direction).items()} | {
            "total": self.total(direction)
        }
        return {
            name: {
                "datagrams": flow.datagrams,
                "wire_bytes": flow.wire_bytes,
                "payload_bytes": flow.payload_bytes,
                "kbps": round(flow.kbps(self.elapsed_us), 4),
            }
            for name, flow in rows.items()
        }


def _sum(flows: Iterable[Flow]) -> Flow:
    datagrams, wire, payload = 0, 0, 0
    for flow in flows:
        datagrams += flow.datagrams
        wire += flow.wire_bytes
        payload += flow.payload_bytes
    return Flow(datagrams, wire, payload)


def _difference(later: Mapping[Cause, Flow], earlier: Mapping[Cause, Flow]) -> dict[Cause, Flow]:
    result = {}
    for cause, flow in later.items():
        before = earlier.get(cause, Flow())
        result[cause] = Flow(
            flow.datagrams - before.datagrams,
            flow.wire_bytes - before.wire_bytes,
            flow.payload_bytes - before.payload_bytes,
        )
    return result


def _path_difference(later: PathFlow, earlier: PathFlow) -> PathFlow:
    return PathFlow(
        later.ipv6_datagrams - earlier.ipv6_datagrams, later.relayed_datagrams - earlier.relayed_datagrams
    )
