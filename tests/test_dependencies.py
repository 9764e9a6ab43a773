"""What the host's own traffic needs: gathered from the configuration, sessions, the broker's name and resolv.conf."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from bgpd.config.schema import Config
from bgpd.config.schema_workloads import MqttWorkloadConfig
from bgpd.dependencies import RESOLVE_LOOKS, HostNeeds, UsedServers
from bgpd.model.prefix import format_address, parse_address
from bgpd.model.source import Source, SourceKind

BROKER = MqttWorkloadConfig(broker="mqtt://broker.example:1883")
GUEST = {"asn": "external", "prefixes": ["10.9.9.0/24 le 32"], "max_prefixes": 10}


class Servers:
    """UsedServers over files in a directory and a scripted resolver."""

    def __init__(self, root: Path, mqtt: MqttWorkloadConfig | None = BROKER) -> None:
        self.root = root
        self.answers: Iterable[str] | Exception = ("203.0.113.5", "2001:db8::5")
        self.asked: list[str] = []
        self.changes = 0
        self.used = UsedServers(mqtt, changed=self._changed, resolve=self._resolve, root=root)

    def _changed(self) -> None:
        self.changes += 1

    async def _resolve(self, name: str) -> Iterable[bytes]:
        self.asked.append(name)
        if isinstance(self.answers, Exception):
            raise self.answers
        return [parse_address(text) for text in self.answers]

    def write(self, file: str, *lines: str) -> None:
        path = self.root / file.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        os.replace(new, path)

    @property
    def addresses(self) -> set[str]:
        return set(map(format_address, self.used.addresses))


async def test_resolvers_and_all_addresses_of_the_broker_count(tmp_path: Path) -> None:
    it = Servers(tmp_path)
    lines = "# nameserver 9.9.9.9", "search example", "nameserver 10.0.0.53", "nameserver 2001:db8::53"
    it.write("/etc/resolv.conf", *lines, "nameserver fe80::1%eth0", "nameserver not-an-address", "nameserver")
    await it.used.look()
    assert it.addresses == {"10.0.0.53", "2001:db8::53", "203.0.113.5", "2001:db8::5"}
    assert it.used.addresses[parse_address("203.0.113.5")] == "the MQTT broker broker.example"


async def test_changes_of_the_file_and_of_the_name_are_followed(tmp_path: Path) -> None:
    it = Servers(tmp_path)
    it.write("/etc/resolv.conf", "nameserver 10.0.0.53")
    await it.used.look()
    it.write("/etc/resolv.conf", "nameserver 10.0.0.54")
    it.answers = ("203.0.113.6",)
    await it.used.look()
    assert it.addresses == {"10.0.0.54", "203.0.113.6"}
    told = it.changes
    it.answers = ("203.0.113.7",)
    for _ in range(RESOLVE_LOOKS):
        await it.used.look()
    assert it.addresses == {"10.0.0.54", "203.0.113.7"}
    assert it.changes == told + 1


async def test_the_name_is_resolved_anew_when_the_hosts_file_changes(tmp_path: Path) -> None:
    it = Servers(tmp_path)
    it.write("/etc/hosts", "203.0.113.5 broker.example")
    await it.used.look()
    it.write("/etc/hosts", "203.0.113.66 broker.example")
    it.answers = ("203.0.113.66",)
    await it.used.look()
    assert it.addresses == {"203.0.113.66"}


async def test_what_cannot_be_read_or_resolved_now_stays_as_it_was(tmp_path: Path) -> None:
    it = Servers(tmp_path)
    it.write("/etc/resolv.conf", "nameserver 10.0.0.53")
    await it.used.look()
    (tmp_path / "etc/resolv.conf").unlink()
    for error in (OSError("no answer"), UnicodeError("label too long")):
        it.answers = error
        await it.used.look()
        assert it.addresses == {"10.0.0.53", "203.0.113.5", "2001:db8::5"}
    asked = len(it.asked)
    await it.used.look()
    assert len(it.asked) == asked + 1, "what failed is tried again at the next look"


async def test_the_resolvers_behind_a_local_stub_count(tmp_path: Path) -> None:
    it = Servers(tmp_path, None)
    it.write("/etc/resolv.conf", "nameserver 127.0.0.53")
    it.write("/run/systemd/resolve/resolv.conf", "nameserver 10.0.0.53")
    await it.used.look()
    assert it.addresses == {"10.0.0.53"}
    assert it.asked == []


@pytest.mark.parametrize("broker", ["mqtt://127.0.0.1", "mqtts://[::1]:8883"])
async def test_a_broker_on_this_host_needs_nothing(tmp_path: Path, broker: str) -> None:
    it = Servers(tmp_path, MqttWorkloadConfig(broker=broker))
    it.answers = ("127.0.0.1", "::1")
    await it.used.look()
    assert it.addresses == set()


def test_each_vrf_needs_its_own_neighbors_and_uplinks() -> None:
    config = msgspec.convert(
        {
            "router": {"asn": 65203, "router_id": "10.255.1.1"},
            "neighbor": [
                {"name": "leaf1", "address": "10.0.1.2", "asn": 65201, "import": "all"},
                {"name": "leaf2", "interface": "eth1", "asn": 65202, "import": "all"},
                {"name": "tenant", "address": "10.9.0.2", "asn": 65209, "import": "all", "vrf": "blue"},
            ],
            "vrf": [{"name": "blue", "table": 1001, "uplinks": ["eth0.101"]}],
            "workload": {
                "kernel": {"interfaces": ["cali*"]},
                "bgp": [{"name": "box", "address": "10.9.0.3", "vrf": "blue", **GUEST}],
            },
        },
        Config,
    )
    sources = [
        Source(name="leaf2", kind=SourceKind.EBGP, address=parse_address("fe80::2")),
        Source(name="10.64.0.0/24-10.64.0.7", kind=SourceKind.EBGP, address=parse_address("10.64.0.7")),
        Source(name="box", kind=SourceKind.EBGP, address=parse_address("10.9.0.3"), guest="box"),
    ]
    servers = UsedServers(None, changed=lambda: None)
    servers.addresses = {parse_address("203.0.113.5"): "the broker"}
    main = HostNeeds(config).of("", sources=sources, servers=servers)
    assert set(map(format_address, main.addresses)) == {"10.0.1.2", "10.64.0.7", "203.0.113.5"}
    assert set(map(format_address, main.leaves)) == {"10.0.1.2"}
    assert (main.uplinks, main.workloads) == ({"eth1"}, ("cali*",))
    blue = HostNeeds(config).of("blue", sources=sources, servers=servers)
    assert set(map(format_address, blue.addresses)) == {"10.9.0.2"}
    assert blue.uplinks == {"eth0.101"}
