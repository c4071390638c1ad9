"""What `mien bench budget` measures of one side of a call."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """What one side of a call sent with a budget, kbps on the wire. `plan`: the last; `changes`: how many there were.

    `most_kbps`: in any five seconds; `dearest`: those of the steady part, by cause. `latency_ms`: of our face over
    there. `stall_ms`: for how long the event loop stood still at most. `frames_left_out`: what a busy machine did not
    track, which would have cost more.
    """

    budget_kbps: float
    voice: bool
    seconds: float
    plan: str
    plan_kbps: float
    mean_kbps: float
    most_kbps: float
    voice_kbps: float
    face_kbps: float
    payload_kbps: float
    latency_ms: float
    changes: int
    frames_left_out: int
    stall_ms: float
    dearest: dict[str, float]

    @property
    def kept(self) -> bool:
        """Whether no five seconds cost more than the budget."""
        return self.most_kbps <= self.budget_kbps
