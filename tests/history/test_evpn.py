"""What the history says of EVPN routes at each moment is what was shown of them then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bgpd.evpn.views import evpn_routes
from bgpd.history.base import base
from bgpd.history.reading import NotKnown
from bgpd.history.recorder import History
from bgpd.history.records import Tenants
from bgpd.history.segments import DIRECTORY
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.attributes import Attributes
from bgpd.model.communities import parse_route_target
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source
from bgpd.model.views.queries import ViewQuery
from tests.evpn.build import CONFIG, EVPN, Host, host_route, prefix_route
from tests.history.moments import RecordedMoments, check_any_base, check_each_moment, then
from tests.message.decoding import attribute, negotiated, reach, unreach, update

AGREED = negotiated(families=(EVPN,))
HOSTS = [host_route(f"10.64.0.{number}", mac=f"02:00:00:00:00:0{number}") for number in range(1, 6)]
PREFIXES = [prefix_route(f"10.{number}.0.0/16") for number in range(1, 4)]
OTHER = host_route("10.64.0.1", host="10.255.9.8:1002")
KEYS = [*HOSTS, *PREFIXES, OTHER]


class Recording(Host):
    """A host whose RIB is recorded."""

    def __init__(self, history: History) -> None:
        super().__init__(CONFIG.replace('import = "all"', 'import = "all"\nexport = "all"'))
        self.rib.connect(kernel=self, neighbors=self, evpn=self.evpn, workloads=self, recorder=history)

    def as_sent(self, source: Source, batch: RouteBatch) -> tuple[Attributes, bytes] | None:
        return (batch.attributes, b"") if batch.attributes is not None else None


class EvpnRecorded(RecordedMoments):
    """One process after the other. `states` is what the EVPN table had at each time."""

    def start(self) -> None:
        self.history = History(
            self.directory / DIRECTORY, max_bytes=self.max_bytes, config=self.config, now=lambda: self.now
        )
        self.history.started((), is_adopting=False)
        self.host = Recording(self.history)
        self.host.now = self.now
        self.history.stands(Tenants(self.now, self.host.evpn.tenants()))
        self.decoders: dict[str, UpdateDecoder] = {}
        self.base()  # of the gateways' routes, which were there before they were recorded

    @property
    def config(self) -> Any:
        return Host().config.rib

    def up(self, number: int) -> None:
        if f"leaf{number}" not in self.decoders:
            self.host.up(number)
            nlri: Any = {EVPN: EvpnNlri()}
            self.decoders[f"leaf{number}"] = UpdateDecoder(AGREED, nlri_decoders=nlri, accept_martians=False)

    def down(self, number: int) -> None:
        if self.decoders.pop(f"leaf{number}", None) is not None:
            source = self.host.sources[f"leaf{number}"]
            self.history.session_closed(source, "hold timer expired", {})
            self.host.down(source)

    def hear(self, number: int, *bodies: bytes) -> None:
        decoder = self.decoders.get(f"leaf{number}")
        if decoder is not None:
            source = self.host.sources[f"leaf{number}"]
            read: list[Sequence[RouteBatch]] = [decoder.decode(body).batches for body in bodies]
            assert all(read)
            self.history.heard(source, bodies, [batch for batches in read for batch in batches])
            for batches in read:
                self.host.rib.received.routes_received(source, batches)

    def base(self) -> None:
        for number, _ in enumerate(base(self.history, self.host.rib, self.host.kernel, lambda: False)):
            if number == 1:
                self.hear(1, self.message())

    def message(self) -> bytes:
        """An UPDATE that announces or withdraws some routes, with one label for all of them or one for each."""
        chosen = self.random.sample(KEYS, self.random.randint(1, 3))
        is_alike = self.random.random() < 0.5
        labels = [5001 if is_alike else self.random.randint(1, 9) for _ in chosen]
        if self.random.random() < 0.3:
            return update(unreach(25, 70, nlri(chosen, labels)))
        target = parse_route_target(self.random.choice(("65201:5001", "65201:5002", "65201:9")))
        block = attribute(1, b"\0", 0x40)
        block += attribute(2, bytes((2, 1)) + (65201).to_bytes(4, "big"), 0x40) + attribute(16, target, 0xC0)
        block += reach(25, 70, parse_address(self.random.choice(("192.0.2.1", "192.0.2.2"))), nlri(chosen, labels))
        return update(block)

    def own(self) -> None:
        prefix = f"10.99.0.{self.random.randint(1, 3)}/32"
        if self.random.random() < 0.6:
            self.host.workload(prefix, mac=self.random.choice(("", "02:00:00:00:00:77")))
        else:
            self.host.workload_gone(prefix)

    def act(self) -> None:
        self.now += self.random.choice((1, 1, 60))
        self.host.now = self.now
        number = self.random.choice((1, 2))
        acts = [
            (30, lambda: self.hear(number, *(self.message() for _ in range(self.random.randint(1, 3))))),
            (10, lambda: self.up(number)),
            (2, lambda: self.down(number)),
            (6, self.own),
            (4, self.write),
            (3, self.base),
            (0.5, self.crash),
        ]
        self.one_of(acts)
        self.host.turn()
        self.states[self.now] = comparable(list(filter(None, evpn_routes(self.host.evpn, ViewQuery()))))

    def said(self, at: float) -> object:
        return comparable(then(self.directory, "evpn", at).rows)


def nlri(keys: Sequence[bytes], labels: Sequence[int]) -> bytes:
    encoder = EvpnNlri()
    return b"".join(encoder.encode(key, Overlay(bytes(10), (label,))) for key, label in zip(keys, labels))


def comparable(views: list[Any]) -> object:
    """How a route resolves is not kept, and times that the table keeps by ten seconds differ."""
    found = []
    for view in views:
        candidates = [
            msgspec.to_builtins(msgspec.structs.replace(one, resolution=[], unresolved="", heard_at=0.0))
            for one in view.candidates
        ]
        found.append({**msgspec.to_builtins(view), "candidates": candidates})
    return sorted(found, key=lambda one: (one["type"], one["rd"], one["mac"], one["prefix"], one["originator"]))


@pytest.mark.parametrize("seed", range(8))
def test_each_moment_is_as_it_was(seed: int, tmp_path: Path) -> None:
    check_each_moment(EvpnRecorded(tmp_path, seed=seed), more_states_than=40)


def test_moments_are_found_from_any_base(tmp_path: Path) -> None:
    check_any_base(EvpnRecorded(tmp_path, seed=99, max_bytes=32_000))


def test_rows_are_narrowed_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = EvpnRecorded(tmp_path)
    recorded.up(1)
    block = attribute(1, b"\0", 0x40) + attribute(2, bytes((2, 1)) + (65201).to_bytes(4, "big"), 0x40)
    block += attribute(16, parse_route_target("65201:5002"), 0xC0)
    routes = nlri([HOSTS[0], HOSTS[1], OTHER, PREFIXES[0]], [5002] * 4)
    recorded.hear(1, update(block + reach(25, 70, parse_address("192.0.2.1"), routes)))
    recorded.write()
    at = recorded.now

    def shown(**fields: Any) -> list[str]:
        return sorted(f"{one.prefix} {one.rd}" for one in then(tmp_path, "evpn", at, **fields).rows)

    own = [one for one in shown() if one.endswith(("10.255.1.1:1001", "10.255.1.1:1002"))]
    first, second = "10.64.0.1/32 10.255.9.9:1001", "10.64.0.2/32 10.255.9.9:1001"
    other, prefix = "10.64.0.1/32 10.255.9.8:1002", "10.1.0.0/16 10.255.9.9:1001"
    assert sorted({*shown()} - {*own}) == sorted((first, second, other, prefix))
    assert shown(neighbor="leaf1") == shown(search="leaf1") == sorted((first, second, other, prefix))
    assert shown(search="10.64.0.1") == sorted((first, other))
    assert shown(search="02:00:00:00:00:02") == shown(mac="02:00:00:00:00:02") == [second]
    assert shown(search="10.255.9.8:1002") == shown(rd="10.255.9.8:1002") == [other]
    assert shown(type=5, neighbor="leaf1") == [prefix]
    assert shown(vrf="red", neighbor="leaf1") == shown(neighbor="leaf1")
    assert shown(vrf="blue", neighbor="leaf1") == []
    assert shown(prefix="10.64.0.0/24", longer_prefixes=True) == sorted((first, second, other))
    assert shown(search="leaf9") == []
    assert then(tmp_path, "evpn", at).total == 4 + len(own)
    assert len(then(tmp_path, "evpn", at, limit=2).rows) == 2
    monkeypatch.setattr("bgpd.history.prefixes.MOST_KEYS", 5)
    with pytest.raises(NotKnown, match=r"more than .* EVPN routes: ask for a type"):
        then(tmp_path, "evpn", at)
    assert shown(type=5, neighbor="leaf1") == [prefix]
