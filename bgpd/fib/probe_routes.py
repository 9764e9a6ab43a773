"""The routes by which this host asks its own service addresses, whatever route everybody else takes to them.

When a service is withdrawn here, the fabric's route of its address takes the place of the local one. A probe that went
by it would ask another host, and believe it. So probes have a table for each VRF, in which an address leads to the
local backends, and a source address that only they use. Of several services with one address each asks its own
backends: the second has another table and source. Policy rules send what comes from the source to the table, and
what arrives for it to this host. By the same rule a backend's answer passes the kernel's reverse path filter. See
docs/decisions/0030-a-probe-has-a-source-and-a-table-of-its-own.md.

Level-triggered: what is desired is written when it changes, when a link or a rule changes, when a probe failed, and
again some time after the kernel has refused it. Decides nothing of services.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import ipaddress
import itertools
from collections.abc import Callable, Iterator, Sequence

from bgpd.config.schema_workloads import PROBE_TABLES
from bgpd.fib.dataplane import Dataplane
from bgpd.kernel.link_messages import encode_add_rule
from bgpd.kernel.netlink import read_sequence
from bgpd.kernel.probe_messages import Gateway, encode_arrival, encode_no_probe_route, encode_probe_route
from bgpd.kernel.route_messages import RouteForm
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelEvent, KernelResynchronised, LinkChanged, RoutingRule
from bgpd.model.next_hop import NextHops
from bgpd.model.prefix import host_key
from bgpd.model.service import ProbedAddress
from bgpd.runtime.background import start_in_background

RULE_PRIORITY = 990
"""Before the rules of VRFs (`vrf_rules.RULE_PRIORITY`), which would send a probe to the VRF's own table."""
_AT_ONCE = 256
"""Requests in one batch."""
_LOOPBACK = "lo"
RETRY_S = 5.0
"""When that is written again which the kernel did not take."""

Lane = tuple[str, int]
"""What has a table and a source: a VRF, and which of the services that have one address."""
ProbeKey = tuple[Lane, Family, bytes]
"""Lane, family and key of an address."""
Answered = Callable[[str], None]
"""Called with "" when the kernel has what was asked for, else with what it said."""
_MAIN: Lane = ("", 0)


class _Desired:
    """What an address is to lead to, () for what the source alone needs; and who is to hear."""

    __slots__ = ("answered", "members")

    def __init__(self, members: NextHops, answered: Answered) -> None:
        self.members = members
        self.answered = answered


class ProbeRoutes:
    """The tables of probes. `sources`: a prefix of each family, of which each lane gets one address."""

    def __init__(self, dataplane: Dataplane, *, protocol: int, metric: int, sources: Sequence[str]) -> None:
        self._dataplane = dataplane
        self._protocol = protocol
        self._metric = metric
        self._sources = {_family_of(network): network for network in map(ipaddress.ip_network, sources)}
        self._numbers: dict[Lane, int] = {}
        self._ranks: dict[tuple[str, Family, bytes], dict[str, int]] = {}
        self._ready: set[tuple[Lane, Family]] = set()
        self._desired: dict[ProbeKey, _Desired] = {}
        self._dirty: dict[ProbeKey, None] = {}
        self._worker: asyncio.Task[None] | None = None
        self._refused: dict[ProbeKey, None] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._follows = False
        self._has_ended = False

    def tables(self) -> set[int]:
        """The kernel tables that are in use."""
        return {PROBE_TABLES[number] for number in self._numbers.values()}

    def source(self, asked: ProbedAddress) -> str:
        """The address that a service's probes of an address come from; "" where there is none left."""
        lane, family, _ = self._place(asked)
        return self._source(lane, family)

    def _place(self, asked: ProbedAddress) -> ProbeKey:
        service, vrf, family, key = asked
        return (vrf, self._ranks.get((vrf, family, key), {}).get(service, 0)), family, key

    def _source(self, lane: Lane, family: Family) -> str:
        network = self._sources.get(family)
        number = self._number(lane)
        if network is None or number is None or number + 1 >= network.num_addresses:
            return ""
        return str(network[number + 1])

    def set(self, asked: ProbedAddress, members: NextHops | None, answered: Answered) -> None:
        """A service's probes of an address are to reach these members, or nothing in particular (()); None: there are
        none.

        `answered` is called when that is so, and each time that it was written again.
        """
        service, vrf, family, key = asked
        ranks = self._ranks.setdefault((vrf, family, key), {})
        if members is not None:
            rank = ranks.setdefault(service, min(set(range(len(ranks) + 1)) - set(ranks.values())))
            place = ((vrf, rank), family, key)
            if self._number(place[0]) is None:
                answered(f"all {len(PROBE_TABLES)} tables of probes are in use")
                return
            self._desired[place] = _Desired(members, answered)
            self._mark(place)
        elif service in ranks:
            place = ((vrf, ranks.pop(service)), family, key)
            if self._desired.pop(place, None) is not None:
                self._mark(place)
        if not ranks:
            del self._ranks[vrf, family, key]

    def write_again(self, asked: ProbedAddress) -> None:
        """A probe failed: its route may have gone."""
        place = self._place(asked)
        if place in self._desired:
            self._ready.discard(place[:2])
            self._mark(place)

    async def stop(self) -> None:
        """Write no more; all stays in the kernel, where only probes go by it."""
        self._dirty.clear()
        self._has_ended = True
        if self._retry is not None:
            self._retry.cancel()
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)

    def _number(self, lane: Lane) -> int | None:
        """The main table's is 0; others keep what they got first."""
        if lane not in self._numbers:
            used = set(self._numbers.values())
            least = 0 if lane == _MAIN else 1
            number = next((number for number in range(least, len(PROBE_TABLES)) if number not in used), None)
            if number is None:
                return None
            self._numbers[lane] = number
        return self._numbers[lane]

    def _mark(self, place: ProbeKey) -> None:
        self._dirty[place] = None
        if not self._follows:
            self._follows = True
            self._dataplane.monitor.subscribe(self._kernel_changed)
            self._dataplane.monitor.rules_changed.append(self._all_again)
        if self._worker is None or self._worker.done():
            self._worker = start_in_background(self._work(), "writing routes of probes")

    def _kernel_changed(self, event: KernelEvent) -> None:
        match event:
            case LinkChanged(link=link):
                for place, one in self._desired.items():
                    if any(hop.interface == link.name for hop in one.members):
                        self._mark(place)
            case KernelResynchronised():
                self._all_again()

    def _all_again(self) -> None:
        self._ready.clear()
        for place in self._desired:
            self._mark(place)

    def _try_again(self) -> None:
        self._retry = None
        refused, self._refused = self._refused, {}
        for place in refused:
            if place in self._desired:
                self._mark(place)

    async def _work(self) -> None:
        while self._dirty:
            await asyncio.sleep(0)
            places = list(itertools.islice(self._dirty, _AT_ONCE))
            for place in places:
                del self._dirty[place]
            await self._write({place: self._desired.get(place) for place in places})

    async def _write(self, desired: dict[ProbeKey, _Desired | None]) -> None:
        requests: list[bytes] = []
        concerned: list[tuple[set[ProbeKey], int]] = []
        """By sequence number: whom a refusal concerns, and the code that is none."""

        def ask(encode: Callable[..., bytes], places: set[ProbeKey], expected: int = 0) -> None:
            requests.append(encode(sequence=len(requests)))
            concerned.append((places, expected))

        for lane, family in dict.fromkeys((lane, family) for lane, family, _key in desired):
            places = {place for place, one in desired.items() if place[:2] == (lane, family) and one is not None}
            if places and (lane, family) not in self._ready:
                self._ready.add((lane, family))
                for encode, expected in self._ground(lane, family):
                    ask(encode, places, expected)
        for place, one in desired.items():
            lane, family, key = place
            form = self._form(lane)
            if one is None or not one.members:
                ask(functools.partial(encode_no_probe_route, family, key, form), {place}, errno.ESRCH)
                continue
            ask(functools.partial(encode_probe_route, family, key, self._gateways(one.members), form), {place})
        outcome = await self._dataplane.change(b"".join(requests))
        problems = dict.fromkeys(desired, outcome.lost)
        if outcome.lost:
            self._ready.difference_update(place[:2] for place in desired)
        for error in outcome.errors:
            places, expected = concerned[read_sequence(error.request)]
            if error.code != expected:
                problems.update(dict.fromkeys(places, str(error)))
                self._ready.difference_update(place[:2] for place in places)
        for place, one in desired.items():
            if one is not None and self._desired.get(place) is one:
                if problems[place]:
                    self._refused[place] = None
                one.answered(problems[place])
        if self._refused and self._retry is None and not self._has_ended:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._try_again)

    def _gateways(self, members: NextHops) -> list[Gateway]:
        """The members without addresses of this host itself, which no route leads to: the kernel refuses such a one
        together with all others.
        """
        host = self._dataplane.host
        others = [hop for hop in members if not host.bears(hop.interface, hop.address)]
        return [(hop.address, host.index_of(hop.interface), hop.weight) for hop in others or members]

    def _ground(self, lane: Lane, family: Family) -> Iterator[tuple[Callable[..., bytes], int]]:
        """What a source needs: both rules, and that answers to it arrive here."""
        source = self._source(lane, family)
        if not source:
            return
        packed = ipaddress.ip_address(source).packed
        form, key = self._form(lane), host_key(packed)
        rule = functools.partial(
            RoutingRule, family=family, priority=RULE_PRIORITY, protocol=self._protocol, table=form.table
        )
        yield functools.partial(encode_arrival, family, key, self._arrival_interface(), form), 0
        for made in (rule(source=key), rule(to=key)):
            yield functools.partial(encode_add_rule, made), errno.EEXIST

    def _form(self, lane: Lane) -> RouteForm:
        return RouteForm(PROBE_TABLES[self._number(lane) or 0], self._protocol, self._metric)

    def _arrival_interface(self) -> int:
        """The loopback interface; where that is down, any that is up."""
        host = self._dataplane.host
        up = (link.index for link in sorted(host.links.values(), key=lambda link: link.index) if link.up)
        return host.index_of(_LOOPBACK) if host.is_up(_LOOPBACK) else next(up, 0)


def _family_of(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Family:
    return Family.IPV4_UNICAST if network.version == 4 else Family.IPV6_UNICAST
