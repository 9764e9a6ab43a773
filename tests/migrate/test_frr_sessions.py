"""What FRR says of a session: one statement, and the keys of the neighbor that it comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bgpd.config.schema_sessions import BfdConfig, GracefulRestartConfig
from tests.migrate.converting import config_of, imported
from tests.migrate.test_frr_statements import converted, losses, one, rules_of


def said(line: str, more: str = "") -> str:
    return f" neighbor 10.0.1.2 {line}\n{more}"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (said("timers 1 5"), {"hold_time_s": 5}),
        (" timers bgp 2 6\n", {"hold_time_s": 6}),
        (" timers bgp 2 6\n" + said("timers 1 5"), {"hold_time_s": 5}),
        (said("timers connect 7"), {"hold_time_s": 9, "connect_retry_s": 7}),
        ("", {"hold_time_s": 9}),
        (said("ttl-security hops 1"), {"ttl_security": True}),
        (said("local-as 65009 no-prepend replace-as"), {"local_asn": 65009}),
        (said("passive"), {"passive": True}),
        (said("port 1790"), {"port": 1790}),
        (said("update-source 10.0.1.3"), {"source_address": "10.0.1.3"}),
        (said("bfd"), {"bfd": BfdConfig()}),
        (said("bfd 5 200 300"), {"bfd": BfdConfig(interval_ms=300, multiplier=5)}),
        (said("bfd profile gone"), {"bfd": BfdConfig()}),
        (said("graceful-restart-disable"), {"graceful_restart": GracefulRestartConfig(mode="off")}),
        (" bgp graceful-restart-disable\n", {"graceful_restart": GracefulRestartConfig(mode="off")}),
        (said("graceful-restart"), {"graceful_restart": GracefulRestartConfig(mode="both")}),
        (
            " bgp graceful-restart\n bgp graceful-restart restart-time 60\n bgp graceful-restart stalepath-time 90\n",
            {"graceful_restart": GracefulRestartConfig(mode="both", restart_time_s=60, stale_time_s=90)},
        ),
        ("", {"graceful_restart": GracefulRestartConfig(mode="helper")}),
        (said("allowas-in"), {"allow_own_as": 3}),
        (said("allowas-in 99"), {"allow_own_as": 10}),
        (said("maximum-prefix 100 75 restart 2"), {
            "max_prefixes": 100, "max_prefixes_warn_percent": 75, "max_prefixes_restart_after_s": 120,
        }),
        (said("remote-as 0.65201"), {"asn": 65201}),
        (said("remote-as internal"), {"asn": "internal"}),
    ],
)  # fmt: skip
def test_keys(tmp_path: Path, lines: str, expected: dict[str, Any]) -> None:
    (leaf,) = one(tmp_path, lines).neighbor
    assert {key: getattr(leaf, key) for key in expected} == expected
    assert losses(tmp_path, lines) == [] or "bfd 5 200 300" in lines


def test_the_hold_time_of_traditional_defaults(tmp_path: Path) -> None:
    text = "router bgp 65001\n bgp router-id 10.0.0.1\n neighbor 10.0.1.2 remote-as 65201\n"
    assert config_of(converted(tmp_path, text).text).neighbor[0].hold_time_s == 180


@pytest.mark.parametrize(
    ("more", "source", "interface"),
    [
        ("interface lo\n ip address 10.0.0.1/32\n ipv6 address 2001:db8::1/128\n", "10.0.0.1", ""),
        ("interface lo\n ipv6 address 2001:db8::1/128\n ip address x\n", "", ""),
        ("", "", ""),
    ],
)
def test_source_by_an_interface(tmp_path: Path, more: str, source: str, interface: str) -> None:
    lines = said("update-source lo", more)
    (leaf,) = one(tmp_path, lines).neighbor
    assert (leaf.source_address, leaf.interface) == (source, interface)
    assert any(
        "the address of lo is not in the file; set source_address" in told for told in losses(tmp_path, lines)
    ) == (not source)


def test_source_by_another_interface(tmp_path: Path) -> None:
    (leaf,) = one(tmp_path, said("update-source eth7")).neighbor
    assert (leaf.source_address, leaf.interface) == ("", "eth7")


def test_a_scope_is_an_interface(tmp_path: Path) -> None:
    leaf = one(tmp_path, " neighbor fe80::1%eth3 remote-as 65202\n").neighbor[1]
    assert (leaf.address, leaf.interface) == ("fe80::1", "eth3")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (" neighbor 10.0.1.9 description x\n", "neighbor 10.0.1.9 has no remote-as; give it one"),
        (" bgp listen range 10.9.0.0/16 peer-group GONE\n", "the group has no remote-as"),
        (said("remote-as auto"), 'remote-as auto; here any AS but our own: "external"'),
        (said("ttl-security hops 3"), "more than one hop: here packets must have TTL 255"),
        (said("local-as 65009"), "FRR sends the router's AS number behind it; here it is replaced"),
        (said("bfd 3 100 200"), "different intervals to send and to receive: here the longer one"),
        (said("allowas-in origin"), '"origin": here the AS may stand anywhere in the path'),
        (said("maximum-prefix 100 warning-only"), "FRR only warns"),
        (said("default-originate"), "a host has no default route to give"),
        (said("weight 5"), '"neighbor 10.0.1.2 weight 5" is not converted'),
        (
            " address-family ipv4 multicast\n  neighbor 10.0.1.2 activate\n",
            "address family ipv4-multicast is not spoken",
        ),
        (" no bgp default ipv4-unicast\n", "has no address family that is spoken here"),
    ],
)
def test_what_is_told(tmp_path: Path, lines: str, told: str) -> None:
    assert any(told in loss for loss in losses(tmp_path, lines))


def test_a_limit_that_only_warns_is_none(tmp_path: Path) -> None:
    limited, free = (one(tmp_path, lines).neighbor[0] for lines in (said("maximum-prefix 100 warning-only"), ""))
    assert limited.max_prefixes == free.max_prefixes


def test_a_neighbor_without_a_family_stays_a_comment(tmp_path: Path) -> None:
    assert one(tmp_path, " no bgp default ipv4-unicast\n").neighbor == ()


def test_families_that_are_switched(tmp_path: Path) -> None:
    lines = (
        " address-family ipv4 unicast\n  no neighbor 10.0.1.2 activate\n exit-address-family\n"
        " address-family l2vpn evpn\n  neighbor 10.0.1.2 activate\n exit-address-family\n"
        " address-family ipv6 unicast\n  neighbor 10.0.1.2 activate\n"
    )
    assert one(tmp_path, lines).neighbor[0].families == ("ipv6-unicast", "l2vpn-evpn")


def test_several_hops_need_no_key(tmp_path: Path) -> None:
    assert (
        "needs no key here, a neighbor may be several hops away"
        in converted(
            tmp_path,
            "router bgp 65001\n bgp router-id 10.0.0.1\n neighbor 10.0.1.2 remote-as 65201\n" + said("ebgp-multihop 3"),
        ).text
    )


@pytest.mark.parametrize(
    ("kind", "lists", "prefixes"),
    [
        ("prefix-list P", "ip prefix-list P permit 10.0.0.0/8\n", ("10.0.0.0/8",)),
        ("distribute-list 10", "access-list 10 permit 10.0.0.0/8\n", ("10.0.0.0/8 le 32",)),
    ],
)
def test_lists_as_filters(tmp_path: Path, kind: str, lists: str, prefixes: tuple[str, ...]) -> None:
    config = one(tmp_path, said(f"{kind} in", lists))
    (rule,) = rules_of(config, config.neighbor[0].import_)
    assert (rule.match.prefix, rule.action) == (prefixes, "accept")


def test_a_family_without_a_filter_beside_one_that_has_one(tmp_path: Path) -> None:
    """Out to a neighbor only what is this host's own goes, where FRR would send what it learned, too."""
    lines = (
        " address-family ipv4 unicast\n  neighbor 10.0.1.2 prefix-list P out\n exit-address-family\n"
        " address-family ipv6 unicast\n  neighbor 10.0.1.2 activate\n exit-address-family\n"
        "ip prefix-list P permit 10.0.0.0/8\n"
    )
    config = one(tmp_path, lines)
    first, *others = rules_of(config, config.neighbor[0].export)
    assert (first.match.family, first.match.prefix, first.action) == (("ipv4-unicast",), ("10.0.0.0/8",), "accept")
    accepted = [rule for rule in others if rule.action == "accept"]
    assert [(rule.match.family, rule.match.as_path) for rule in accepted] == [(("ipv6-unicast",), ("^$",))]
    strict = one(tmp_path, " bgp ebgp-requires-policy\n" + lines)
    assert [rule.match.family for rule in rules_of(strict, strict.neighbor[0].export)] == [("ipv4-unicast",)]


# Values that no configuration here can have


@pytest.mark.parametrize(
    ("lines", "told", "key", "value"),
    [
        (said("timers 1 70000"), "left out", "hold_time_s", 9),
        (said("port 70000"), "left out", "port", 179),
        (said("update-source 2001:db8::1"), "left out", "source_address", ""),
    ],
)
def test_a_value_that_does_not_fit_leaves_its_default(
    tmp_path: Path, lines: str, told: str, key: str, value: object
) -> None:
    assert getattr(one(tmp_path, lines).neighbor[0], key) == value
    assert any(loss.partition("; ")[0].endswith(told) for loss in losses(tmp_path, lines))


@pytest.mark.parametrize("lines", [said("bfd 1 1 1"), said("remote-as 99999999999")])
def test_a_session_that_would_be_another_one_is_commented_out(tmp_path: Path, lines: str) -> None:
    assert one(tmp_path, lines).neighbor == ()
    assert any("all of it is commented out" in loss for loss in losses(tmp_path, lines))


def test_a_router_id_that_is_none_is_worked_out(tmp_path: Path) -> None:
    found = converted(tmp_path, "router bgp 65001\n bgp router-id 0.0.0.0\n neighbor 10.0.1.2 remote-as 65201\n")
    assert '\nrouter_id = "auto"' in found.text
    assert any('"auto" is taken' in loss for loss in found.losses)


def test_all_examples_are_told_once() -> None:
    found = imported("frr", "frr.conf").losses
    assert len(found) == len(set(found))
