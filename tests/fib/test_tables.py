"""All kernel tables as one object: a workload wins over a learned route, neighbors wait for the kernel."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from bgpd.config.schema import FibConfig
from bgpd.fib import batches, dataplane, recent_changes, tables
from bgpd.fib import views as fib_views
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.guard import Dependencies
from bgpd.fib.table import Fib
from bgpd.fib.tables import KernelTables
from bgpd.fib.targets import service_hop
from bgpd.fib.workload_routes import WorkloadRoutes
from bgpd.kernel.netlink import MessageKind
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import VrfFamily, format_address, parse_prefix
from bgpd.model.route_batch import RouteBatch
from bgpd.runtime.turns import Walks
from tests.fib.fake_kernel import FakeKernel, FakeReader
from tests.fib.harness import LEAF1, LEAF1_V6, LEAF2, V4, V6, two_leaf_kernel
from tests.rib.build import Recorder, attributes, configuration, leaf, session

KEY = parse_prefix("10.64.1.5/32")[1]
OTHER = parse_prefix("10.9.0.0/16")[1]
POD: NextHops = (NextHop(b"", "eth1"),)


class Learned:
    """Stands for the RIB and EVPN."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, Family, bytes], NextHops] = {}
        self.asked: list[NextHop] = []
        self.refused: list[bytes] = []

    def asked_next_hops(self, vrf: str) -> Collection[NextHop]:
        return self.asked if vrf == "blue" else ()

    def desired(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        return self.routes.get((vrf, family, key))

    def desired_all(self, vrf: str, family: Family, keys: Sequence[bytes]) -> list[NextHops | None]:
        return [self.desired(vrf, family, key) for key in keys]

    def table(self, vrf: str, family: Family) -> SimpleNamespace:
        keys: Collection[bytes] = [key for of, found, key in self.routes if (of, found) == (vrf, family)]
        return SimpleNamespace(routes=keys)

    def commit_gathered(self) -> None:
        """Nothing is gathered here."""

    def fib_refused(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        self.refused += keys

    def resolve(self, next_hop: NextHop) -> NextHops:
        return (next_hop,)


class Listener:
    """Stands for the listener and the workloads: keeps what it was told."""

    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []

    def kernel_acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        self.log.append(("acknowledged", vrf, *keys))

    def route_acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        self.log.append(("workload acknowledged", vrf, *keys))

    def route_refused(self, vrf: str, family: Family, keys: Sequence[bytes], why: str) -> None:
        self.log.append(("workload refused", vrf, *keys))

    def reachability_changed(self, vrf: str, next_hop: NextHop, why: str) -> None:
        self.log.append(("next hop", vrf, next_hop, bool(why)))

    def look_again(self, table: VrfFamily, keys: Iterable[bytes]) -> None:
        """Not of interest here."""

    def kernel_is_behind(self, busy: AbstractSet[str]) -> None:
        self.log.append(("behind",))

    def kernel_caught_up(self) -> None:
        self.log.append(("caught up",))


class Rig:
    def __init__(self, kernel: FakeKernel, learned: Any = None) -> None:
        self.kernel = kernel
        self.learned = learned or Learned()
        self.listener = Listener()
        self.log = self.listener.log
        dataplane = Dataplane(
            self.kernel.monitor, bulk=self.kernel.bulk, urgent=self.kernel.urgent, reader=FakeReader(self.kernel)
        )
        self.tables = KernelTables(
            FibConfig(),
            dataplane=dataplane,
            listener=self.listener,
            walks=Walks(failed=lambda error: None),
            needs=lambda _vrf: Dependencies(),
            interfaces=lambda _vrf: (),
        )
        self.tables.connect(self.learned, Learned(), self.listener)

    def learn(self, key: bytes, hops: NextHops | None) -> None:
        self.learned.routes.pop(("", V4, key), None)
        if hops is not None:
            self.learned.routes["", V4, key] = hops
        self.tables.update_learned("", V4, {key: hops})

    def learn_all(self, keys: list[bytes], hops: NextHops | None, *, cause: str = "", family: Family = V4) -> None:
        for key in keys:
            self.learned.routes.pop(("", family, key), None)
        if hops is not None:
            self.learned.routes.update({("", family, key): hops for key in keys})
        self.tables.update_learned("", family, dict.fromkeys(keys, hops), cause=cause)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        await self.tables.fibs[""].writer.idle()

    def next_hops(self, key: bytes) -> list[str]:
        view = fib_views.route(self.tables.fibs[""], V4, key)
        return [hop.address or hop.interface for hop in view.next_hops] if view else []


@asynccontextmanager
async def running(kernel: FakeKernel | None = None, learned: Any = None) -> AsyncIterator[Rig]:
    rig = Rig(kernel or two_leaf_kernel(), learned)
    await rig.tables.start(())
    try:
        yield rig
    finally:
        rig.kernel.bulk.release()  # a test that failed while batches were held must not wait for them
        await rig.tables.stop()


async def test_route_of_a_workload_wins_and_the_learned_one_follows_it() -> None:
    async with running() as it:
        it.learn(KEY, (LEAF1,))
        await it.settle()
        it.tables.set_workload_routes("", V4, {KEY: POD})
        await it.settle()
        assert it.next_hops(KEY) == ["eth1"]
        it.learn(KEY, (LEAF2,))
        await it.settle()
        assert it.next_hops(KEY) == ["eth1"]
        it.tables.set_workload_routes("", V4, {KEY: None})
        await it.settle()
        assert it.next_hops(KEY) == ["10.0.1.0"]


async def test_route_that_was_never_learned_goes_with_its_workload() -> None:
    async with running() as it:
        it.tables.set_workload_routes("", V4, {KEY: POD})
        await it.settle()
        it.tables.set_workload_routes("", V4, {KEY: None})
        await it.settle()
        assert it.next_hops(KEY) == []
        assert it.tables.installed == 0


async def test_only_routes_of_workloads_are_acknowledged_as_such() -> None:
    async with running() as it:
        it.learn(OTHER, (LEAF1,))
        it.tables.set_workload_routes("", V4, {KEY: POD})
        await it.settle()
        assert [entry for entry in it.log if entry[0] == "workload acknowledged"] == [
            ("workload acknowledged", "", KEY)
        ]
        assert {entry[2:] for entry in it.log if entry[0] == "acknowledged"} == {(OTHER,), (KEY,)}


async def test_refusal_of_a_workloads_route_is_reported_as_such() -> None:
    async with running() as it:
        it.tables.set_workload_routes("", V4, {KEY: (NextHop(b"", "nowhere"),)})
        it.learn(OTHER, (NextHop(b"", "nowhere"),))
        await it.settle()
        assert set(it.learned.refused) == {KEY, OTHER}
        assert [entry for entry in it.log if entry[0] == "workload refused"] == [("workload refused", "", KEY)]


async def test_what_a_recursive_next_hop_leads_to_is_not_dead_because_a_session_has_ended() -> None:
    """A leaf may have a session inside a VRF and one with EVPN: they share the gateway."""
    gateway = NextHop(bytes((10, 9, 9, 9)), "@blue/4:")
    through_leaf1 = Learned()
    through_leaf1.resolve = lambda _hop: (NextHop(LEAF1.address, "eth0"),)  # type: ignore[method-assign]
    learned = Learned()
    learned.fallback = lambda _vrf, _lost: lambda _used: None  # type: ignore[attr-defined]
    async with running(learned=learned) as it:
        it.tables.connect(learned, through_leaf1, it.listener)  # type: ignore[arg-type]
        it.learn(OTHER, (gateway,))
        it.learn(KEY, (LEAF2,))
        await it.settle()
        it.tables.next_hops_lost("", {LEAF1, LEAF2})
        await it.settle()
        assert it.kernel.hops_of(V4, OTHER) == {(LEAF1.address, 2)}
        assert (V4, 254, KEY) not in {place[:3] for place in it.kernel.routes}


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a table that need not be read on while the kernel's trie doubles: a test's routes are few."""
    monkeypatch.setitem(tables._READ_UNTIL, V4, 32_768)
    monkeypatch.setitem(tables._READ_AGAIN, V4, 8_192)


@pytest.mark.usefixtures("little_room")
async def test_neighbors_wait_while_too_much_is_to_be_written_and_go_on_when_it_is() -> None:
    async with running() as it:
        it.kernel.bulk.hold()
        changes = {bytes((32,)) + (10 << 24 | index).to_bytes(4, "big"): (LEAF1,) for index in range(20_000)}
        for shift in range(4):
            moved = {key[:1] + bytes((11 + shift,)) + key[2:]: hops for key, hops in changes.items()}
            it.learned.routes.update({("", V4, key): hops for key, hops in moved.items()})
            it.tables.update_learned("", V4, moved)
        assert it.log.count(("behind",)) >= 2
        assert ("caught up",) not in it.log
        it.kernel.bulk.release()
        await it.settle()
        assert [entry for entry in it.log if entry in (("behind",), ("caught up",))][-1] == ("caught up",)


@pytest.mark.usefixtures("little_room")
async def test_neighbors_wait_no_longer_than_a_moment_for_a_kernel_that_is_stuck() -> None:
    async with running() as it:
        it.kernel.bulk.hold()
        changes = {bytes((32,)) + (10 << 24 | index).to_bytes(4, "big"): (LEAF1,) for index in range(60_000)}
        it.tables.update_learned("", V4, dict(changes))
        assert it.log == [("behind",)]
        timer = it.tables._behind
        assert timer is not None
        assert timer.when() <= asyncio.get_running_loop().time() + tables._UNREAD_MOST_S
        timer._run()
        assert it.log[-1] == ("caught up",)
        it.kernel.bulk.release()


def many(first: int, count: int, family: Family = V4) -> list[bytes]:
    """So many host prefixes of a network."""
    length = 4 if family is V4 else 16
    numbers = (one.to_bytes(3, "big") for one in range(count))
    return [bytes((8 * length, first)) + one.ljust(length - 1, b"\0") for one in numbers]


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, and who has a thousand changes more is busy: the scripted kernel takes its time."""
    monkeypatch.setattr(batches, "BATCH", 128)
    monkeypatch.setattr(recent_changes, "AHEAD", 1_000)


ON_THE_WAY = 128 * dataplane._BATCHES_AHEAD


class Busy:
    """leaf1's routes come and go without end."""

    def __init__(self, it: Rig) -> None:
        self._it = it
        self.keys = many(20, 2_000)
        self._is_there = False
        self._at = 0

    def goes_on(self) -> None:
        chosen = self.keys[self._at : self._at + 500]
        self._it.learn_all(chosen, None if self._is_there else (LEAF1,), cause="leaf1")
        self._at = (self._at + 500) % len(self.keys)
        self._is_there ^= not self._at


def written(it: Rig) -> list[tuple[MessageKind, bytes]]:
    """The routes that the kernel has taken, or that have gone, in order."""
    return [(kind, what) for kind, what in it.kernel.log if isinstance(what, bytes)]


@pytest.mark.parametrize("count", [1, 600, 2_000])
@pytest.mark.usefixtures("few_are_many")
async def test_routes_of_a_neighbor_wait_for_a_few_batches_whatever_a_busy_one_has_waiting(count: int) -> None:
    """Others' messages, before the last of its own is there: those that are on their way, and no more."""
    async with running() as it:
        busy, pending = Busy(it), it.tables.fibs[""].writer.families[V4].pending
        for network in (30, 31):
            it.kernel.bulk.hold()
            for _ in range(60):
                busy.goes_on()
                await asyncio.sleep(0)
            mine = many(network, count)
            it.learn_all(mine, (LEAF2,), cause="leaf2")
            assert len(pending) > 1_500
            del it.kernel.log[:]
            it.kernel.bulk.release()
            while pending.has_first:
                busy.goes_on()
                await asyncio.sleep(0)
            keys = [key for _kind, key in written(it)]
            keys = keys[: keys.index(mine[-1])]
            assert len(keys) <= count + ON_THE_WAY
        await it.settle()


@pytest.mark.usefixtures("few_are_many")
async def test_who_sends_its_table_at_the_same_time_is_not_first() -> None:
    async with running() as it:
        it.kernel.bulk.hold()
        for start in range(0, 5_000, 500):
            for number in (1, 2):
                it.learn_all(many(10 + number, 5_000)[start : start + 500], (LEAF1,), cause=f"leaf{number}")
                assert not it.tables.fibs[""].writer.families[V4].pending.has_first
        it.kernel.bulk.release()
        await it.settle()


@pytest.mark.usefixtures("few_are_many")
async def test_what_was_overtaken_is_written_as_it_is_desired_by_then() -> None:
    async with running() as it:
        it.kernel.bulk.hold()
        busy = many(20, 3_000)
        it.learn_all(busy, (LEAF1,), cause="leaf1")
        await asyncio.sleep(0)
        it.learn_all(busy[-10:-5], (LEAF2,), cause="leaf2")
        it.learn_all(busy[-5:], None, cause="leaf2")
        it.kernel.bulk.release()
        await it.settle()
        hops = [it.next_hops(key) for key in (busy[0], *busy[-10:])]
        assert hops == [[format_address(LEAF1.address)]] + 5 * [[format_address(LEAF2.address)]] + 5 * [[]]


@pytest.mark.parametrize("cause", ["leaf1", "leaf2"])
@pytest.mark.usefixtures("few_are_many")
async def test_no_family_waits_for_the_other_one(cause: str) -> None:
    async with running() as it:
        it.kernel.bulk.hold()
        it.learn_all(many(20, 5_000), (LEAF1,), cause="leaf1")
        of_ipv6 = many(32, 500, V6)
        it.learn_all(of_ipv6, (LEAF1_V6,), cause=cause, family=V6)
        it.kernel.bulk.release()
        await it.settle()
        keys = [key for _kind, key in written(it)]
        assert keys.index(of_ipv6[-1]) <= 2 * 500 + ON_THE_WAY


@pytest.mark.usefixtures("few_are_many")
async def test_a_route_that_failed_is_tried_again_while_another_neighbor_leaves_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "_BACKLOG", 1_000)
    async with running() as it:
        it.kernel.refuse[KEY] = errno.ENOMEM
        it.learn(KEY, (LEAF1,))
        await it.settle()
        del it.kernel.refuse[KEY]
        busy, writer = Busy(it), it.tables.fibs[""].writer
        busy.keys = many(20, 6_000)
        it.kernel.bulk.hold()
        for _ in range(20):
            busy.goes_on()
            await asyncio.sleep(0)
        writer.try_again()
        it.kernel.bulk.release()
        for _ in range(500):
            while writer.backlog < 4_000:
                busy.goes_on()
            await asyncio.sleep(0)
            if it.next_hops(KEY):
                break
        assert it.next_hops(KEY)
        await it.settle()


@pytest.mark.usefixtures("few_are_many")
async def test_a_workloads_route_does_not_wait_for_those_of_neighbors() -> None:
    async with running() as it:
        it.kernel.bulk.hold()
        it.learn_all(many(20, 5_000), (LEAF1,), cause="leaf1")
        await asyncio.sleep(0)
        it.tables.set_workload_routes("", V4, {KEY: POD})
        it.kernel.bulk.release()
        await it.settle()
        assert [key for _kind, key in written(it)].index(KEY) <= ON_THE_WAY


async def test_the_sweep_waits_for_what_the_rib_has_gathered() -> None:
    """Else it would write the adopted route by the first leaf alone, and the gathered change bring the other back."""
    kernel, both = two_leaf_kernel(), (LEAF1, LEAF2)
    async with running(kernel) as before:
        before.learn(OTHER, both)
        await before.settle()
    kernel.log.clear()
    around = Recorder(configuration())
    async with running(kernel, around.rib) as it:
        around.rib.connect(kernel=it.tables, neighbors=around, evpn=around, workloads=around)
        first, second = (around.up(leaf(number), session(f"leaf{number}")) for number in (1, 2))
        await it.settle()
        around.announce(first, attributes(65201), LEAF1, "10.9.0.0/16")
        batch = RouteBatch(family=V4, announced=[OTHER], attributes=attributes(65201), next_hop=LEAF2)
        around.rib.received.routes_received(second, [batch])
        it.tables.sweep()
        await it.settle()
        around.turn()
        await it.settle()
        assert it.next_hops(OTHER) == ["10.0.0.0", "10.0.1.0"]
        assert kernel.log == []


async def test_service_that_yields_leaves_the_fabric_s_route_until_the_sweep() -> None:
    """After a crash the leaf may not have sent its routes yet, and the local backends do not answer."""
    kernel = two_leaf_kernel()
    async with running(kernel) as before:
        before.learn(KEY, (LEAF1,))
        await before.settle()
    kernel.log.clear()
    async with running(kernel) as it:
        it.tables.set_service_route("", V4, KEY, (LEAF2,), resilient=False, yields=True)
        await it.settle()
        assert kernel.log == []
        it.learn(KEY, (LEAF1,))
        await it.settle()
        assert it.next_hops(KEY) == ["10.0.0.0"]
    kernel.log.clear()
    async with running(kernel) as it:
        it.tables.set_service_route("", V4, KEY, (LEAF2,), resilient=False, yields=True)
        await it.settle()
        it.tables.sweep()
        await it.settle()
        assert it.next_hops(KEY) == ["10.0.1.0"], "no leaf has it any more"


async def test_a_new_table_of_a_vrf_is_given_what_there_is_for_it() -> None:
    async with running() as it:
        it.kernel.monitor.host.assign("eth1", "blue")
        blue = Fib(FibConfig(table=1001), dataplane=it.tables.fibs[""].dataplane, owner=it.tables, vrf="blue")
        it.learned.routes |= {("blue", V4, OTHER): (LEAF2,), ("blue", V4, KEY): (LEAF2,)}
        it.tables.set_workload_routes("blue", V4, {KEY: (NextHop(LEAF2.address, "", 2),)})
        await blue.start()
        it.tables.fibs["blue"] = blue
        it.tables.fill("blue")
        for _ in range(20):
            await asyncio.sleep(0)
        await blue.writer.idle()
        states = {view.prefix: view.state for view in filter(None, fib_views.routes(blue))}
        assert states == {"10.9.0.0/16": "installed", "10.64.1.5/32": "installed"}
        own = [entry for entry in it.log if entry[0] == "workload acknowledged"]
        assert own == [("workload acknowledged", "blue", KEY)]


async def test_a_new_table_of_a_vrf_is_given_services_and_what_takes_their_place() -> None:
    """A table that comes late, or another one of a VRF: nobody asks for the routes of services again."""
    async with running() as it:
        it.kernel.monitor.host.assign("eth1", "blue")
        other_key = parse_prefix("10.64.9.1/32")[1]
        it.learned.routes = {("blue", V4, KEY): (LEAF2,), ("blue", V4, other_key): (LEAF2,)}
        for round_number in range(2):
            blue = Fib(FibConfig(table=1001), dataplane=it.tables.fibs[""].dataplane, owner=it.tables, vrf="blue")
            if not round_number:
                for key, yields in ((KEY, True), (other_key, False)):
                    it.tables.set_service_route("blue", V4, key, (LEAF2,), resilient=False, yields=yields)
            await blue.start()
            it.tables.fibs["blue"] = blue
            it.tables.fill("blue")
            for _ in range(20):
                await asyncio.sleep(0)
            await blue.writer.idle()
            assert [entry for entry in it.log if entry[0] == "workload refused"] == []
            assert it.tables.desired("blue", V4, KEY) == (LEAF2,), "the service yields"
            assert it.tables.desired("blue", V4, other_key) == (service_hop(other_key),)
            assert set(blue.targets.services) == {service_hop(other_key)}
            it.learned.routes.pop(("blue", V4, KEY))
            it.tables.update_learned("blue", V4, {KEY: None})
            assert it.tables.desired("blue", V4, KEY) == (service_hop(KEY),)
            it.learned.routes["blue", V4, KEY] = (LEAF2,)
            del it.tables.fibs["blue"]
            await blue.stop()


async def test_workload_s_route_that_waits_for_its_interface_is_forgotten_when_a_service_takes_the_address() -> None:
    async with running() as it:
        it.kernel.monitor.host.assign("eth1", "blue")
        blue = Fib(FibConfig(table=1001), dataplane=it.tables.fibs[""].dataplane, owner=it.tables, vrf="blue")
        await blue.start()
        it.tables.fibs["blue"] = blue
        it.tables.set_workload_routes("blue", V4, {KEY: (NextHop(b"", "eth1"),)})
        assert it.tables.waits("blue", V4, KEY)
        it.tables.set_service_route("blue", V4, KEY, (LEAF2,), resilient=False)
        assert not it.tables.waits("blue", V4, KEY)
        del it.tables.fibs["blue"]
        await blue.stop()


async def test_next_hop_of_a_vrf_that_does_not_exist_leads_nowhere() -> None:
    async with running() as it:
        assert it.tables.why_unreachable("blue", LEAF1) == "there is no VRF blue"
        assert it.tables.why_unreachable("", LEAF1) == ""


def test_learned_changes_do_not_reach_a_workloads_prefix() -> None:
    routes = WorkloadRoutes()
    changes: dict[bytes, NextHops | None] = {KEY: (LEAF1,), OTHER: (LEAF1,)}
    assert routes.overlay("", V4, changes) is changes
    routes.set("", V4, {KEY: POD})
    assert routes.overlay("", V4, changes) == {OTHER: (LEAF1,)}
    assert routes.overlay("", V4, {KEY: None}) == {}
    assert len(routes) == 1


def test_tables_and_families_are_apart() -> None:
    routes = WorkloadRoutes()
    routes.set("blue", V4, {KEY: POD})
    assert routes.get("", V4, KEY) is None
    assert routes.get("blue", V6, KEY) is None
    assert routes.get("blue", V4, KEY) == POD
    assert routes.among("blue", V4, [OTHER, KEY]) == [KEY]
    assert routes.among("", V4, [OTHER, KEY]) == []


async def test_table_that_comes_again_says_anew_which_next_hops_lead_anywhere() -> None:
    """What was known is of the table that went; that it comes again is no news of a next hop otherwise."""
    async with running() as it:
        it.learned.asked = [LEAF1, LEAF2]
        for round_number in range(2):
            it.kernel.monitor.host.assign("eth1", "blue")
            blue = Fib(FibConfig(table=1001), dataplane=it.tables.fibs[""].dataplane, owner=it.tables, vrf="blue")
            await blue.start()
            it.tables.fibs["blue"] = blue
            it.log.clear()
            it.tables.fill("blue")
            assert it.log == [("next hop", "blue", LEAF1, True), ("next hop", "blue", LEAF2, False)], round_number
            it.tables.fibs["blue"].dataplane.assign({"eth0": "blue"})
            assert ("next hop", "blue", LEAF1, False) in it.log, "who was asked says so when that changes"
            for name in ("eth0", "eth1"):
                it.tables.fibs["blue"].dataplane.assign({name: None})
            del it.tables.fibs["blue"]
            await blue.stop()
