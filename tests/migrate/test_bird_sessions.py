"""What BIRD says of a session and of its other protocols: one statement, and what it comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bgpd.config.schema import Config
from bgpd.config.schema_sessions import BfdConfig, GracefulRestartConfig
from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.importing import Imported
from tests.migrate.converting import config_of, imported, written

HEAD = "router id 10.0.0.1;\nprotocol kernel { ipv4 { export all; }; ipv6 { export all; }; }\n"
NEIGHBOR = "local as 65001; neighbor 10.0.1.2 as 65201;"
CHANNEL = "ipv4 { import all; export all; };"


def converted(
    directory: Path, statements: str = "", *, neighbor: str = NEIGHBOR, channel: str = CHANNEL, more: str = ""
) -> Imported:
    body = f"protocol bgp leaf {{ {neighbor} {statements} {channel} }}\n"
    return imported("bird", written(directory, HEAD + body + more))


def of(found: Imported) -> Config:
    return config_of(found.text)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("", {"hold_time_s": 240, "connect_retry_s": 120}),
        ("hold time 9; connect retry time 5;", {"hold_time_s": 9, "connect_retry_s": 5}),
        ("source address 10.0.1.3;", {"source_address": "10.0.1.3"}),
        ("local 10.0.1.3 as 65001;", {"source_address": "10.0.1.3"}),
        ("passive;", {"passive": True}),
        ("passive on;", {"passive": True}),
        ("passive off;", {"passive": False}),
        ("passive no;", {"passive": False}),
        ("ttl security on;", {"ttl_security": True}),
        ("ttl security off;", {"ttl_security": False}),
        ("allow local as 3;", {"allow_own_as": 3}),
        ("allow local as;", {"allow_own_as": 1}),
        ("allow local as 30;", {"allow_own_as": 10}),
        ('interface "eth3";', {"interface": "eth3"}),
        ("bfd;", {"bfd": BfdConfig()}),
        ("bfd on;", {"bfd": BfdConfig()}),
        ("bfd off;", {"bfd": None}),
        ("bfd { interval 1 s; multiplier 4; };", {"bfd": BfdConfig(interval_ms=1000, multiplier=4)}),
        ("bfd { min rx interval 100 ms; min tx interval 200000 us; };", {"bfd": BfdConfig(interval_ms=200)}),
        ("graceful restart;", {"graceful_restart": GracefulRestartConfig(mode="both")}),
        ("graceful restart on;", {"graceful_restart": GracefulRestartConfig(mode="both")}),
        ("graceful restart off;", {"graceful_restart": GracefulRestartConfig(mode="off")}),
        ("graceful restart aware;", {"graceful_restart": GracefulRestartConfig(mode="helper")}),
        ("", {"graceful_restart": GracefulRestartConfig(mode="helper")}),
        (
            "graceful restart on; graceful restart time 60; long lived graceful restart on; long lived stale time 600;",
            {"graceful_restart": GracefulRestartConfig(mode="both", restart_time_s=60, long_lived_s=600)},
        ),
    ],
)
def test_keys(tmp_path: Path, statement: str, expected: dict[str, Any]) -> None:
    (leaf,) = of(converted(tmp_path, statement)).neighbor
    assert {key: getattr(leaf, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("neighbor", "expected"),
    [
        ("local as 65001; neighbor 10.0.1.2 port 1790 internal;", {"asn": "internal", "port": 1790}),
        ("local as 65001; neighbor 10.0.1.2 external;", {"asn": "external", "port": 179}),
        ("local 10.0.1.3 port 179 as 65001; neighbor 10.0.1.2 as 65201;", {"asn": 65201, "source_address": "10.0.1.3"}),
        ("local as 65001; neighbor fe80::1 % 'eth2' as 65201;", {"address": "fe80::1", "interface": "eth2"}),
    ],
)
def test_neighbors(tmp_path: Path, neighbor: str, expected: dict[str, Any]) -> None:
    (leaf,) = of(converted(tmp_path, neighbor=neighbor)).neighbor
    assert {key: getattr(leaf, key) for key in expected} == expected


def test_the_as_number_that_most_sessions_have_is_the_routers(tmp_path: Path) -> None:
    more = "".join(
        f"protocol bgp other{number} {{ local as 65009; neighbor 10.0.2.{number} as 65201; {CHANNEL} }}\n"
        for number in (1, 2)
    )
    config = of(converted(tmp_path, more=more))
    assert (config.router.asn, [leaf.local_asn for leaf in config.neighbor]) == (65009, [65001, 0, 0])


@pytest.mark.parametrize("statement", ["disabled;", "disabled on;"])
def test_what_is_disabled_stays_a_comment(tmp_path: Path, statement: str) -> None:
    found = converted(tmp_path, statement)
    assert of(found).neighbor == ()
    assert "protocol bgp leaf is disabled; remove the # to use it" in found.text


def test_what_is_not_disabled_is_used(tmp_path: Path) -> None:
    assert len(of(converted(tmp_path, "disabled no;")).neighbor) == 1


def test_a_session_with_an_authentication_that_is_not_ours_is_closed(tmp_path: Path) -> None:
    found = converted(tmp_path, "authentication ao;")
    (leaf,) = of(found).neighbor
    assert (leaf.import_, leaf.export) == ("none", "none")
    assert any('"authentication ao" is not converted; see tcp_ao' in loss for loss in found.losses)
    (leaf,) = of(converted(tmp_path, "authentication none;")).neighbor
    assert (leaf.import_, leaf.export) == ("all", "local")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"neighbor": "local as 65001;"}, "protocol bgp leaf has no neighbor"),
        ({"channel": "vpn4 { import all; };"}, "channel vpn4 is not converted"),
        ({"channel": "import all;"}, "protocol bgp leaf has no channel ipv4 or ipv6; ipv4-unicast is written"),
        ({"statements": "confederation 65000;"}, '"confederation 65000" is not converted'),
        ({"more": "protocol ospf { }\n"}, "protocol ospf ospf1 is not converted"),
        ({"more": "protocol rip r2 { }\n"}, "protocol rip r2 is not converted"),
        ({"more": "ipv4 table other;\nsomething else;\n"}, '"something else" is not converted'),
        ({"channel": "ipv4 { import limit 10 action warn; };"}, "BIRD only warns"),
        ({"channel": "ipv4 { import limit 10; };"}, "here the session is tried again"),
        ({"channel": "ipv4 { import filter gone; };"}, 'there is no filter "gone"'),
        ({"channel": "ipv4 { import filter a b; };"}, "cannot be understood"),
        ({"more": "protocol kernel k2 { learn; ipv4 { export none; }; }\n"}, "name the interfaces of the workloads"),
        ({"more": "protocol static { route 10.5.0.0/16 via 10.0.1.2; }\n"}, "is not converted"),
        ({"more": "protocol static { route wrong via 10.0.1.2; }\n"}, "is not converted"),
        ({"more": "protocol static { route 10.5.0.0/16 unreachable; }\n"}, "BIRD has it always"),
        ({"more": "protocol direct { }\n"}, "takes other interfaces, too"),
        ({"more": 'protocol direct { interface "-eth*", "*"; }\n'}, "takes other interfaces, too"),
    ],
)
def test_what_is_told(tmp_path: Path, given: dict[str, str], told: str) -> None:
    more = given.get("more", "")
    neighbor = f"protocol bgp two {{ local as 65001; neighbor 10.0.9.9 as 65209; {CHANNEL} }}\n"
    found = converted(tmp_path, **{**given, "more": more + neighbor})
    assert any(told in loss for loss in found.losses)
    assert "10.0.9.9" in {leaf.address for leaf in of(found).neighbor}


def test_a_session_that_does_not_say_its_as_number(tmp_path: Path) -> None:
    more = "protocol bgp two { neighbor 10.0.9.9 as 65209; ipv4 { import all; export all; }; }\n"
    found = converted(tmp_path, more=more)
    assert any("protocol bgp two does not say its own AS number" in loss for loss in found.losses)


def test_the_kernels_table_and_source(tmp_path: Path) -> None:
    text = (
        "router id 10.0.0.1;\nfilter source { krt_prefsrc = 10.0.0.1; accept; }\n"
        "protocol kernel { kernel table 100; ipv4 { export filter source; }; }\n"
        "protocol kernel { ipv6 { export filter { krt_prefsrc = 2001:db8::1; accept; }; }; }\n"
        f"protocol bgp leaf {{ {NEIGHBOR} {CHANNEL} }}\n"
    )
    config = config_of(imported("bird", written(tmp_path, text)).text)
    assert (config.fib.table, config.fib.preferred_source) == (100, ("10.0.0.1", "2001:db8::1"))


def test_addresses_of_named_interfaces(tmp_path: Path) -> None:
    addresses = of(converted(tmp_path, more='protocol direct { interface "dummy7"; }\n')).workload.addresses
    assert addresses is not None
    assert addresses.interfaces == ("dummy7",)


def test_a_hostname_and_no_router_id(tmp_path: Path) -> None:
    text = f'hostname "rack3";\nprotocol bgp leaf {{ {NEIGHBOR} {CHANNEL} }}\n'
    found = imported("bird", written(tmp_path, text)).text
    assert '\nhostname = "rack3"' in found
    assert '\nrouter_id = "auto"' in found


def test_no_session_says_an_as_number(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="no protocol bgp says its own AS number"):
        converted(tmp_path, neighbor="neighbor 10.0.1.2 as 65201;")


def test_filters_of_both_families_that_differ(tmp_path: Path) -> None:
    channel = "ipv4 { import where net ~ 10.0.0.0/8; export none; }; ipv6 { import all; export none; };"
    (leaf,) = of(converted(tmp_path, channel=channel)).neighbor
    rules = of(converted(tmp_path, channel=channel)).policy[leaf.import_].rules
    assert [(rule.match.family, rule.match.prefix, rule.action) for rule in rules] == [
        (("ipv4-unicast",), ("10.0.0.0/8 le 32",), "accept"),
        (("ipv4-unicast",), (), "reject"),
        (("ipv6-unicast",), (), "accept"),
    ]
