"""A token bucket: at most so much a second, in bursts of at most so much. No clock inside."""


class TokenBucket:
    """Times are integer microseconds of one clock that never runs backwards."""

    def __init__(self, *, rate_per_s: float, burst: float, now_us: int) -> None:
        if rate_per_s <= 0 or burst <= 0:
            raise ValueError(f"rate {rate_per_s} and burst {burst}, expected more than 0")
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._filled_us = now_us

    def take(self, amount: float, *, now_us: int) -> bool:
        """Take `amount` if it is there. An amount above the burst never is."""
        self._fill(now_us)
        if amount > self._level:
            return False
        self._level -= amount
        return True

    def wait_us(self, amount: float, *, now_us: int) -> int:
        """Return how long until `amount` is there; 0 for now."""
        self._fill(now_us)
        missing = min(amount, self._burst) - self._level
        return max(0, round(missing / self._rate_per_s * 1e6))

    def _fill(self, now_us: int) -> None:
        passed_us = max(0, now_us - self._filled_us)
        self._filled_us = max(now_us, self._filled_us)
        self._level = min(self._burst, self._level + passed_us * self._rate_per_s / 1e6)
