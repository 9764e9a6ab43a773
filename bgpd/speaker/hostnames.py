"""Whether each neighbor is whom the cabling plan says (`expect_hostname`), by the name that it tells.

Two tell it: the neighbor itself in its OPEN (FQDN capability, draft-walton-bgp-hostname-capability), and LLDP where
lldpd runs. Another name than the expected one is warned of, once, and shown; no session ends for it: a leaf that
forwards is better than none, and a name is no proof of who it is (that is what keys are for).
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from bgpd.config.schema_sessions import NeighborConfig
from bgpd.kernel.host import Host
from bgpd.runtime.events import log
from bgpd.speaker.lldp import read_lldp
from bgpd.speaker.neighbor import Neighbor
from bgpd.speaker.neighbors import Neighbors

LLDP_S = 60.0
"""Between two readings of LLDP."""
SOON_S = 2.0
"""After a session began or ended LLDP is read, but not sooner than that after the last time."""
_LONGEST = 255

ReadLldp = Callable[[], Awaitable[tuple[Mapping[str, tuple[str, ...]], str]]]


class Expectation(enum.StrEnum):
    """What becomes of an expected name; NONE: none is expected."""

    NONE = ""
    MET = "met"
    UNMET = "unmet"
    NOT_TOLD = "not-told"


class Verdict(NamedTuple):
    """`bgp` and `lldp` are the names that were told, "" for none."""

    state: Expectation
    expected: str = ""
    bgp: str = ""
    lldp: str = ""

    @property
    def text(self) -> str:
        """Who it is by whose word, for people."""
        by = [f"{name} by {who}" for name, who in ((self.bgp, "BGP"), (self.lldp, "LLDP")) if name]
        return " and ".join(by)


_NONE = Verdict(Expectation.NONE)


class Hostnames:
    """Compares the names of neighbors with the expected ones. `problem`: why LLDP does not answer."""

    def __init__(self, neighbors: Neighbors, host: Host, *, read: ReadLldp = read_lldp) -> None:
        self.problem = ""
        self._neighbors = neighbors
        self._host = host
        self._read = read
        self._told: dict[str, str] = {}
        self._lldp: Mapping[str, tuple[str, ...]] = {}
        self._reported: dict[str, Verdict] = {}
        self._due = asyncio.Event()

    async def run(self) -> None:
        """Read LLDP now and then while a name is expected, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if any(map(_expected, self._neighbors)):
                await self._read_lldp()
            await asyncio.sleep(SOON_S)
            try:
                async with asyncio.timeout_at(loop.time() + LLDP_S - SOON_S):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()

    async def _read_lldp(self) -> None:
        self._lldp, problem = await self._read()
        if problem != self.problem:
            self.problem = problem
            if problem:
                log.warning("lldp.not_read", reason=problem)
        self.look()

    def session_changed(self, name: str) -> None:
        """A session began or ended: what the neighbor calls itself counts until it says something else."""
        neighbor = self._neighbors.named(name)
        if neighbor is None or not _expected(neighbor):
            return
        exchange = neighbor.exchange
        if exchange is not None:
            negotiated = exchange.negotiated
            self._told[neighbor.peering.name] = full_name(negotiated.hostname, negotiated.domain)
        self._report(neighbor)
        self._due.set()

    def look(self) -> None:
        """Compare all: neighbors, expectations or links may be others than before."""
        names = {neighbor.peering.name for neighbor in self._neighbors}
        for known in (self._told, self._reported):
            for name in known.keys() - names:
                del known[name]
        for neighbor in self._neighbors:
            self._report(neighbor)

    def verdict(self, neighbor: Neighbor) -> Verdict:
        """Whether a neighbor is whom it should be."""
        expected = _expected(neighbor)
        if not expected:
            return _NONE
        interface = neighbor.path
        if interface and not self._host.is_up(interface):
            self._told.pop(neighbor.peering.name, None)  # what is plugged in next may be another
        if neighbor.exchange is not None and neighbor.peering.name not in self._told:
            self._told[neighbor.peering.name] = full_name(
                neighbor.exchange.negotiated.hostname, neighbor.exchange.negotiated.domain
            )
        bgp = self._told.get(neighbor.peering.name, "")
        heard = self._lldp.get(self._port_of(interface), ())
        lldp = next((name for name in heard if is_expected(expected, name)), next(iter(heard), ""))
        told = [name for name in (bgp, lldp) if name]
        if not told:
            state = Expectation.NOT_TOLD
        else:
            state = Expectation.MET if all(is_expected(expected, name) for name in told) else Expectation.UNMET
        return Verdict(state, expected, printable(bgp), printable(lldp))

    def warnings(self) -> list[str]:
        """For `bgpd status`."""
        verdicts = [(one.peering.name, self.verdict(one)) for one in self._neighbors if _expected(one)]
        found = [
            f"neighbor {name} is {verdict.text}, and {verdict.expected} is expected: is it plugged in wrongly?"
            for name, verdict in verdicts
            if verdict.state is Expectation.UNMET
        ]
        return [*found, *([self.problem] if self.problem and verdicts else [])]

    def _report(self, neighbor: Neighbor) -> None:
        name, verdict = neighbor.peering.name, self.verdict(neighbor)
        former = self._reported.get(name, _NONE)
        if verdict == former or _says_no_more(verdict, former):
            return
        self._reported[name] = verdict
        fields = {
            "neighbor": name,
            "interface": neighbor.path,
            "expected": verdict.expected,
            "bgp": verdict.bgp,
            "lldp": verdict.lldp,
        }
        if verdict.state is Expectation.UNMET:
            log.warning("neighbor.unexpected_hostname", **fields)
        elif verdict.state is Expectation.MET and former.state is Expectation.UNMET:
            log.info("neighbor.expected_hostname", **fields)

    def _port_of(self, interface: str) -> str:
        """The port that LLDP speaks on: of a sub-interface the one below."""
        link = self._host.named(interface)
        if link is None or not link.parent:
            return interface
        return self._host.name_of(link.parent) or interface


def _says_no_more(verdict: Verdict, former: Verdict) -> bool:
    """Whether it is as wrong as before, though LLDP does not answer for a while."""
    both = verdict.state is former.state is Expectation.UNMET and verdict.expected == former.expected
    return both and {verdict.bgp, verdict.lldp} <= {"", former.bgp, former.lldp}


def _expected(neighbor: Neighbor) -> str:
    config = neighbor.peering.config
    return config.expect_hostname if isinstance(config, NeighborConfig) else ""


def full_name(host: str, domain: str) -> str:
    """The name of an FQDN capability, with its domain where it has one."""
    return f"{host}.{domain}" if host and domain and "." not in host else host


def is_expected(expected: str, name: str) -> bool:
    """Whether a name is the expected one, which may be a pattern; case does not matter.

    Where one of both has no domain, only the host part counts: many systems tell no more.
    """
    expected, name = expected.lower().rstrip("."), name.lower().rstrip(".")
    if "." not in expected:
        name = name.partition(".")[0]
    elif "." not in name:
        expected = expected.partition(".")[0]
    return fnmatchcase(name, expected)


def printable(name: str) -> str:
    """A name as it may be shown: whoever is plugged in chose its bytes."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:_LONGEST])
