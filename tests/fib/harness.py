"""A Fib over the scripted kernel, with a RIB reduced to a dict of wishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from bgpd.config.schema import FibConfig
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.table import Fib
from bgpd.model.iana import Family
from bgpd.model.path import NextHop, NextHops
from bgpd.model.prefix import parse_address
from tests.fib.fake_kernel import FakeKernel, FakeReader

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
LEAF1, LEAF2 = NextHop(parse_address("10.0.0.0")), NextHop(parse_address("10.0.1.0"))
LEAF1_V6, LEAF2_V6 = NextHop(parse_address("fe80::1"), "eth0"), NextHop(parse_address("fe80::2"), "eth1")


class Harness:
    """`wishes` is what the RIB wants; `want` sets and tells it. The lists are what the Fib said.

    `expansions`: what abstract next hops lead to.
    """

    def __init__(self, kernel: FakeKernel, **config: object) -> None:
        self.kernel = kernel
        self.wishes: dict[tuple[Family, bytes], NextHops] = {}
        self.expansions: dict[NextHop, NextHops] = {}
        self.acknowledged: list[tuple[Family, bytes]] = []
        self.refused: list[tuple[Family, bytes, str]] = []
        self.told: list[tuple[NextHop, str]] = []
        self.backlogs: list[int] = []
        self.dataplane = Dataplane(kernel.monitor, bulk=kernel.bulk, urgent=kernel.urgent, reader=FakeReader(kernel))
        self.fib = Fib(
            FibConfig(**config),
            dataplane=self.dataplane,
            desired=lambda family, key: self.wishes.get((family, key)),
            acknowledged=self._acknowledge,
            refused=lambda family, keys, why: self.refused.extend((family, key, why) for key in keys),
            next_hop_changed=lambda hop, why: self.told.append((hop, why)),
            expand=lambda hop: self.expansions.get(hop, ()),
            taken=lambda: self.backlogs.append(self.fib.backlog),
        )

    def _acknowledge(self, family: Family, keys: Sequence[bytes]) -> None:
        self.acknowledged += [(family, key) for key in keys]

    def want(self, changes: Mapping[bytes, NextHops | None], family: Family = V4) -> None:
        """Wishes of this host itself."""
        self._wish(changes, family)
        self.fib.update(family, changes)

    def learn(self, changes: Mapping[bytes, NextHops | None], family: Family = V4) -> None:
        """Wishes from neighbors."""
        self._wish(changes, family)
        self.fib.update_learned(family, changes)

    def _wish(self, changes: Mapping[bytes, NextHops | None], family: Family) -> None:
        for key, wish in changes.items():
            if wish is None:
                self.wishes.pop((family, key), None)
            else:
                self.wishes[family, key] = wish

    async def settle(self) -> None:
        for _ in range(60):
            await asyncio.sleep(0)
        await asyncio.wait_for(self.fib.idle(), 5)
        await asyncio.sleep(0.03)
        await asyncio.wait_for(self.fib.idle(), 5)

    async def settle_retries(self) -> None:
        await asyncio.sleep(0.15)
        await self.settle()

    def state_of(self, prefix: str) -> tuple[str, str]:
        for view in self.fib.routes():
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
        await harness.fib.stop()
