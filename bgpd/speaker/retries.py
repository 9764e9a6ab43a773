"""When to dial a neighbor next, and until when its own connections are refused.

Retries are quick at first and slower with every failure, up to the configured connect_retry_s, with jitter (RFC 4271
sections 8.1.1 and 10). That also damps a flapping peer: only a session that was up for a while resets the failures.
Sans-IO and clockless: times are seconds of a monotonic clock. Knows no state and no connection (session.py).
"""

from __future__ import annotations

from collections.abc import Callable

from bgpd.speaker.saved import SavedRetries

FIRST_RETRY_S = 0.5
"""Pause after the first failure; it doubles with each one more."""
STABLE_S = 10.0
"""A session that was established for this long resets its retries."""
SHORT_LIVED = 5
"""After more sessions than that, each shorter, the peer too waits until the next attempt (DampPeerOscillations)."""


class Retries:
    """The pauses of one neighbor. `random` gives numbers from 0 to 1.

    `deadline` is when the attempt or the pause ends (None: only when something happens). `is_refusing`: the peer may
    not connect until then. `held_off_until`: the end of a pause that was given for cause, 0 if there is none.
    """

    def __init__(self, *, random: Callable[[], float]) -> None:
        self.deadline: float | None = None
        self.is_refusing = False
        self.held_off_until = 0.0
        self._random = random
        self._failures = 0
        self._short_lived = 0

    @property
    def is_oscillating(self) -> bool:
        """Whether sessions come and go so quickly that the peer is made to wait too."""
        return self._short_lived > SHORT_LIVED

    def wait(self, deadline: float | None, *, refusing: bool = False) -> None:
        """Let the attempt that runs, or the pause before the next one, end at `deadline`."""
        self.deadline = deadline
        self.is_refusing = refusing

    def hold_off(self, now: float, pause_s: float, *, longest_s: float) -> None:
        """Refuse the neighbor for cause, for `pause_s` at least (0: it may connect at once)."""
        if pause_s:
            self.held_off_until = now + pause_s
        self.wait(now + max(pause_s, self.pause_s(longest_s)), refusing=pause_s > 0)

    def saved(self, now: float) -> SavedRetries:
        """What `resume` takes."""
        refused_until = self.deadline if self.is_refusing and self.deadline is not None else 0.0
        held_off_until = self.held_off_until if self.held_off_until > now else 0.0
        return SavedRetries(refused_until, held_off_until, self._failures, self._short_lived)

    def resume(self, saved: SavedRetries, now: float) -> None:
        """Go on as another process has left it: a neighbor that was refused is refused for the time that is left."""
        self._failures, self._short_lived = saved.failures, saved.short_lived
        if saved.refused_until > now:
            self.held_off_until = saved.held_off_until
            self.wait(saved.refused_until, refusing=True)

    def end_hold_off(self) -> bool:
        """The cause is gone; whether the neighbor was refused until now."""
        self.held_off_until = 0.0
        was_refusing, self.is_refusing = self.is_refusing, False
        return was_refusing

    def pause_s(self, longest_s: float) -> float:
        """IdleHoldTime or ConnectRetryTime after one failure more: doubled with every one, with jitter."""
        pause_s = min(FIRST_RETRY_S * float(1 << min(self._failures, 16)), longest_s)
        self._failures += 1
        return pause_s * (0.75 + 0.25 * self._random())

    def forget_failures(self) -> None:
        """Something changed that makes success likely: pauses are short again."""
        self._failures = 0

    def session_ended(self, lived_s: float) -> None:
        """An established session is over."""
        self._short_lived += 1
        if lived_s >= STABLE_S:
            self._failures = self._short_lived = 0
