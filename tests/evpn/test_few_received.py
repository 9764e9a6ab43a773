"""EVPN routes that come few in an UPDATE take a short way; where it leads is where the long way does."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from bgpd.evpn.importer import Importer
from bgpd.model.as_path import AsPathSegment
from bgpd.model.attributes import Attributes
from bgpd.model.communities import parse_route_target
from bgpd.model.iana import SegmentType
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source
from bgpd.rib import received
from tests.evpn.build import CONFIG, EVPN, host_route, mobility, prefix_route
from tests.evpn.test_defects import state
from tests.evpn.test_many_vrfs import SteppingHost

LOCAL_ADDRESS = "10.64.5.5"
KEYS = [
    *(prefix_route(f"10.64.{number}.0/24") for number in range(4)),
    prefix_route("10.64.5.5/32"),
    prefix_route("10.1.0.7/32"),
    prefix_route("2001:db8:1::/48"),
    prefix_route("10.64.0.0/24", host="10.255.9.9:1002"),
    *(host_route(f"10.65.0.{number}", mac=f"02:00:00:00:00:0{number}") for number in range(4)),
    host_route("10.65.0.1", mac="02:00:00:00:00:09"),
    host_route(LOCAL_ADDRESS),
    host_route("10.2.0.0"),
    host_route("2001:db8::7"),
    host_route("fe80::7"),
    host_route("10.65.0.2", host="10.255.1.1:5001"),
]
TARGETS = [("65201:5001",), ("65201:5002",), ("65201:5001", "65201:5002"), ("65201:9",), ()]
EXTRA = [
    b"",
    b"",
    b"",
    b"",
    mobility(1),
    mobility(2),
    mobility(3, sticky=True),
    b"\x03\x0d" + bytes(6),
    b"\x06\x03\x02\0\0\0\0\1",
]
POLICY = CONFIG.replace('import = "all"', 'import = "most"') + (
    '[policy.most]\nrules = [{ match = { community = ["65201:666"] }, action = "reject" }, { action = "accept" }]\n'
)


def run(chance: random.Random) -> list[RouteBatch]:
    """Batches that are alike, as a rule."""
    some, targets = (
        chance.choice((KEYS, KEYS, KEYS[:4], KEYS[8:12])),
        chance.choice((TARGETS, TARGETS[:1], TARGETS[:1])),
    )
    return [batch(chance, some, targets) for _ in range(chance.randrange(1, 40))]


def batch(chance: random.Random, some: list[bytes], targets_of_run: list[tuple[str, ...]]) -> RouteBatch:
    """A path of its own, as a rule, with one key or a few."""
    keys = chance.sample(some, chance.choice((1, 1, 1, 1, len(some))))
    if not chance.randrange(12):
        return RouteBatch(EVPN, keys)
    targets = [parse_route_target(target) for target in chance.choice(targets_of_run)]
    extra = chance.choice((b"", *EXTRA))
    labels = [bytes((0, 0, chance.randrange(1, 4))) for _ in keys] if not chance.randrange(6) else None
    overlay = Overlay(
        bytes(10),
        () if labels else (chance.randrange(1, 4),),
        parse_address(chance.choice(("10.1.0.0", "10.65.0.1"))) if not chance.randrange(3) else b"",
    )
    attributes = Attributes.of(
        as_path=(AsPathSegment(SegmentType.AS_SEQUENCE, (65201, chance.choice((65203, 64600, 64601)))),),
        communities=(65201 << 16 | chance.choice((666, 1, 2)),),
        extended_communities=(*targets, *([extra] if extra else [])),
    )
    next_hop = NextHop(parse_address(chance.choice(("192.0.2.1", "192.0.2.2", "10.1.0.0"))))
    return RouteBatch(EVPN, (), keys, attributes, next_hop, overlay, labels)


def long_way(table: object, routes: object, batches: object, at: int, heard: object) -> int:
    return at


@pytest.mark.parametrize("text", [CONFIG, POLICY], ids=["all", "rules"])
@pytest.mark.parametrize("seed", range(30))
def test_both_ways_lead_to_the_same(seed: int, text: str, monkeypatch: pytest.MonkeyPatch, alike: list[int]) -> None:
    hosts = SteppingHost(text), SteppingHost(text)
    ways: tuple[Callable[..., int], ...] = received.enter_few_evpn, long_way
    states = []
    for host, way in zip(hosts, ways):
        monkeypatch.setattr(received, "enter_few_evpn", way)
        chance = random.Random(seed)
        host.step()
        sources: list[Source] = [host.up(1), host.up(2)]
        host.workload(f"{LOCAL_ADDRESS}/32", mac="02:00:00:00:00:05")
        seen = []
        for step in range(30):
            number = chance.randrange(2)
            host.now += chance.choice((0.0, 0.0, 11.0))
            if step % 13 == 12:
                host.down(sources[number])
                sources[number] = host.up(number + 1)
            host.rib.received.routes_received(sources[number], run(chance))
            host.turn()
            host.step()
            seen.append(state(host))
            table = host.rib.table("", EVPN)
            seen[-1]["labels"] = {
                (path.source.name, key): table.labels.overlay(path, key)
                for key, entry in table.routes.items()
                for path in entry.candidates
            }
        states.append(seen)
    for short, long in zip(*states):
        assert short == long
    assert alike


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many routes each went into a VRF by the short way."""
    counts: list[int] = []
    put = Importer._few_paths

    def counted(importer: Importer, routes: Sequence[tuple[Path, bytes]], *where: object) -> object:
        counts.append(len(routes))
        return put(importer, routes, *where)  # type: ignore[arg-type]

    monkeypatch.setattr(Importer, "_few_paths", counted)
    return counts
