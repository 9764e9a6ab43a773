"""Addresses that come and go again and again: announced at once the first times, held back after that until they stay.

Each going counts 1, and what has been counted halves every `HALF_LIFE_S` (RFC 2439). Beyond `SUPPRESS` the address is
held back until the count has fallen to `REUSE`. RFC 7196 recommends to let that many pass: six in quick succession, or
one in three seconds for ever, are not held back. Goings while it is held back count on, up to `CEILING`, so that
it is announced `STAY_S` after the last one at the latest.

Only counts, and asks for another look when the time is over; `table` withdraws and announces. An address that does not
flap costs nothing but its own going: a record, which is forgotten after `FORGET_S`, of `MOST` at most.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import msgspec

from bgpd.model.prefix import format_key
from bgpd.runtime.events import log
from bgpd.runtime.rates import LineBudget
from bgpd.runtime.turns import Clock
from bgpd.workload.standing import AddressKey

HALF_LIFE_S = 10.0
SUPPRESS, REUSE, CEILING = 6.0, 4.0, 8.0
STAY_S = HALF_LIFE_S * math.log2(CEILING / REUSE)
FORGET_S = HALF_LIFE_S * math.log2(8 * CEILING)
MOST = 10_000
_FORGET_AT_ONCE = 500
"""Records that are forgotten in one step, at most."""
HELD_BACK = f"it comes and goes: announced again once it has stayed, at most {STAY_S:.0f} s after it last went"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much coming and going is too much: see above."""

    half_life_s: float
    suppress: float
    reuse: float
    ceiling: float


_OF_ADDRESSES = Limits(half_life_s=HALF_LIFE_S, suppress=SUPPRESS, reuse=REUSE, ceiling=CEILING)


class Penalty(msgspec.Struct, eq=False, gc=False):
    """What is known of one address: its count at the time `at`, and until when it is held back (0: it is not)."""

    at: float
    count: float = 0.0
    until: float = 0.0

    def gone(self, now: float, limits: Limits = _OF_ADDRESSES) -> None:
        """Count one going."""
        self.count, self.at = min(limits.ceiling, self.counted(now, limits) + 1.0), now
        if self.until:
            self.hold_back(limits)

    def counted(self, now: float, limits: Limits = _OF_ADDRESSES) -> float:
        """What is left of the count."""
        return self.count * math.exp2((self.at - now) / limits.half_life_s)

    def hold_back(self, limits: Limits = _OF_ADDRESSES) -> None:
        """Until the count will have fallen so far that it is announced again."""
        self.until = self.at + limits.half_life_s * math.log2(self.count / limits.reuse)


class Damping:
    """Counts the goings of addresses. `look_again(place)` is called for one that is held back no longer.

    `begun` counts how often one began to be held back.
    """

    def __init__(self, clock: Clock, *, look_again: Callable[[AddressKey], None]) -> None:
        self.begun = 0
        self._clock = clock
        self._look_again = look_again
        self._records: OrderedDict[AddressKey, Penalty] = OrderedDict()  # in the order of their last going
        self._is_sweeping = False
        self._lines = LineBudget()

    def gone(self, place: AddressKey) -> None:
        """An address that is announced, or would be if it were not held back, is no longer to be announced."""
        now = self._clock.time()
        record = self._records.pop(place, None)
        if record is None:
            record = Penalty(at=now)
        record.gone(now)
        self._records[place] = record
        self._forget(now)
        if not self._is_sweeping:
            self._is_sweeping = True
            self._clock.call_at(now + FORGET_S, self._sweep)

    def why_held_back(self, place: AddressKey) -> str:
        """Why an address that is there is not to be announced now; "" if it is."""
        record = self._records.get(place) if self._records else None
        if record is None:
            return ""
        if not record.until:
            if record.counted(self._clock.time()) <= SUPPRESS:
                return ""
            self._begin(place, record)
        return HELD_BACK

    def _begin(self, place: AddressKey, record: Penalty) -> None:
        record.hold_back()
        self.begun += 1
        (vrf, family), key = place
        fields = {"vrf": vrf} if vrf else {}
        now, prefix = self._clock.time(), format_key(family, key)
        self._lines.write(log.warning, "workload.damped", now=now, prefix=prefix, reason=HELD_BACK, **fields)
        self._clock.call_at(record.until, partial(self._due, place, record))

    def _due(self, place: AddressKey, record: Penalty) -> None:
        if self._records.get(place) is not record:
            return
        if record.until > self._clock.time():
            self._clock.call_at(record.until, partial(self._due, place, record))
            return
        record.until = 0.0
        self._look_again(place)

    def _forget(self, now: float) -> None:
        """Forget what went long ago, and what is too much: the oldest come first."""
        for _ in range(_FORGET_AT_ONCE):
            place, record = next(iter(self._records.items()), (None, None))
            if place is None or record is None or (record.at + FORGET_S > now and len(self._records) <= MOST):
                return
            del self._records[place]
            if record.until:
                self._look_again(place)

    def _sweep(self) -> None:
        now = self._clock.time()
        self._forget(now)
        oldest = next(iter(self._records.values()), None)
        self._is_sweeping = oldest is not None
        if oldest is not None:
            self._clock.call_at(oldest.at + FORGET_S, self._sweep)
