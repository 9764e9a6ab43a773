"""frr.conf: what is converted, what is told, and what closes a neighbor."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.config.schema import Config
from bgpd.config.schema_policies import MatchConfig, RuleConfig, SetConfig
from bgpd.config.schema_sessions import BfdConfig, GracefulRestartConfig
from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.importing import Settings
from tests.migrate.converting import configured, imported, rules_of, written

HEAD = "frr defaults datacenter\nrouter bgp 65001\n bgp router-id 10.0.0.1\n neighbor 10.0.1.2 remote-as 65201\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured("frr", "frr.conf", settings=Settings(passwords=str(tmp_path)))


def one(directory: Path, more: str) -> Config:
    return configured("frr", written(directory, HEAD + more))


def test_router_and_neighbors(config: Config, tmp_path: Path) -> None:
    assert (config.router.asn, config.router.router_id, config.router.hostname) == (
        4200000307,
        "10.255.3.7",
        "rack3-host7",
    )
    leaf1, leaf2, tenant = config.neighbor
    assert (leaf1.interface, leaf1.address, leaf1.asn) == ("swp1", "", "external")
    assert (leaf2.interface, leaf2.asn) == ("swp2", 65202)
    assert (leaf1.import_, leaf1.export, leaf1.hold_time_s) == ("FROM-LEAF", "TO-LEAF", 9)
    assert leaf1.families == ("ipv4-unicast", "ipv6-unicast")
    assert (leaf1.max_prefixes, leaf1.max_prefixes_warn_percent, leaf1.max_prefixes_restart_after_s) == (12000, 90, 300)
    assert leaf1.bfd == BfdConfig(interval_ms=200, multiplier=3)
    assert leaf1.graceful_restart == GracefulRestartConfig(mode="both", restart_time_s=90)
    assert (tenant.address, tenant.vrf, tenant.asn) == ("10.9.0.1", "blue", 65900)
    assert Path(leaf1.password_file) == tmp_path / "swp1.key"
    assert Path(leaf1.password_file).read_text() == "uplink-S3cret\n"


def test_a_neighbor_that_is_shut_down_stays_a_comment() -> None:
    text = imported("frr", "frr.conf").text
    assert '#address = "192.0.2.9"' in text
    assert '\naddress = "192.0.2.9"' not in text


def test_ranges_vrfs_and_what_is_announced(config: Config) -> None:
    (listen,) = config.listen
    assert (listen.prefix, listen.asn, listen.import_, listen.max_neighbors) == ("10.64.7.0/28", 65300, "LOOPBACKS", 20)
    (vrf,) = config.vrf
    assert (vrf.name, vrf.vni, vrf.rd, vrf.import_rt) == ("blue", 5001, "10.255.3.7:5001", ("65201:5001",))
    assert config.workload.addresses is not None
    assert config.workload.addresses.prefixes == ("10.255.3.7/32",)
    assert [(one.prefix, one.summary_only) for one in config.aggregate] == [("10.64.7.0/24", True)]
    assert config.workload.kernel is None, "which interfaces are meant is for a person to say"


def test_route_map_becomes_the_rules_that_do_the_same(config: Config) -> None:
    drained = ("graceful-shutdown",)
    permitted = ("10.64.0.0/12 le 28", "0.0.0.0/0", "2001:db8::/32 le 64", "::/0")
    assert rules_of(config, "FROM-LEAF") == (
        RuleConfig(match=MatchConfig(as_path=(r"\b6451[2-9]\b",)), action="reject"),
        RuleConfig(match=MatchConfig(prefix=("10.64.7.0/24 le 32",), community=drained), action="reject"),
        RuleConfig(
            match=MatchConfig(prefix=permitted, community=drained), set=SetConfig(local_pref=10), action="accept"
        ),
        RuleConfig(match=MatchConfig(community=drained), action="reject"),
        RuleConfig(match=MatchConfig(prefix=("10.64.7.0/24 le 32",)), action="reject"),
        RuleConfig(match=MatchConfig(prefix=permitted), action="accept"),
    )
    assert rules_of(config, "TO-LEAF") == (
        RuleConfig(
            match=MatchConfig(prefix=("10.255.0.0/16 ge 32",)),
            set=SetConfig(add_community=("65000:77",), prepend=2),
            action="accept",
        ),
    )


def test_everything_that_is_not_converted_is_told_with_its_line() -> None:
    losses = "\n".join(imported("frr", "frr.conf").losses)
    for line, words in (
        (51, "redistribute kernel"),
        (57, "default-originate"),
        (58, "weight 100"),
        (68, "VRF blue"),
        (35, "password"),
    ):
        assert any(f"frr.conf:{line}: " in loss and words in loss for loss in losses.splitlines()), (line, words)
    assert "uplink-S3cret" not in losses + imported("frr", "frr.conf").text


def test_without_a_place_for_the_password_nothing_is_exchanged() -> None:
    config = configured("frr", "frr.conf")
    assert [(one.import_, one.export, one.password_file) for one in config.neighbor[:2]] == [("none", "none", "")] * 2
    text = imported("frr", "frr.conf").text
    assert '#import = "FROM-LEAF"' in text
    assert '#password_file = "/etc/bgpd/swp1.key"' in text


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        (" neighbor 10.0.1.2 route-map IN in\nroute-map IN permit 10\n match rpki valid\n", "match rpki valid"),
        (" neighbor 10.0.1.2 route-map IN in\nroute-map IN permit 10\n call OTHER\n", "call OTHER"),
        (" neighbor 10.0.1.2 route-map GONE in\n", 'no route-map "GONE"'),
        (" neighbor 10.0.1.2 prefix-list GONE in\n", 'no ip prefix-list "GONE"'),
        (" neighbor 10.0.1.2 filter-list GONE in\n", 'no as-path access-list "GONE"'),
        (" neighbor 10.0.1.2 distribute-list GONE in\n", 'no access-list "GONE"'),
        (
            " neighbor 10.0.1.2 route-map IN in\nroute-map IN permit 10\n match community C\n"
            "bgp community-list standard C permit 65000:1 65000:2\n",
            "two conditions on community",
        ),
        (
            " neighbor 10.0.1.2 route-map IN in\nroute-map IN deny 10\n match community C\n"
            "bgp community-list expanded C permit 65000:.*\n",
            "regular expression",
        ),
        (
            " neighbor 10.0.1.2 route-map IN in\nroute-map IN permit 10\n set comm-list C delete\n"
            "bgp community-list expanded C permit 65000:.*\n",
            "regular expression",
        ),
    ],
)
def test_a_filter_that_cannot_be_said_lets_nothing_through(tmp_path: Path, filters: str, said: str) -> None:
    file = written(tmp_path, HEAD + filters)
    assert configured("frr", file).neighbor[0].import_ == "none"
    assert any(said in loss for loss in imported("frr", file).losses)


def test_external_neighbors_without_a_filter_are_closed_where_frr_closes_them(tmp_path: Path) -> None:
    body = "router bgp 65001\n bgp router-id 10.0.0.1\n neighbor 10.0.1.2 remote-as 65201\n"
    for head, policy in (
        ("", "none"),
        ("frr version 8.1\nfrr defaults traditional\n", "none"),
        ("frr defaults datacenter\n", "all"),
        ("frr version 7.3\n", "all"),
    ):
        assert configured("frr", written(tmp_path, head + body)).neighbor[0].import_ == policy
    open_one = body + " no bgp ebgp-requires-policy\n neighbor 10.0.1.3 remote-as internal\n"
    assert [one.import_ for one in configured("frr", written(tmp_path, open_one)).neighbor] == ["all", "all"]


def test_what_a_group_says_counts_unless_the_neighbor_says_otherwise(tmp_path: Path) -> None:
    config = one(
        tmp_path,
        " neighbor G peer-group\n neighbor G timers 10 30\n neighbor G ttl-security hops 1\n"
        " neighbor 10.0.1.2 peer-group G\n neighbor 10.0.1.2 timers 1 3\n neighbor 10.0.1.2 local-as 65009\n"
        " neighbor 10.0.1.2 passive\n neighbor 10.0.1.2 port 1790\n neighbor 10.0.1.2 update-source 10.0.1.3\n"
        " address-family ipv4 unicast\n  neighbor G allowas-in 2\n",
    )
    (leaf,) = config.neighbor
    assert (leaf.hold_time_s, leaf.ttl_security, leaf.local_asn, leaf.allow_own_as) == (3, True, 65009, 2)
    assert (leaf.passive, leaf.port, leaf.source_address) == (True, 1790, "10.0.1.3")


@pytest.mark.parametrize(
    ("line", "role"),
    [
        ("local-role customer", ("customer", False)),
        ("local-role rs-server strict-mode", ("rs", True)),
        ("local-role rs-client", ("rs-client", False)),
    ],
)
def test_roles(tmp_path: Path, line: str, role: tuple[str, bool]) -> None:
    (leaf,) = one(tmp_path, f" neighbor 10.0.1.2 {line}\n").neighbor
    assert (leaf.role, leaf.role_strict) == role


def test_indentation_means_nothing(tmp_path: Path) -> None:
    lines = [line.strip() for line in (Path(__file__).parent / "files" / "frr.conf").read_text().splitlines()]
    assert configured("frr", written(tmp_path, "\n".join(lines))) == configured("frr", "frr.conf")


def test_a_number_in_a_path_list_is_no_whole_as_number(tmp_path: Path) -> None:
    config = one(
        tmp_path,
        " neighbor 10.0.1.2 filter-list P in\n"
        "bgp as-path access-list P deny 6520\nbgp as-path access-list P permit .*\n",
    )
    assert rules_of(config, config.neighbor[0].import_)[0].match.as_path == ("(6520)",)


@pytest.mark.parametrize("text", ["", " \n", "hostname x\n", "router bgp x\n", "router ospf\n", "\0\1\2", "9" * 5000])
def test_what_is_no_frr_configuration_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ImportFailed, match=r"given\.conf"):
        imported("frr", written(tmp_path, text))


def test_values_that_no_session_here_can_have_are_told_and_left_out(tmp_path: Path) -> None:
    more = " neighbor 10.0.1.2 timers 1 2\n neighbor an-interface-of-a-very-long-name interface remote-as external\n"
    file = written(tmp_path, HEAD + more)
    (leaf,) = configured("frr", file).neighbor
    assert leaf.hold_time_s == 9
    losses = imported("frr", file).losses
    assert any("hold_time_s is 2" in loss for loss in losses)
    assert any("commented out" in loss for loss in losses)


def test_a_link_local_address_keeps_its_interface(tmp_path: Path) -> None:
    more = " neighbor fe80::1 remote-as 65202\n neighbor fe80::1 interface eth3\n"
    leaf = one(tmp_path, more).neighbor[1]
    assert (leaf.address, leaf.interface, leaf.asn) == ("fe80::1", "eth3", 65202)


def test_limits_of_families_that_differ_are_told(tmp_path: Path) -> None:
    more = (
        " address-family ipv4 unicast\n  neighbor 10.0.1.2 maximum-prefix 100\n exit-address-family\n"
        " address-family ipv6 unicast\n  neighbor 10.0.1.2 activate\n  neighbor 10.0.1.2 maximum-prefix 10\n"
    )
    file = written(tmp_path, HEAD + more)
    assert configured("frr", file).neighbor[0].max_prefixes == 100
    assert any("different limits" in loss for loss in imported("frr", file).losses)


def test_lists_of_both_ip_versions_with_one_name_are_two_lists(tmp_path: Path) -> None:
    more = (
        " neighbor 10.0.1.2 prefix-list L in\n address-family ipv6 unicast\n  neighbor 10.0.1.2 activate\n"
        "  neighbor 10.0.1.2 prefix-list L in\n exit-address-family\n"
        "ip prefix-list L permit 10.0.0.0/8\nipv6 prefix-list L permit 2001:db8::/32\n"
    )
    config = one(tmp_path, more)
    rules = rules_of(config, config.neighbor[0].import_)
    assert [(rule.match.family, rule.match.prefix, rule.action) for rule in rules] == [
        (("ipv4-unicast",), ("10.0.0.0/8",), "accept"),
        (("ipv4-unicast",), (), "reject"),
        (("ipv6-unicast",), ("2001:db8::/32",), "accept"),
    ]


@pytest.mark.parametrize(
    ("goes_on", "after", "is_taken"),
    [
        ("on-match next", "", True),
        ("on-match goto 30", "", True),
        ("on-match next", "route-map IN permit 20\n match community B\nexit\n", False),
        ("on-match goto 30", "route-map IN permit 20\n match community B\nexit\n", True),
        ("continue 20", "route-map IN permit 20\n match community B\nexit\n", False),
    ],
)
def test_an_entry_that_goes_on_permits_only_where_nothing_follows(
    tmp_path: Path, goes_on: str, after: str, is_taken: bool
) -> None:
    """As FRR does: what follows and does not match denies."""
    text = (
        "router bgp 65203\n bgp router-id 10.255.1.1\n neighbor 10.0.1.2 remote-as 65201\n"
        " address-family ipv4 unicast\n  neighbor 10.0.1.2 route-map IN in\n exit-address-family\nexit\n"
        "ip prefix-list A seq 5 permit 10.1.0.0/16\nbgp community-list standard B seq 5 permit 65000:1\n"
        f"route-map IN permit 10\n match ip address prefix-list A\n set metric 5\n {goes_on}\nexit\n{after}"
    )
    rules = rules_of(configured("frr", written(tmp_path, text)), "IN")
    actions = [rule.action for rule in rules if rule.match.prefix and not rule.match.community]
    assert actions == (["accept"] if is_taken else ["reject"])


def test_what_frr_overlooks_is_not_converted(tmp_path: Path) -> None:
    text = (
        "router bgp 65203\n bgp router-id 10.255.1.1\n neighbor 10.0.1.2 remote-as 65201\n"
        " address-family ipv4 unicast\n  neighbor 10.0.1.2 route-map IN in\n exit-address-family\nexit\n"
        "route-map IN deny 5\n match ip address prefix-len 24\nexit\nroute-map IN permit 10\nexit\n"
    )
    assert configured("frr", written(tmp_path, text)).neighbor[0].import_ == "none"


def test_statements_that_say_nothing_or_the_same_again(tmp_path: Path) -> None:
    """Each of them ended the command with a traceback."""
    lines = ["router bgp 65001", " no", " bgp default ipv6-unicast", *[" no bgp default ipv4-unicast"] * 2]
    lines += [" bgp default ipv6-unicast", " neighbor 10.0.0.1 remote-as 65002", "vrf blue", " no", " vni foo 10"]
    lines += [" vni 10 prefix-routes-only", "no"]
    config = configured("frr", written(tmp_path, "\n".join(lines)))
    assert config.neighbor[0].families == ("ipv6-unicast",)
    assert [(vrf.name, vrf.vni) for vrf in config.vrf] == [("blue", 10)]
