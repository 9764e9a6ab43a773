"""What the history says of workloads and services at each moment is what was shown of them then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bgpd.history.answers import past
from bgpd.history.own import NOBODY
from bgpd.history.reading import NotKnown
from bgpd.history.recorder import History
from bgpd.history.segments import DIRECTORY
from bgpd.history.workload_records import WorkloadRecords
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.model.service import Backend, CheckType, HealthCheck, Service
from bgpd.model.source import Source, SourceKind
from bgpd.model.workload import Claim
from tests.history.moments import RecordedMoments, check_any_base, check_each_moment, then
from tests.history.rig import AGREED, config
from tests.rib.build import V4
from tests.workload.fixtures import Rig

INTERFACES = ("pod1", "pod2", "pod3")
CHECK = HealthCheck(type=CheckType.TCP, port=80, rise=1, fall=1)
SERVICE = Service(
    addresses=("10.96.0.1",),
    backends=(Backend(id="a", addresses=("10.64.1.1",)), Backend(id="b", addresses=("10.64.1.2",))),
    check=CHECK,
)


class OwnRecorded(RecordedMoments):
    """Workloads and services whose history is kept; a neighbor, leaf1, is sent what is announced."""

    def start(self) -> None:
        """A process that begins anew."""
        self.rig = Rig()
        self.rig.first_state.look()
        for interface in INTERFACES:
            self.rig.link(interface)
        self._listen(is_adopting=False)

    def _listen(self, *, is_adopting: bool) -> None:
        self.history = History(
            self.directory / DIRECTORY, max_bytes=self.max_bytes, config=config().rib, now=lambda: self.now
        )
        self._timers: list[Callable[[], None]] = []
        self.records = WorkloadRecords(
            self.history, self.rig.claims, self.rig.services, later=lambda _, call: self._timers.append(call)
        )
        self.rig.table.listeners[1:] = [self.rig.services, self.records]
        self.rig.services.listeners[:] = [self.records.service_changed]
        self.history.started((), is_adopting=is_adopting)
        self.leaf = Source(name="leaf1", kind=SourceKind.EBGP, asn=65201, router_id=b"leaf", address=b"\n\0\1\2")
        section = config().neighbor[0]
        self.history.session_up(self.leaf, AGREED["leaf1"], section, None, is_adopted=is_adopting)
        self.told: set[tuple[str, str]] = set(self.told) if is_adopting else set()

    def _tell(self, places: set[tuple[str, str]], *, is_gone: bool) -> None:
        for vrf, prefix in places:
            family, key = parse_prefix(prefix)
            attributes = None if is_gone else Attributes.of()
            self.history.told(self.leaf, (vrf, family), [key], attributes, b"\n\0\0\x09", spoken=family)

    def base(self) -> None:
        """All is said, and something happens meanwhile."""
        self.history.base_began((), ())
        self._tell(self.told, is_gone=False)
        for number, _ in enumerate(self.records.base()):
            if number == 1:
                self.claim()
                self.settle()
        self.history.base_ended()

    def claim(self) -> None:
        source, name = self.random.choice(("api", "static")), f"w{self.random.randint(1, 4)}"
        claims = [
            Claim(
                source=source,
                id=name,
                family=V4,
                key=parse_prefix(prefix)[1],
                interface=self.random.choice(INTERFACES),
                vrf=self.random.choice(("", "red")),
                manage_route=True,
                mac=self.random.choice((b"", b"\2\0\0\0\0\1")),
            )
            for prefix in self.random.sample([f"10.64.1.{number}/32" for number in range(1, 6)], 2)
        ]
        self.rig.claims.claim(source, name, claims if self.random.random() < 0.7 else ())

    def settle(self) -> None:
        self.rig.settle()
        while self._timers:
            self._timers.pop(0)()
        announced = set(self.rig.announced)
        self._tell(self.told - announced, is_gone=True)
        self._tell(announced - self.told, is_gone=False)
        self.told = announced

    def serve(self) -> None:
        name = self.random.choice(("dns", "web"))
        self.rig.services.apply("api", name, SERVICE if self.random.random() < 0.8 else None)

    def check(self) -> None:
        for id in [id for name in self.rig.services.names() for id in self.rig.services._services[name].targets]:
            self.rig.services.check_result(id, self.random.choice(("", "refused")), self.now)

    def hand_over(self) -> None:
        self.history.close(is_handed_over=True)
        self._listen(is_adopting=True)
        self.base()

    def act(self) -> None:
        self.now += self.random.choice((1, 1, 60))
        self.rig.now = self.now
        acts = [
            (20, self.claim),
            (4, lambda: self.rig.link(self.random.choice(INTERFACES), up=self.random.random() < 0.7)),
            (4, self.serve),
            (4, self.check),
            (3, self.write),
            (2, self.base),
            (1, self.hand_over),
            (0.5, self.crash),
        ]
        self.one_of(acts)
        self.settle()
        self.states[self.now] = self.shown()

    def shown(self) -> object:
        """What `bgpd show` would have answered."""
        workloads = []
        for view in self.rig.claims.views():
            if view.announced:
                view.neighbors = ["leaf1"]
            workloads.append(view)
        services = [self.rig.services.view(name) for name in self.rig.services.names()]
        return comparable(workloads), comparable(services)

    def said(self, at: float) -> object:
        found = (then(self.directory, kind, at).rows for kind in ("workloads", "services"))
        return tuple(map(comparable, found))


def comparable(views: list[Any]) -> list[Any]:
    """Claims of one address stand in the order of the claims, which is not kept; what a clock shows differs."""
    found = [msgspec.to_builtins(view) for view in views]
    return sorted(found, key=lambda view: (view.get("vrf"), view.get("prefix", ""), view.get("id"), view["source"]))


@pytest.mark.parametrize("seed", range(8))
def test_each_moment_is_as_it_was(seed: int, tmp_path: Path) -> None:
    check_each_moment(OwnRecorded(tmp_path, seed=seed), more_states_than=60)


def test_moments_are_found_from_any_base(tmp_path: Path) -> None:
    check_any_base(OwnRecorded(tmp_path, seed=99, max_bytes=24_000))


def test_rows_are_narrowed_and_counted(tmp_path: Path) -> None:
    recorded = OwnRecorded(tmp_path)
    for number, vrf in ((1, ""), (2, ""), (3, "red")):
        key = parse_prefix(f"10.64.1.{number}/32")[1]
        claim = Claim(source="api", id=f"pod{number}", family=V4, key=key, vrf=vrf, interface="pod1", manage_route=True)
        recorded.rig.claims.claim("api", f"pod{number}", [claim])
    six = Claim(source="api", id="six", family=Family.IPV6_UNICAST, key=parse_prefix("2001:db8::1/128")[1])
    recorded.rig.claims.claim("api", "six", [six])
    recorded.rig.services.apply("api", "dns", SERVICE)
    recorded.settle()
    recorded._tell({("", "10.64.1.2/32")}, is_gone=True)
    recorded.write()
    at = recorded.now

    def ids(**fields: Any) -> list[str]:
        return [one.id for one in then(tmp_path, "workloads", at, **fields).rows if one.source == "api"]

    assert ids() == ["pod1", "pod2", "six", "pod3"]
    assert ids(vrf="red") == ["pod3"]
    assert ids(vrf="", family="ipv4-unicast") == ["pod1", "pod2"]
    assert ids(prefix="10.64.1.0/24", longer_prefixes=True, vrf="") == ["pod1", "pod2"]
    assert ids(prefix="10.64.1.1/32") == ["pod1"]
    assert ids(search="POD2") == ["pod2"]
    assert ids(name="pod3") == ["pod3"]
    assert ids(state="failed") == []
    view = next(one for one in then(tmp_path, "workloads", at).rows if one.id == "pod2")
    assert (view.announced, view.neighbors, view.reason) == (False, [], NOBODY)
    first = then(tmp_path, "workloads", at, limit=2)
    assert (len(first.rows), first.total) == (2, len(then(tmp_path, "workloads", at).rows))
    assert [one.name for one in then(tmp_path, "services", at, state="withheld").rows] == ["dns"]
    assert then(tmp_path, "services", at, state="announced").rows == []
    with pytest.raises(NotKnown, match=r'"10\.64\.1\.0/99" is no prefix'):
        ids(prefix="10.64.1.0/99")
    with pytest.raises(NotKnown, match='has no "vrfs"'):
        then(tmp_path, "vrfs", at)
    with pytest.raises(NotKnown, match="begins at"):
        then(tmp_path, "workloads", at - 600)


def test_the_chain_of_an_own_address_begins_with_its_claim(tmp_path: Path) -> None:
    recorded = OwnRecorded(tmp_path)
    for prefix, interface in (("10.64.0.0/16", "pod1"), ("10.64.1.5/32", "pod2")):
        key = parse_prefix(prefix)[1]
        claim = Claim(source="api", id=interface, family=V4, key=key, interface=interface, manage_route=True)
        recorded.rig.claims.claim("api", interface, [claim])
    recorded.settle()
    recorded.now += 10
    recorded.rig.now = recorded.now
    recorded.rig.link("pod2", up=False)
    recorded.settle()
    recorded.write()

    def claims(at: float, address: str = "10.64.1.5", vrf: str = "") -> list[tuple[str, str, list[str]]]:
        view = past(tmp_path, parse_address(address), vrf, at=at)
        return [(one.prefix, one.state, one.neighbors) for one in view.claims]

    began = recorded.now - 10
    wide = ("10.64.0.0/16", "announced", ["leaf1"])
    assert claims(began) == [wide, ("10.64.1.5/32", "announced", ["leaf1"])]
    assert claims(began + 10) == [wide, ("10.64.1.5/32", "pending", [])]
    assert claims(began, "10.64.1.6") == [wide]
    assert claims(began, "10.99.0.1") == []
    with pytest.raises(NotKnown, match='no VRF "red"'):
        claims(began, vrf="red")
    verdict = past(tmp_path, parse_address("10.64.1.5"), "", at=began + 10).verdict
    assert verdict == ("no route: 10.64.1.5/32 was claimed for pod2 (api), which was pending: interface pod2 is down")


@pytest.mark.parametrize("is_at_the_end", [False, True])
def test_a_defect_in_what_is_said_of_services_costs_only_the_history(
    is_at_the_end: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = OwnRecorded(tmp_path)
    recorded.rig.services.apply("api", "dns", SERVICE)
    monkeypatch.setattr(recorded.rig.services, "view", lambda name: 1 / 0)
    if is_at_the_end:
        recorded.history.close()
    else:
        recorded.settle()
    assert not recorded.history.is_on
    assert "ZeroDivisionError" in recorded.history.error
