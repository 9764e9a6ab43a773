"""Which address learned routes name as the source of this host's own packets (RTA_PREFSRC), and what follows from a
change of it.

On unnumbered fabrics no uplink has an address that others can answer to: packets that this host sends itself then bear
that of its loopback. Only an address that the host has is named, since the kernel refuses a route with another; without
it routes are written without a source, and written again once it is there.

With its address the kernel deletes the IPv4 routes that name it. IPv6 routes by nexthop objects stay, and would go on
sending from an address that is nobody's: they are moved. A source belongs to the group that a route points at
(nexthop_objects.py), so that a route with another source is one by another group, which is written before the former is
deleted: no packet is lost. Only routes of the main table name a source; those of this host's services do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from bgpd.fib.batches import TableWriter
from bgpd.fib.dataplane import Dataplane
from bgpd.model.iana import UNICAST, Family
from bgpd.model.kernel import AddressChanged, KernelEvent, LinkChanged
from bgpd.model.prefix import family_of, format_address, parse_address
from bgpd.runtime.events import log

LOOPBACK = "loopback"
_WORDS = {Family.IPV4_UNICAST: "IPv4", Family.IPV6_UNICAST: "IPv6"}
_REFUSALS = ("prefsrc", "source address")
"""What the kernel's words say of a source that it does not take."""


class PreferredSource:
    """The preferred source of one table's learned routes. `wanted` is [fib] preferred_source.

    `problems`: by family, why routes name no source although one is wanted.
    """

    def __init__(self, wanted: str | tuple[str, ...], *, writer: TableWriter, dataplane: Dataplane) -> None:
        self.problems: dict[Family, str] = {}
        self._wanted = wanted
        self._writer = writer
        self._dataplane = dataplane
        self._host = dataplane.host
        self._is_planned = False
        self._refused: dict[Family, tuple[bytes, str]] = {}

    def configure(self, wanted: str | tuple[str, ...]) -> None:
        """Another value of [fib] preferred_source, or of what says which address is the loopback's."""
        if wanted != self._wanted:
            self._wanted = wanted
            self.follow()
        else:
            self._settle()

    def follow(self) -> None:
        """Addresses or links of this host changed: what the kernel refused may be possible now."""
        self._refused.clear()
        self._settle()

    def host_changed(self, event: KernelEvent) -> None:
        """A link or an address changed. What takes the source away counts at once, since it may be back in the same
        turn of the loop, and the kernel has deleted routes; all else once in a turn, however many links come.
        """
        if not self._wanted:
            return
        if isinstance(event, AddressChanged):
            is_urgent = event.gone and event.address.packed in self._writer.targets.sources.values()
        else:
            is_urgent = isinstance(event, LinkChanged) and event.is_another and event.before is not None
        if is_urgent:
            self.follow()
        elif not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._follow_planned)

    def _follow_planned(self) -> None:
        self._is_planned = False
        self.follow()

    def refused(self, family: Family, why: str) -> None:
        """The kernel does not write routes: if that is for their source, they do without one."""
        source = self._writer.targets.sources[family]
        if source and any(words in why for words in _REFUSALS):
            self._refused[family] = source, why
            self._settle()

    def _settle(self) -> None:
        wanted = self._addresses()
        for family in UNICAST:
            address = wanted.get(family, b"")
            problem = self._problem(family, address)
            if problem != self.problems.get(family, ""):
                self.problems[family] = problem
                if problem:
                    log.warning("fib.no_preferred_source", family=family.value, reason=problem)
            self._use(family, b"" if problem else address)

    def _addresses(self) -> dict[Family, bytes]:
        """The wanted address of each family."""
        if self._wanted == LOOPBACK:
            loopback = self._host.loopback()
            return {Family.IPV4_UNICAST: loopback.ipv4, Family.IPV6_UNICAST: loopback.ipv6}
        texts: Iterable[str] = (self._wanted,) if isinstance(self._wanted, str) else self._wanted
        packed = map(parse_address, filter(None, texts))
        return {family_of(one): one for one in packed}

    def _problem(self, family: Family, address: bytes) -> str:
        """Why routes of a family cannot name an address, "" if they can, or if they are to name none."""
        if not address:
            is_missing = self._wanted == LOOPBACK and family is Family.IPV4_UNICAST
            return "this host has no IPv4 loopback address: give lo one" if is_missing else ""
        refused, why = self._refused.get(family, (b"", ""))
        if refused == address:
            return f"the kernel does not take {format_address(address)} as the source of routes: {why}"
        names = [name for name in self._host.bearers(address) if self._host.vrf_of(name) == ""]
        if not names:
            return f"{format_address(address)} is no address of this host in the main table"
        if not any(self._is_usable(name, address) for name in names):
            return f"{format_address(address)} cannot be used: {names[0]} is down, or the address is still tentative"
        return ""

    def _is_usable(self, name: str, address: bytes) -> bool:
        return self._host.is_up(name) and any(one.packed == address for one in self._host.addresses(name))

    def _use(self, family: Family, source: bytes) -> None:
        """Routes of a family name this source from now on, b"" for none."""
        former = self._writer.targets.sources[family]
        if source == former:
            return
        self._writer.targets.sources[family] = source
        text = format_address(source) if source else ""
        log.info("fib.preferred_source", family=family.value, address=text)
        if former and family is Family.IPV4_UNICAST and not self._host.has_address(former):
            self._dataplane.flushed(self._dataplane.objects.groups_from(former))
            self._writer.recheck_unsettled()
        else:
            self._writer.recheck_sources(family, source)

    def warnings(self) -> list[str]:
        """For `bgpd status`."""
        return [
            f"fib.preferred_source: {_WORDS[family]} routes name no source: {problem}"
            for family, problem in self.problems.items()
            if problem
        ]
