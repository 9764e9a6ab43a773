"""From what was seen to a configuration: what is in force, what is proposed, and what is warned of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bgpd.config.schema import Config
from bgpd.migrate.first_config import FirstConfig
from bgpd.migrate.importing import Settings, finish
from bgpd.migrate.machine import DefaultRoute, Machine, Port
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, Link
from bgpd.model.prefix import parse_address
from tests.migrate.converting import config_of


def port(name: str, *addresses: str, up: bool = True, kind: str = "", lldp: str = "", router: str = "") -> Port:
    found = [
        Address(index=1, packed=parse_address(text.partition("/")[0]), prefix_length=int(text.partition("/")[2]))
        for text in addresses
    ]
    return Port(Link(index=1, name=name, up=up, kind=kind), found, is_physical=True, lldp=lldp, router=router)


def written(machine: Machine) -> tuple[Config, str, list[str]]:
    first = FirstConfig(machine)
    text = finish(first.write(), "seen", Settings()).text
    return config_of(text), text, first.warnings


def test_leaves_that_were_seen_are_neighbors_and_others_are_proposed() -> None:
    config, text, warnings = written(
        Machine(
            hostname="h1",
            loopback4="10.255.1.1",
            ports=[
                port("lo", "10.255.1.1/32"),
                port("eth0", lldp="leaf1.dc.example", router="fe80::1"),
                port("eth1", "10.0.2.1/31"),
                port("eth2", up=False, lldp="leaf3"),
                port("eth3", "192.0.2.7/24", router="fe80::9"),
                port("br0", "10.9.0.1/24", kind="bridge"),
                port("cali1"),
            ],
            defaults=[DefaultRoute(Family.IPV4_UNICAST, "eth3", "192.0.2.1", 16, 100)],
        )
    )
    assert [(one.name, one.interface, one.address) for one in config.neighbor] == [
        ("leaf1", "eth0", ""),
        ("eth1", "eth1", "10.0.2.0"),
    ]
    assert [one.expect_hostname for one in config.neighbor] == ["leaf1.dc.example", ""]
    assert {(one.import_, one.export) for one in config.neighbor} == {("default-only", "local")}
    assert '#name = "leaf3"' in text
    assert "192.0.2.0/24 is a network of several hosts" in text
    assert "br0" not in text
    assert config.workload == type(config.workload)(), "nothing is announced"
    assert '#prefixes = ["10.255.1.1/32"]' in text
    assert '#interfaces = ["cali*"]' in text
    assert warnings == []


def test_protocol_and_metric_of_others_are_left_to_them() -> None:
    seen = Machine(
        protocols=Counter({217: 3, 218: 1, 12: 5}), metrics=Counter({(12, 17): 5, (12, 18): 1, (217, 17): 3})
    )
    config, text, warnings = written(seen)
    assert (config.fib.protocol, config.fib.metric) == (219, 19)
    assert any("3 routes here have rtproto 217" in warning for warning in warnings)
    assert "# seen: 5 routes by rtproto 12 (bird)" in text


def test_routes_of_a_bgpd_that_runs_are_its_own() -> None:
    seen = Machine(protocols=Counter({217: 3}), programs={"bgpd": "process bgpd, pid 7"})
    config, _, warnings = written(seen)
    assert config.fib.protocol == 217
    assert "a bgpd runs here already (process bgpd, pid 7)" in warnings


def test_other_speakers_are_warned_of_and_their_number_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "frr.conf"
    file.write_text("router bgp 65077\n bgp router-id 10.0.0.1\n neighbor 10.0.0.2 remote-as 65001\n")
    broken = tmp_path / "bird.conf"
    broken.write_text("{")
    seen = Machine(
        files=[("bird", str(broken)), ("frr", str(file))],
        programs={"FRR": "process bgpd, pid 9", "lldpd": "process lldpd, pid 8"},
        listeners=["bgpd (pid 9) listens on 0.0.0.0 port 179"],
        unseen=["router advertisements: CAP_NET_RAW is missing"],
    )
    config, text, warnings = written(seen)
    assert config.router.asn == 65077
    assert f"bgpd import frr {file} converts it" in text
    assert any(warning.startswith("bgpd (pid 9) listens on 0.0.0.0 port 179") for warning in warnings)
    assert any("FRR runs here (process bgpd, pid 9)" in warning for warning in warnings)
    assert "# not seen: router advertisements: CAP_NET_RAW is missing" in text


def test_names_of_neighbors_by_lldp_cannot_leave_their_line() -> None:
    config, text, _ = written(Machine(ports=[port("eth0", lldp='x"\n[router]\nasn = 1 ${env:HOME}', router="fe80::1")]))
    assert config.neighbor[0].interface == "eth0"
    assert "\n[router]\nasn = 1" not in text.partition("[[neighbor]]")[2]


def test_nothing_seen_at_all_is_a_configuration_too() -> None:
    config, text, warnings = written(Machine())
    assert config.neighbor == ()
    assert "#[[neighbor]]" in text
    assert any("no router was seen" in warning for warning in warnings)
