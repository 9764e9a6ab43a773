"""A route that goes into many VRFs goes there in steps, and whatever comes between two of them is right in the end."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

import msgspec
import pytest

from bgpd.evpn import importer
from bgpd.model.source import Source
from tests.evpn.build import CONFIG, EVPN, V4, Host, host_route, leaf, prefix_route
from tests.message.decoding import negotiated

PREFIXES = [f"10.64.{number}.0/24" for number in range(6)]
HOSTS = [f"10.65.0.{number}" for number in range(1, 5)]
KEYS = [*map(prefix_route, PREFIXES), *map(host_route, HOSTS), host_route(HOSTS[0], mac="02:00:00:00:00:08")]


def with_vrfs(names: set[int]) -> str:
    """A configuration in which these VRFs import the route target of "blue"; odd ones another one, too."""
    return CONFIG + "".join(
        f"""
[[vrf]]
name = "v{number}"
table = {2000 + number}
vni = {6000 + number}
import_rt = ["65201:5001"{', "65201:7"' if number % 2 else ""}]
export_rt = ["65201:{6000 + number}"]
uplinks = []
resolve = "next-hop"
"""
        for number in sorted(names)
    )


class SteppingHost(Host):
    """Walks advance when they are told to, in turn."""

    def __init__(self, text: str) -> None:
        self.walks: deque[Iterator[None]] = deque()
        super().__init__(text)

    def run(self, walk: Iterator[None]) -> None:
        self.walks.append(walk)

    def step(self, most: int = 1_000_000) -> None:
        for _ in range(most):
            if not self.walks:
                break
            walk = self.walks.popleft()
            for _ in walk:
                self.walks.append(walk)
                break
        self.turn()


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "FEW", 2)
    monkeypatch.setattr(importer, "_KEYS", 3)
    monkeypatch.setattr(importer, "_STEP", 24)


def content(host: Host, vrf: str) -> dict[bytes, set[tuple[str, int, object]]]:
    """By prefix, what its candidates say."""
    return {
        key: {(path.source.name, path.attributes.med or 0, path.next_hop) for path in entry.candidates}
        for key, entry in host.rib.table(vrf, V4).routes.items()
    }


def test_few_vrfs_have_a_route_at_once_and_many_have_it_after_some_steps() -> None:
    few, many = SteppingHost(CONFIG), SteppingHost(with_vrfs(set(range(20))))
    for host in (few, many):
        host.step()
        host.hear(host.up(1), *KEYS[:6])
    assert len(content(few, "blue")) == 6
    assert not few.evpn.is_importing
    assert sum(map(len, (content(many, f"v{number}") for number in range(20)))) == 0
    assert many.evpn.is_importing
    many.step(3)
    assert 0 < sum(map(len, (content(many, f"v{number}") for number in range(20)))) < 120
    many.step()
    assert not many.evpn.is_importing
    assert all(len(content(many, f"v{number}")) == 6 for number in range(20))


def test_what_a_session_with_another_as_leaves_behind_goes_with_its_successor() -> None:
    host = SteppingHost(CONFIG)
    host.step()
    former = host.up(1)
    host.hear(former, *KEYS[:6])
    changed = msgspec.structs.replace(leaf(1), asn=65209)
    host.evpn.neighbor_up(changed, (EVPN,))
    host.rib.received.neighbor_up(changed, negotiated(families=(EVPN,)), host.config.neighbor[0])
    hear(host, changed, KEYS[:2], "65201:5001", 3)
    host.run(host.rib.received.neighbor_down(former))
    host.down(changed)
    host.step()
    assert content(host, "blue") == {}


def test_routes_of_a_session_that_is_kept_beyond_its_end_live_on_until_they_are_swept() -> None:
    host = SteppingHost(with_vrfs(set(range(20))))
    host.step()
    former = host.up(1)
    host.hear(former, *KEYS[:6])
    host.step()
    fresh = host.up(1)
    hear(host, fresh, KEYS[:2], "65201:5001", 3)
    host.reconfigure(with_vrfs(set(range(21))))
    host.step()
    assert all(len(content(host, f"v{number}")) == 6 for number in range(21))
    host.evpn.neighbor_down(former)
    host.run(host.rib.received.neighbor_down(former))
    host.step()
    assert all(len(content(host, f"v{number}")) == 2 for number in range(21))


def test_the_state_is_not_complete_while_something_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bool] = []
    host = SteppingHost(with_vrfs(set(range(20))))
    assert host.evpn.is_importing
    host.step()
    assert not host.evpn.is_importing
    monkeypatch.setattr(host.evpn.endpoints, "all_heard", lambda: heard.append(host.evpn.is_importing))
    host.hear(host.up(1), *KEYS[:6])
    host.evpn.converged()
    assert host.evpn.is_importing
    assert not heard
    host.step()
    assert heard == [False]


@pytest.mark.parametrize("seed", range(40))
def test_what_comes_between_two_steps_is_right_in_the_end(seed: int) -> None:
    chance = random.Random(seed)
    vrfs = set(range(12))
    host = SteppingHost(with_vrfs(vrfs))
    host.step()
    sessions: dict[int, Source] = {number: host.up(number) for number in (1, 2)}
    told: dict[int, dict[bytes, tuple[str, int]]] = {1: {}, 2: {}}
    for _ in range(60):
        number = chance.choice((1, 2))
        keys = chance.sample(KEYS, chance.randint(1, 5))
        match chance.randrange(10):
            case 0 | 1 | 2 | 3:
                said = chance.choice(("65201:5001", "65201:7", "65201:9")), chance.randrange(1, 4)
                hear(host, sessions[number], keys, *said)
                told[number].update(dict.fromkeys(keys, said))
            case 4 | 5:
                host.unhear(sessions[number], *keys)
                for key in keys:
                    told[number].pop(key, None)
            case 6:
                host.down(sessions[number])
                sessions[number] = host.up(number)
                told[number] = {}
            case 7:
                vrfs ^= {chance.randrange(14)}
                host.reconfigure(with_vrfs(vrfs))
            case _:
                host.step(chance.randint(1, 12))
    host.step()
    expected = Host(with_vrfs(vrfs))
    for number in (1, 2):
        source = expected.up(number)
        for key, said in told[number].items():
            hear(expected, source, [key], *said)
    for name in ("blue", "red", *(f"v{number}" for number in range(14))):
        wanted = content(expected, name)
        assert content(host, name) == wanted, name
    assert not host.evpn.is_importing


def hear(host: Host, source: Source, keys: list[bytes], target: str, distance: int) -> None:
    host.hear(source, *keys, target=target, next_hop=f"192.0.2.{distance}")
