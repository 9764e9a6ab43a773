"""A Fib over the scripted kernel, with an owner reduced to a dict of what it wants."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from bgpd.config.schema import FibConfig
from bgpd.fib import views as fib_views
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.table import Fib
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import parse_address
from tests.fib.fake_kernel import FakeKernel, FakeReader

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
LEAF1, LEAF2 = NextHop(parse_address("10.0.0.0")), NextHop(parse_address("10.0.1.0"))
LEAF1_V6, LEAF2_V6 = NextHop(parse_address("fe80::1"), "eth0"), NextHop(parse_address("fe80::2"), "eth1")


class ScriptedOwner:
    """Stands for all that wants routes: `tables` has it by VRF. The lists are what the tables said.

    `expansions`: what recursive next hops lead to.
    """

    def __init__(self) -> None:
        self.tables: defaultdict[str, dict[tuple[Family, bytes], NextHops]] = defaultdict(dict)
        self.expansions: dict[NextHop, NextHops] = {}
        self.acks: list[tuple[Family, bytes]] = []
        self.refusals: list[tuple[Family, bytes, str]] = []
        self.told: list[tuple[NextHop, str]] = []
        self.shrank: Callable[[], None] = lambda: None

    def wish(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        """From now on these are wanted; no table hears of it."""
        for key, wish in changes.items():
            if wish is None:
                self.tables[vrf].pop((family, key), None)
            else:
                self.tables[vrf][family, key] = wish

    def desired(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        return self.tables[vrf].get((family, key))

    def desired_all(self, vrf: str, family: Family, keys: Sequence[bytes]) -> list[NextHops | None]:
        return [self.desired(vrf, family, key) for key in keys]

    def resolve(self, next_hop: NextHop) -> NextHops:
        return self.expansions.get(next_hop, ())

    def acknowledged(self, _vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        self.acks += [(family, key) for key in keys]

    def refused(self, _vrf: str, family: Family, keys: Sequence[bytes], why: str) -> None:
        self.refusals += [(family, key, why) for key in keys]

    def next_hop_changed(self, _vrf: str, next_hop: NextHop, why: str) -> None:
        self.told.append((next_hop, why))

    def reserved_changed(self, vrf: str, family: Family, keys: Iterable[bytes]) -> None:
        """Nobody asks what is reserved."""

    def backlog_shrank(self) -> None:
        self.shrank()


class Harness:
    """A Fib of the main table and its owner; `want` and `learn` set what is wanted and say so."""

    def __init__(self, kernel: FakeKernel, **config: object) -> None:
        self.kernel = kernel
        self.owner = ScriptedOwner()
        self.wishes = self.owner.tables[""]
        self.acknowledged = self.owner.acks
        self.refused = self.owner.refusals
        self.told = self.owner.told
        self.backlogs: list[int] = []
        self.owner.shrank = lambda: self.backlogs.append(self.fib.writer.backlog)
        self.dataplane = Dataplane(kernel.monitor, bulk=kernel.bulk, urgent=kernel.urgent, reader=FakeReader(kernel))
        self.fib = Fib(FibConfig(**config), dataplane=self.dataplane, owner=self.owner)

    @property
    def expansions(self) -> dict[NextHop, NextHops]:
        """What recursive next hops lead to."""
        return self.owner.expansions

    @expansions.setter
    def expansions(self, expansions: dict[NextHop, NextHops]) -> None:
        self.owner.expansions = expansions

    def want(self, changes: Mapping[bytes, NextHops | None], family: Family = V4) -> None:
        """Wishes of this host itself."""
        self.owner.wish("", family, changes)
        self.fib.writer.update(family, changes)

    def learn(self, changes: Mapping[bytes, NextHops | None], family: Family = V4) -> None:
        """Wishes from neighbors."""
        self.owner.wish("", family, changes)
        self.fib.writer.update_learned(family, changes)

    async def settle(self) -> None:
        for _ in range(60):
            await asyncio.sleep(0)
        await asyncio.wait_for(self.fib.writer.idle(), 5)
        await asyncio.sleep(0.03)
        await asyncio.wait_for(self.fib.writer.idle(), 5)

    async def settle_retries(self) -> None:
        await asyncio.sleep(0.15)
        await self.settle()

    def state_of(self, prefix: str) -> tuple[str, str]:
        for view in filter(None, fib_views.routes(self.fib)):
            if view.prefix == prefix:
                return view.state, view.error
        return "", ""


def two_leaf_kernel() -> FakeKernel:
    """A host with an uplink to each of two leaves."""
    kernel = FakeKernel()
    kernel.add_link(2, "eth0", "10.0.0.1/31", "2001:db8::1/64")
    kernel.add_link(3, "eth1", "10.0.1.1/31")
    return kernel


@asynccontextmanager
async def running(kernel: FakeKernel | None = None, **config: object) -> AsyncIterator[Harness]:
    """A started Fib; stopped at the end."""
    harness = Harness(kernel or two_leaf_kernel(), **config)
    await harness.fib.start()
    try:
        yield harness
    finally:
        harness.kernel.bulk.release()  # a test that failed while batches were held must not wait for them
        await harness.fib.stop()
