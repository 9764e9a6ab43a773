"""An address that comes and goes is announced at once the first times, then held back until it stays."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.kernel import KernelEvent, LinkChanged
from bgpd.workload import damping
from bgpd.workload.damping import FORGET_S, STAY_S, Damping
from bgpd.workload.events import WorkloadEvents
from bgpd.workload.standing import AddressKey
from bgpd.workload.table import WorkloadTable
from tests.logs import capture_logs
from tests.workload.fixtures import V4, Rig, claim, key

POD, OTHER = "10.64.1.9/32", "10.64.1.10/32"
PLACE: AddressKey = (("", V4), key(POD))


class FakeClock:
    """Time that a test moves, with what is to be called on the way."""

    def __init__(self) -> None:
        self.now = 100.0
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._calls, (when, next(self._number), callback))

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self._calls and self._calls[0][0] <= until:
            self.now, _, callback = heapq.heappop(self._calls)
            callback()
        self.now = until

    @property
    def calls(self) -> int:
        return len(self._calls)


class Flapping(Rig):
    """A rig whose table damps by a clock of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.table = WorkloadTable(self, self, host=self.host, schedule=self._schedule, clock=self.clock)
        self.table.listeners.append(self)
        self.table.listeners.append(WorkloadEvents(self._later))
        self.claims = self.table.claims
        self.claims.order.starting = False
        self.link("pod1")

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.clock.call_at(self.clock.now + seconds, callback)

    def _host_changed(self, event: KernelEvent) -> None:
        if isinstance(event, LinkChanged):
            self.table.link_changed(event)

    def there(self, prefix: str = POD, *, source: str = "kernel", settle: bool = True) -> None:
        self.claims.claim(source, prefix, (claim(prefix, id=prefix, source=source, managed=source != "kernel"),))
        if settle:
            self.settle()

    def gone(self, prefix: str = POD, *, source: str = "kernel") -> None:
        self.claims.claim(source, prefix)
        self.settle()

    def flap(self, times: int, *, every_s: float = 0.06, source: str = "kernel") -> None:
        """Comes and goes, and is there in the end."""
        for _ in range(times):
            self.gone(source=source)
            self.clock.advance(every_s / 2)
            self.there(source=source)
            self.clock.advance(every_s / 2)

    def updates(self) -> int:
        """What neighbors were sent."""
        return sum(told[0] in ("announce", "withdraw") for told in self.told)


def test_the_first_goings_are_sent_at_once() -> None:
    rig = Flapping()
    rig.there()
    rig.flap(6)
    assert rig.updates() == 13
    assert rig.state("kernel", POD) == ("announced", "")


def test_address_that_comes_and_goes_1000_times_a_minute_is_announced_when_it_stays() -> None:
    rig = Flapping()
    rig.there()
    rig.there(OTHER)
    rig.flap(1000)
    assert rig.updates() < 20
    assert rig.state("kernel", POD) == ("damped", damping.HELD_BACK)
    assert ("", POD) not in rig.announced
    assert ("", OTHER) in rig.announced
    assert sum(OTHER in str(told) for told in rig.told) == 1
    before = rig.updates()
    rig.clock.advance(STAY_S - 0.1)
    rig.settle()
    assert rig.updates() == before
    rig.clock.advance(0.2)
    rig.settle()
    assert rig.updates() == before + 1
    assert rig.state("kernel", POD) == ("announced", "")
    assert rig.table.damping is not None
    assert rig.table.damping.begun == 1


def test_address_that_is_gone_in_the_end_is_not_announced_when_the_time_is_over() -> None:
    rig = Flapping()
    rig.there()
    rig.flap(100)
    rig.gone()
    before = rig.updates()
    rig.clock.advance(FORGET_S)
    rig.settle()
    assert rig.updates() == before
    assert rig.announced == {}
    rig.there()
    assert rig.state("kernel", POD) == ("announced", "")


def test_log_says_once_that_it_is_held_back() -> None:
    rig = Flapping()
    with capture_logs() as logs:
        rig.there()
        rig.flap(1000)
        rig.clock.advance(STAY_S)
        rig.settle()
    events = [entry["event"] for entry in logs]
    assert events.count("workload.damped") == 1
    assert events[-1] == "workload.announced"
    assert len(events) < 30


def test_log_does_not_name_each_of_very_many() -> None:
    """A bridge with a thousand pods that comes and goes."""
    rig = Flapping()
    damped = Damping(rig.clock, look_again=lambda place: None)
    places = [(PLACE[0], key(f"10.64.{number >> 8}.{number & 255}/32")) for number in range(1000)]
    with capture_logs() as logs:
        for place in places * 7:
            damped.gone(place)
        assert all(map(damped.why_held_back, places))
    assert damped.begun == 1000
    assert len(logs) <= 20


@pytest.mark.parametrize("source", ["addresses", "kernel", "bgp"])
def test_what_sources_report_is_damped(source: str) -> None:
    rig = Flapping()
    rig.there(source=source)
    rig.flap(50, source=source)
    assert rig.state(source, POD)[0] == "damped"
    assert rig.updates() < 20


def test_link_that_flaps_is_damped_too() -> None:
    rig = Flapping()
    rig.there()
    for _ in range(50):
        rig.link("pod1", up=False)
        rig.settle()
        rig.link("pod1")
        rig.settle()
    assert rig.state("kernel", POD)[0] == "damped"
    assert rig.updates() < 20


@pytest.mark.parametrize("source", ["static", "mqtt", "api"])
def test_what_somebody_orders_is_not_damped(source: str) -> None:
    rig = Flapping()
    rig.there(source=source)
    rig.flap(50, source=source)
    assert rig.updates() == 101
    assert rig.state(source, POD)[0] == "announced"


def test_address_that_another_claims_stays_announced_while_one_flaps() -> None:
    rig = Flapping()
    rig.there(source="static")
    rig.there(source="kernel")
    rig.flap(100)
    assert rig.updates() == 1


def test_changes_that_no_neighbor_was_sent_count_nothing() -> None:
    """Gone and back between two turns of the loop."""
    rig = Flapping()
    rig.there()
    for _ in range(50):
        rig.claims.claim("kernel", POD)
        rig.there()
    assert rig.updates() == 1
    assert rig.state("kernel", POD)[0] == "announced"


def test_address_held_back_is_held_by_its_claim() -> None:
    rig = Flapping()
    rig.link("pod2")
    rig.there()
    rig.flap(50)
    rig.claims.claim("api", "a", (claim(POD, "pod2", source="api"),))
    rig.settle()
    assert rig.state("kernel", POD)[0] == "damped"
    assert rig.state("api", "a")[0] == "conflict"
    assert rig.announced == {}
    rig.gone()
    assert rig.state("api", "a")[0] == "announced"


def test_nothing_is_left_of_addresses_that_went_once() -> None:
    clock = FakeClock()
    seen: list[AddressKey] = []
    some = Damping(clock, look_again=seen.append)
    for number in range(2000):
        some.gone((("", V4), bytes((32, 10, 0, number >> 8, number & 255))))
    clock.advance(3 * FORGET_S)
    assert (len(some._records), clock.calls, seen) == (0, 0, [])


def test_number_of_records_is_bounded_and_what_was_held_back_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damping, "MOST", 10)
    clock = FakeClock()
    seen: list[AddressKey] = []
    some = Damping(clock, look_again=seen.append)
    for _ in range(8):
        some.gone(PLACE)
    assert some.why_held_back(PLACE)
    for number in range(100):
        some.gone((("", V4), bytes((32, 10, 0, 0, number))))
    assert len(some._records) == 10
    assert seen == [PLACE]
    assert not some.why_held_back(PLACE)
    clock.advance(FORGET_S)
    assert seen == [PLACE]


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=60))
def test_address_that_stays_is_always_announced_in_the_end(pauses: list[float]) -> None:
    rig = Flapping()
    rig.there()
    for pause in pauses:
        rig.gone()
        rig.clock.advance(pause / 2)
        rig.settle()
        rig.there()
        rig.clock.advance(pause / 2)
        rig.settle()
    rig.clock.advance(STAY_S)
    rig.settle()
    assert ("", POD) in rig.announced
    assert rig.state("kernel", POD) == ("announced", "")
    withdrawn = sum(told[0] == "withdraw" for told in rig.told)
    assert withdrawn <= 7 + sum(pauses) / 2
