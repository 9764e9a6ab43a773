"""Who holds an address that several claim, before and after a restart."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.workload.feed.saved import Saved
from tests.workload.fixtures import Rig, claim, on

POD = "10.64.1.5/32"
SOURCES = ("static", "kernel", "mqtt", "api", "service")
SAVED = ("mqtt", "api", "service")
INTERFACES = {source: f"pod{number}" for number, source in enumerate(SOURCES)}


class OneAddress(Rig):
    """Sources that claim one address, each on another interface; `sources` in the order in which they do."""

    def __init__(self, *sources: str, ranks: dict[str, dict[str, int]] | None = None) -> None:
        super().__init__()
        for interface in INTERFACES.values():
            self.link(interface)
        for source, of in (ranks or {}).items():
            self.claims.remember(source, "a", "", of)
        for source in sources:
            self._claim(source)
        self.claims.started()
        self.settle()

    def come(self, *sources: str) -> None:
        for source in sources:
            self._claim(source)
            self.settle()

    def _claim(self, source: str) -> None:
        self.claims.claim(source, "a", (claim(POD, INTERFACES[source], source=source),))

    def leave(self, source: str) -> None:
        self.claims.claim(source, "a")
        self.settle()

    def order_known(self) -> None:
        self.claims.order_known()
        self.settle()

    def saved(self) -> dict[str, dict[str, int]]:
        """What is on disk: of those sources that save anything."""
        return {source: ranks for source in SAVED if (ranks := self.claims.ranks(source, "a"))}

    @property
    def order(self) -> list[str]:
        return [view.source for view in self.claims.views()]

    @property
    def route(self) -> str:
        """The interface of the kernel's route, "" if there is none."""
        hops = self.kernel.get(("", POD), ())
        return hops[0].interface if hops else ""


def test_uncontested_addresses_save_nothing() -> None:
    rig = OneAddress("mqtt")
    rig.order_known()
    assert rig.saved() == {}
    rig.claims.claim("api", "a", (claim(POD, INTERFACES["mqtt"], source="api"),))
    assert rig.saved() == {}, "they agree"


def test_first_stays_over_a_restart_that_hears_it_last() -> None:
    before = OneAddress()
    before.order_known()
    before.come("api", "mqtt")
    assert before.saved() == {"api": {POD: 0}, "mqtt": {POD: 3}}
    after = OneAddress("mqtt", ranks=before.saved())
    waits = "another claim of it came first before the restart, and is waited for"
    assert (after.state("mqtt", "a"), after.told) == (("pending", waits), [])
    after.come("api")
    assert (after.order, after.route) == (["api", "mqtt"], INTERFACES["api"])
    after.order_known()
    assert (after.saved(), after.route) == (before.saved(), INTERFACES["api"])
    assert [told for told in after.told if told[0] == "withdraw"] == []


def test_holder_that_does_not_come_back_is_waited_for_only_until_the_order_is_known() -> None:
    after = OneAddress("mqtt", ranks={"mqtt": {POD: 4}, "api": {POD: 3}})
    after.order_known()
    assert (after.route, after.state("mqtt", "a")) == (INTERFACES["mqtt"], ("announced", ""))
    after.come("api")
    assert after.saved() == {"mqtt": {POD: 0}, "api": {POD: 3}}


def test_configuration_stays_behind_what_came_first() -> None:
    """A static workload that was added by a reload is claimed first after a restart, and yields all the same."""
    before = OneAddress()
    before.order_known()
    before.come("mqtt", "static")
    after = OneAddress("static", ranks=before.saved())
    assert (after.order, after.told) == (["static"], [])
    after.come("mqtt")
    after.order_known()
    assert (after.order, after.route) == (["mqtt", "static"], INTERFACES["mqtt"])


def test_precedence_decides_who_follows_and_a_restart_does_not_change_that() -> None:
    before = OneAddress()
    before.order_known()
    before.come("mqtt", "kernel", "api", "static")
    before.leave("mqtt")
    assert before.order == ["static", "api", "kernel"]
    after = OneAddress("kernel", "static", "api", ranks=before.saved())
    after.order_known()
    assert (after.order, after.route) == (["static", "kernel", "api"], INTERFACES["static"])


def test_later_claim_than_those_of_the_start_waits() -> None:
    rig = OneAddress("kernel", "mqtt", "static")
    assert rig.order == ["mqtt", "static", "kernel"], "what was restored was there first"
    rig.leave("mqtt")
    rig.come("mqtt")
    assert rig.order == ["static", "kernel", "mqtt"]
    rig.leave("static")
    rig.come("api", "static")
    assert rig.order == ["mqtt", "kernel", "api", "static"]


def test_state_file_without_ranks_is_read() -> None:
    old = b'{"version": 1, "journal": 3, "workloads": {"a": {"addresses": ["10.0.0.1"]}}, "services": {}}'
    saved = msgspec.json.decode(old, type=Saved)
    assert (saved.workload_ranks, saved.service_ranks, list(saved.workloads)) == ({}, {}, ["a"])


@settings(deadline=None)
@given(
    came=st.permutations(SAVED),
    back=st.permutations(SAVED),
    left=st.sampled_from(["", *SAVED]),
)
def test_any_order_of_orchestrators_is_the_same_after_a_restart(came: list[str], back: list[str], left: str) -> None:
    before = OneAddress()
    before.order_known()
    before.come(*came)
    if left:
        before.leave(left)
        before.come(left)
    after = OneAddress(*back, ranks=before.saved())
    after.order_known()
    assert after.order == before.order
    assert after.kernel == before.kernel == {("", POD): on(INTERFACES[before.order[0]])}
    assert after.told == before_first(after), "no other route was ever written"


def before_first(rig: OneAddress) -> list[tuple[object, ...]]:
    """What was told, if there was never a route but the holder's."""
    routes = [told for told in rig.told if told[0] == "route"]
    return rig.told if routes == [("route", "", POD, on(rig.route))] else []
