"""A bad network, computed: when, if at all, each packet of one direction arrives.

    packet -> outage? -> loss? -> bottleneck with its queue -> delay -> jitter or overtaken -> again?

Nothing here has a socket or a clock: a `Link` says for a packet sent at a time when its copies arrive, and two
links of the same profile, seed and packets say the same. Every impairment draws from a generator of its own,
so that turning on one leaves the others' packets where they were.
"""

import random
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol, Self

from mien.bench.link_trace import LinkTrace
from mien.protocol.errors import MienError

SECOND_US: Final = 1_000_000
REPEAT_AFTER_US: Final = 1_000
QUEUE_BYTES: Final = 32_000


class Loss(Protocol):
    """A way in which packets get lost. Frozen: what it remembers of a link is in the state that it makes."""

    @property
    def mean_share(self) -> float:
        """The share of packets that get lost in the long run."""

    def start(self, rng: random.Random) -> "LossState":
        """Return the state for one link."""


class LossState(Protocol):
    """Decides packet after packet."""

    def lose(self) -> bool:
        """Return whether the next packet is lost."""


@dataclass(frozen=True, slots=True)
class RandomLoss:
    """Each packet for itself."""

    share: float

    def __post_init__(self) -> None:
        _check_share("loss", self.share)

    @property
    def mean_share(self) -> float:
        """The share itself."""
        return self.share

    def start(self, rng: random.Random) -> LossState:
        """Return the state for one link."""
        return _RandomState(self.share, rng)


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Two states, good and bad, each with its own share of losses. `to_bad`, `to_good`: chance before each packet."""

    to_bad: float
    to_good: float
    loss_good: float = 0.0
    loss_bad: float = 1.0

    def __post_init__(self) -> None:
        for name in ("to_bad", "to_good", "loss_good", "loss_bad"):
            _check_share(name, getattr(self, name))
        if self.to_good == 0:
            raise MienError("a bad state that never ends is an outage: give to_good above 0")

    @classmethod
    def bursts(cls, share: float, mean_packets: float) -> Self:
        """Lose `share` of all packets, in bursts of `mean_packets` on average."""
        if not 0 <= share < 1 or mean_packets < 1 or share > mean_packets * (1 - share):
            raise MienError(f"bursts of {mean_packets} packets cannot lose {share:.0%} of all")
        to_good = 1 / mean_packets
        return cls(to_bad=to_good * share / (1 - share), to_good=to_good)

    @property
    def mean_share(self) -> float:
        """The share of packets that get lost in the long run."""
        bad = self.to_bad / (self.to_bad + self.to_good)
        return bad * self.loss_bad + (1 - bad) * self.loss_good

    def start(self, rng: random.Random) -> LossState:
        """Return the state for one link, in the good state."""
        return _GilbertState(self, rng)


@dataclass(frozen=True, slots=True)
class Profile:
    """One direction of a path. Sizes hold all headers; shares are of packets, 0 to 1.

    `jitter_us`: extra delay, uniform from 0, that keeps the order. `reorder`: share that takes `reorder_us`
    longer and is overtaken. `rate_kbps`: the bottleneck, whose queue drops what finds more than `queue_bytes`
    waiting. `outages`: from, to, in microseconds of the link's clock, which starts with the first packet.
    `trace` sets rate and loss, and adds to the delay, as they were measured or made up for a while, over and over.
    """

    delay_us: int = 0
    jitter_us: int = 0
    loss: Loss | None = None
    reorder: float = 0.0
    reorder_us: int = 30_000
    duplicate: float = 0.0
    rate_kbps: float | None = None
    queue_bytes: int = QUEUE_BYTES
    outages: tuple[tuple[int, int], ...] = ()
    trace: LinkTrace | None = None

    def __post_init__(self) -> None:
        _check_share("reorder", self.reorder)
        _check_share("duplicate", self.duplicate)
        if min(self.delay_us, self.jitter_us, self.reorder_us) < 0 or self.queue_bytes <= 0:
            raise MienError("a link's delays are 0 or more, and its queue holds something")
        if self.rate_kbps is not None and (self.rate_kbps <= 0 or self.trace is not None):
            raise MienError("a link's rate is above 0, and comes from one place: rate_kbps or trace")
        if any(end < start for start, end in self.outages):
            raise MienError("an outage ends after its start")


@dataclass(slots=True)
class LinkCounts:
    """What became of the packets."""

    sent: int = 0
    lost: int = 0  # by chance
    cut: int = 0  # in an outage
    overflowed: int = 0  # found the queue full
    reordered: int = 0
    duplicated: int = 0


class Link:
    """One direction of a path. Packets must be sent in the order of their times."""

    def __init__(self, profile: Profile, *, seed: int) -> None:
        self.profile = profile
        self.counts = LinkCounts()
        rngs = {
            name: random.Random(f"{seed} {name}") for name in ("loss", "trace", "jitter", "order", "copy")
        }
        self._rngs = rngs
        self._loss = profile.loss.start(rngs["loss"]) if profile.loss else None
        self._start_us: int | None = None
        self._queue = _Bottleneck(profile)
        self._newest_us = 0

    def send(self, now_us: int, size: int) -> list[int]:
        """Return when the copies of a packet of `size` bytes arrive, in microseconds: none, one, or two."""
        if self._start_us is None:
            self._start_us = now_us
        age_us = now_us - self._start_us
        self.counts.sent += 1
        # Asked for every packet: which ones chance takes must not depend on what else goes wrong.
        lost = self._is_lost(age_us)
        if any(start <= age_us < end for start, end in self.profile.outages):
            self.counts.cut += 1
            return []
        if lost:
            self.counts.lost += 1
            return []
        left_us = self._queue.pass_through(age_us, size)
        if left_us is None:
            self.counts.overflowed += 1
            return []
        arrival_us = self._travel(left_us) + self._start_us
        if self._rngs["copy"].random() < self.profile.duplicate:
            self.counts.duplicated += 1
            return [arrival_us, arrival_us + REPEAT_AFTER_US]
        return [arrival_us]

    def _is_lost(self, age_us: int) -> bool:
        lost = self._loss is not None and self._loss.lose()
        trace = self.profile.trace
        if trace is not None and self._rngs["trace"].random() < trace.at(age_us).loss:
            return True
        return lost

    def _travel(self, left_us: int) -> int:
        profile = self.profile
        jitter_us = self._rngs["jitter"].randint(0, profile.jitter_us)
        arrival_us = left_us + profile.delay_us + jitter_us
        if profile.trace is not None:
            arrival_us += profile.trace.at(left_us).delay_us
        if self._rngs["order"].random() < profile.reorder:
            self.counts.reordered += 1
            return arrival_us + profile.reorder_us
        self._newest_us = max(self._newest_us, arrival_us)
        return self._newest_us


class _Bottleneck:
    """A rate, a queue before it, and a full queue's way with newcomers."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._waiting: deque[tuple[int, int]] = deque()  # when it has left, bytes
        self._waiting_bytes = 0
        self._free_us = 0

    def pass_through(self, now_us: int, size: int) -> int | None:
        """Return when the packet has left; `None` where it found the queue full."""
        while self._waiting and self._waiting[0][0] <= now_us:
            self._waiting_bytes -= self._waiting.popleft()[1]
        if self._waiting_bytes + size > self._profile.queue_bytes and self._waiting:
            return None
        self._free_us = self._sent_us(max(now_us, self._free_us), size)
        if self._free_us > now_us:
            self._waiting.append((self._free_us, size))
            self._waiting_bytes += size
        return self._free_us

    def _sent_us(self, start_us: int, size: int) -> int:
        profile = self._profile
        if profile.trace is not None:
            return profile.trace.sent_us(start_us, size)
        if profile.rate_kbps is None:
            return start_us
        return start_us + round(size * 8000 / profile.rate_kbps)


class _RandomState:
    def __init__(self, share: float, rng: random.Random) -> None:
        self._share = share
        self._rng = rng

    def lose(self) -> bool:
        return self._rng.random() < self._share


class _GilbertState:
    def __init__(self, model: GilbertElliott, rng: random.Random) -> None:
        self._model = model
        self._rng = rng
        self._bad = False

    def lose(self) -> bool:
        model = self._model
        if self._rng.random() < (model.to_good if self._bad else model.to_bad):
            self._bad = not self._bad
        return self._rng.random() < (model.loss_bad if self._bad else model.loss_good)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise MienError(f"{name} is {value}, expected a share from 0 to 1")
