"""Which counters of the kernel tell that traffic to a drained host has gone, and whether it has.

Of a service that was withdrawn: the nexthop group of its kernel route where the kernel counts it, else the interfaces
that the route leads to, with all that this host sends there. Once all is withdrawn: what the uplinks receive. Remembers
the last reading; never decides what is withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from bgpd.fib import views as fib_views
from bgpd.kernel.counters import TrafficCounters
from bgpd.model.iana import Family
from bgpd.model.prefix import VrfKey, format_key
from bgpd.model.views.orders import DrainCounterView
from bgpd.routing import Routing

UPLINK = "what arrives from the fabric"
GROUP, INTERFACE = "nexthop-group", "interface"
_SHOWN = 3


class Counter(NamedTuple):
    """One number that the kernel counts: of a nexthop group by its id, of an interface by its name and direction."""

    kind: str
    name: str
    direction: str = ""


class Watched(msgspec.Struct):
    """What has to become quiet: each counter, with what it is counted for; and what nothing is counted for.

    `expected` has the packets a second of a counter that do not count: those of BFD.
    """

    counters: dict[Counter, list[str]] = {}
    not_counted: list[str] = []
    expected: dict[Counter, float] = {}

    def add(self, counter: Counter, of: str) -> None:
        """Read this counter, too: it is one `of` this."""
        self.counters.setdefault(counter, []).append(of)


def place_text(place: VrfKey) -> str:
    """A service address for people: "10.64.100.1/32", "10.64.100.1/32 in VRF blue"."""
    vrf, family, key = place
    return f"{format_key(family, key)}{f' in VRF {vrf}' if vrf else ''}"


def watch_services(routing: Routing, places: Iterable[VrfKey], into: Watched) -> None:
    """Count the traffic of services that this host does not announce any more."""
    for place in places:
        vrf, family, key = place
        fib = routing.tables.fibs.get(vrf)
        view = fib_views.route(fib, family, key) if fib is not None else None
        of = f"service {place_text(place)}"
        if view is None or not view.next_hops:
            into.not_counted.append(f"{of}: bgpd has no kernel route of it")
        elif view.group and (len(view.next_hops) > 1 or family is Family.IPV6_UNICAST):
            into.add(Counter(GROUP, str(view.group)), of)
        else:
            for name in {hop.interface for hop in view.next_hops}:
                into.add(Counter(INTERFACE, name, "sent"), of)


def watch_uplinks(bfd_packets_per_s: Mapping[str, float], into: Watched) -> None:
    """Count what arrives on these interfaces, but for as many packets of BFD."""
    for name in sorted(bfd_packets_per_s):
        counter = Counter(INTERFACE, name, "received")
        into.add(counter, UPLINK)
        into.expected[counter] = bfd_packets_per_s[name]


def read_counters(counters: Iterable[Counter], indexes: Mapping[str, int]) -> dict[Counter, int]:
    """Packets by counter, of those that there are; `indexes` has those of the interfaces. Blocks for a short time.

    Raises: OSError: the kernel does not answer.
    """
    found: dict[Counter, int] = {}
    with TrafficCounters() as kernel:
        for counter in counters:
            packets: int | None = None
            if counter.kind == GROUP:
                packets = kernel.group(int(counter.name))
            elif counter.name in indexes and (both := kernel.interface(indexes[counter.name])) is not None:
                packets = both[0 if counter.direction == "received" else 1]
            if packets is not None:
                found[counter] = packets
    return found


class Traffic:
    """The packets a second of what is watched, from one reading to the next."""

    def __init__(self) -> None:
        self.views: list[DrainCounterView] = []
        self.is_quiet = False
        self._last: dict[Counter, int] = {}
        self._at = 0.0

    def forget(self) -> None:
        """Nothing was read."""
        self.views, self.is_quiet, self._last = [], False, {}

    def take(self, watched: Watched, read: Mapping[Counter, int], *, now: float, quiet_packets_per_s: int) -> None:
        """A reading, at `now` of a clock that only goes forward. What has no counter (any more) has no traffic."""
        passed = now - self._at
        self.views, self.is_quiet = [], True
        for counter, of in watched.counters.items():
            rate: float | None = 0.0
            if counter in read:
                before = self._last.get(counter)
                rate = None if before is None or passed <= 0 else max(0, read[counter] - before) / passed
            quiet = rate is not None and rate <= quiet_packets_per_s + watched.expected.get(counter, 0.0)
            self.is_quiet = self.is_quiet and quiet
            shown = None if rate is None else round(rate, 1)
            self.views.append(
                DrainCounterView(
                    kind=counter.kind,
                    name=counter.name,
                    direction=counter.direction,
                    of=of,
                    packets_per_s=shown,
                    quiet=quiet,
                )
            )
        self._last, self._at = dict(read), now

    def still_flows(self) -> list[str]:
        """The counters with traffic, for people."""
        flowing = [view for view in self.views if not view.quiet and view.packets_per_s is not None]
        return [f"{view.packets_per_s:g} packets/s {_where(view)} ({_of(view)})" for view in flowing]


def _of(view: DrainCounterView) -> str:
    return ", ".join([*view.of[:_SHOWN], *(["..."] if len(view.of) > _SHOWN else [])])


def _where(view: DrainCounterView) -> str:
    if view.kind == GROUP:
        return f"by nexthop group {view.name}"
    return f"received on {view.name}" if view.direction == "received" else f"sent out of {view.name}"
