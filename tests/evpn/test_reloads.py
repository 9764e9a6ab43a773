"""Reloads of VRFs, one after the other, leave what a host has that starts with the last of them: VRFs come, go, are
renamed, and change their tables, route distinguishers, uplinks and targets with each other, while sessions, routes and
workloads come and go."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.route_batch import Overlay
from tests.evpn.build import CONFIG, Host, host_route, prefix_route

NAMES = ("blue", "red", "green")
UPLINKS = ("eth0.101", "eth1.101", "eth0.102", "eth1.102")
TARGETS = ("65201:5001", "65201:5002", "65201:7")
PREFIXES = ("10.64.1.5/32", "10.64.1.6/32", "10.65.0.0/24", "2001:db8::5/128")
ROUTES = (
    prefix_route("10.70.0.0/24"),
    prefix_route("10.70.0.0/24", host="10.255.9.8:7"),
    prefix_route("0.0.0.0/0"),
    prefix_route("2001:db8:7::/48"),
    host_route("10.71.0.9"),
    host_route("10.1.0.0", host="10.255.9.8:7"),
)
Settings = dict[str, dict[str, Any]]


def written(vrfs: Settings) -> str:
    text = CONFIG[: CONFIG.index("[[vrf]]")]
    for name, settings in vrfs.items():
        text += f'[[vrf]]\nname = "{name}"\n'
        text += "".join(f"{key} = {value!r}\n".replace("'", '"') for key, value in settings.items())
    return text


def some_vrfs(chance: random.Random) -> Settings:
    names = chance.sample(NAMES, chance.randint(1, 3))
    tables, distinguishers = [1001, 1002, 1003], ["auto", "auto", "7:1", "7:2"]
    uplinks = list(UPLINKS)
    for values in (tables, distinguishers, uplinks):
        chance.shuffle(values)
    return {
        name: {
            "table": tables.pop(),
            "rd": distinguishers.pop(),
            "vni": chance.choice((5001, 5002)),
            "import_rt": chance.sample(TARGETS, chance.randint(1, 2)),
            "export_rt": chance.sample(TARGETS, 1),
            "uplinks": [uplinks.pop() for _ in range(chance.randint(0, min(2, len(uplinks))))],
            "resolve": chance.choice(("gateway-ip", "next-hop", "peer")),
        }
        for name in names
    }


def other_vrfs(chance: random.Random, vrfs: Settings) -> Settings:
    """One thing is another: two VRFs have each other's, one has another name; or all are others."""
    new = {name: dict(settings) for name, settings in vrfs.items()}
    free = [name for name in NAMES if name not in new]
    match chance.choice(("table", "rd", "uplinks", "import_rt", "export_rt", "resolve", "name", "all")):
        case "name" if free:
            old = chance.choice(list(new))
            return {free[0] if name == old else name: settings for name, settings in new.items()}
        case "all" | "name":
            return some_vrfs(chance)
        case key if len(new) > 1:
            one, two = chance.sample(list(new), 2)
            new[one][key], new[two][key] = new[two][key], new[one][key]
    return new


class Story:
    """What happens to one host, and what of it still counts."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.vrfs = some_vrfs(self.chance)
        self.host = Host(written(self.vrfs))
        self.up: dict[int, dict[bytes, dict[str, Any]]] = {}
        """What each neighbor has said."""
        self.workloads: set[tuple[str, str]] = set()
        self.session()
        for _ in range(8):
            self.workload()

    def reload(self) -> None:
        before, self.vrfs = self.vrfs, other_vrfs(self.chance, self.vrfs)
        self.host.reconfigure(written(self.vrfs))
        for vrf, prefix in sorted(self.workloads):
            if vrf in before and vrf not in self.vrfs:
                self.host.workload_deleted(prefix, vrf=vrf)
                self.workloads.discard((vrf, prefix))

    def session(self) -> None:
        number = self.chance.choice((1, 2))
        if number not in self.up:
            self.host.up(number)
            self.up[number] = {}
            return
        del self.up[number]
        self.host.down(self.host.sources[f"leaf{number}"])
        self.host.told = {place: batch for place, batch in self.host.told.items() if place[0] != f"leaf{number}"}

    def workload(self) -> None:
        vrf, prefix = self.chance.choice(list(self.vrfs)), self.chance.choice(PREFIXES)
        if (vrf, prefix) in self.workloads:
            self.host.workload_deleted(prefix, vrf=vrf)
        else:
            self.host.workload(prefix, vrf=vrf)
        self.workloads ^= {(vrf, prefix)}

    def route(self) -> None:
        if not self.up:
            return
        number, key = self.chance.choice(sorted(self.up)), self.chance.choice(ROUTES)
        source, said = self.host.sources[f"leaf{number}"], self.up[number]
        if key in said and self.chance.random() < 0.5:
            self.host.unhear(source, key)
            del said[key]
            return
        has_gateway = key[0] == 5 and len(key) == 18
        how = {
            "target": self.chance.choice(TARGETS),
            "gateway": self.chance.choice(("", "10.1.0.0", "10.2.0.0", "10.71.0.9")) if has_gateway else "",
            "next_hop": self.chance.choice(("10.1.0.0", "10.2.0.0", "192.0.2.9")),
        }
        self.host.hear(source, key, **how)
        said.pop(key, None)
        said[key] = how

    def as_from_a_start(self) -> Host:
        host = Host(written(self.vrfs))
        for number in sorted(self.up):
            source = host.up(number)
            for key, how in self.up[number].items():
                host.hear(source, key, **how)
        for vrf, prefix in sorted(self.workloads):
            host.workload(prefix, vrf=vrf)
        return host


def announced(host: Host) -> dict[tuple[str, bytes], tuple[bytes, Overlay | None]]:
    return {
        place: (batch.attributes.block, batch.overlay)
        for place, batch in host.told.items()
        if batch.attributes is not None
    }


def forwarded(host: Host) -> dict[tuple[str, Family, bytes], set[NextHop]]:
    return {
        (vrf, family, key): {hop for one in hops for hop in host.evpn.resolve(one)}
        for (vrf, family), table in host.fib.items()
        for key, hops in table.items()
        if vrf in host.evpn.vrfs
    }


@pytest.mark.parametrize("seed", range(10))
def test_each_reload_leaves_what_a_start_makes(seed: int) -> None:
    story = Story(seed)
    for _ in range(12):
        for _ in range(2):
            story.chance.choice((story.session, story.workload, story.route, story.route))()
        story.reload()
        expected = story.as_from_a_start()
        assert announced(story.host) == announced(expected)
        assert forwarded(story.host) == forwarded(expected)
