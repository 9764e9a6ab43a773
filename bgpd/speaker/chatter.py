"""How much of the event loop's time a neighbor gets for messages that bring no routes.

KEEPALIVEs, requests to send everything again, malformed UPDATEs and End-of-RIB: a neighbor has some of them to send
now and then. One that never stops is read more slowly, also while nobody else has work, so that it takes no more than
a share of one processor. Routes are not counted here: they have their turns (driver.py). Decides only that; sans-IO.
"""

from __future__ import annotations

CHATTER_SHARE = 0.05
"""Of the time, what chatter may take in the long run."""
CHATTER_BURST_S = 0.02
"""So much processor time of it is worked off at once: some thousand messages."""
DEAREST_S = 0.001
"""What one message may count for: a turn may work off routes that came before it, too."""


class Chatter:
    """The allowance of one neighbor, in seconds of processor time; times are of a monotonic clock."""

    def __init__(self) -> None:
        self._left_s = CHATTER_BURST_S
        self._as_of = 0.0

    def took(self, seconds: float, messages: int, now: float) -> None:
        """A turn with so many such messages took so much processor time until `now`."""
        grown_s = (now - self._as_of) * CHATTER_SHARE
        self._left_s = min(CHATTER_BURST_S, self._left_s + grown_s) - min(seconds, messages * DEAREST_S)
        self._as_of = now

    def rest_s(self, now: float) -> float:
        """For how many seconds from `now` on nothing more is to be read."""
        return max(0.0, self._as_of - self._left_s / CHATTER_SHARE - now)
