"""Which learned prefixes would lead the host's own traffic elsewhere: by relation, for single keys and in batches."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.config.schema import FibConfig
from bgpd.fib.guard import Dependencies, GuardChange
from bgpd.fib.ownership import Ownership
from bgpd.kernel.host import Host
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, KernelRoute, Link
from bgpd.model.prefix import format_key, key_of, parse_address, parse_prefix

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST


def host(*, vrf: str = "", **config: object) -> tuple[Ownership, Host]:
    """eth0 and eth1 to leaves, mgmt with a default route, br0 with workloads."""
    kernel = Host(lambda _: None)
    for index, (name, *addresses) in enumerate(
        [
            ("eth0", "10.0.1.1/24", "2001:db8:1::1/64"),
            ("eth1", "10.0.2.0/31", "2001:db8:2::/127"),
            ("mgmt", "192.168.5.9/24", "2001:db8:5::9/64"),
            ("br0", "10.64.0.1/24", "2001:db8:64::1/64"),
            ("lo", "127.0.0.1/8", "10.255.1.1/32"),
        ],
        start=1,
    ):
        kernel.link(Link(index=index, name=name, up=True, vrf=vrf))
        for text in addresses:
            interface = ipaddress.ip_interface(text)
            kernel.address(Address(index=index, packed=interface.packed, prefix_length=interface.network.prefixlen))
    ownership = Ownership(FibConfig(**config), kernel, vrf=vrf)
    ownership.addresses_changed()
    ownership.depend_on(
        Dependencies(
            addresses={
                parse_address(address): what
                for address, what in (
                    ("10.0.1.2", "neighbor leaf1"),
                    ("10.0.2.1", "neighbor leaf2"),
                    ("2001:db8:2::1", "neighbor leaf2 by IPv6"),
                    ("10.77.0.9", "neighbor distant"),
                    ("10.88.0.9", "neighbor beyond"),
                    ("10.64.0.7", "neighbor router"),
                    ("203.0.113.5", "the broker"),
                )
            },
            leaves={parse_address(address) for address in ("10.0.1.2", "10.0.2.1", "2001:db8:2::1", "10.64.0.7")},
            brokers={parse_address("203.0.113.5")},
            workloads=("br*",),
        )
    )
    return ownership, kernel


def foreign(prefix: str, *, interface: str = "mgmt", gateway: str = "192.168.5.1", table: int = 254) -> KernelRoute:
    family, key = parse_prefix(prefix)
    return KernelRoute(
        family=family,
        key=key,
        table=table,
        protocol=3,
        interface=interface,
        gateway=parse_address(gateway) if gateway else b"",
    )


def why(ownership: Ownership, prefix: str) -> str:
    family, key = parse_prefix(prefix)
    found = ownership.blocked(family, [key])
    return found[key].why if found else ""


@pytest.mark.parametrize(
    "prefix",
    [
        "10.0.1.2/32", "10.0.1.0/25", "10.0.1.200/32", "10.0.2.1/32", "10.0.2.0/32", "2001:db8:2::1/128",
        "2001:db8:1::/65", "192.168.5.1/32", "192.168.5.0/25", "192.168.5.77/32", "192.168.4.0/23", "192.0.0.0/8",
        "2001:db8:5::1/128", "0.0.0.0/1", "128.0.0.0/1", "64.0.0.0/2", "4.0.0.0/7", "10.77.0.9/32",
        "10.77.0.0/25", "10.88.0.0/16", "10.88.0.9/32", "203.0.113.5/32", "203.0.113.0/24", "203.0.0.0/8",
        "10.64.0.7/32", "10.64.0.6/31", "10.64.0.0/25", "172.16.0.1/32", "172.16.0.0/16",
    ],
)  # fmt: skip
def test_what_leads_own_traffic_elsewhere_is_blocked(prefix):
    ownership, _ = host()
    ownership.route_changed(foreign("0.0.0.0/0"), False)
    ownership.route_changed(foreign("10.77.0.0/24", interface="eth0", gateway="10.0.1.2"), False)
    ownership.route_changed(foreign("10.66.0.0/24", interface="eth0", gateway="172.16.0.1"), False)
    assert why(ownership, prefix)


@pytest.mark.parametrize(
    "prefix",
    [
        "10.0.0.0/15", "10.0.0.0/23", "10.0.3.0/24", "10.0.2.2/32", "10.0.2.0/30", "192.168.6.0/24", "192.168.6.1/32",
        "10.77.0.0/23", "10.77.0.10/32", "10.64.0.9/32", "10.64.0.128/25", "10.64.0.0/16", "203.0.112.0/24",
        "2001:db8:2::2/128", "2001:db8:2::/64", "2001:db9::/32", "2000::/3", "8.0.0.0/8", "10.255.1.2/32",
        "2001:db8:64::99/128",
    ],
)  # fmt: skip
def test_what_takes_nothing_is_free(prefix):
    ownership, _ = host()
    ownership.route_changed(foreign("0.0.0.0/0"), False)
    ownership.route_changed(foreign("10.77.0.0/24", interface="eth0", gateway="10.0.1.2"), False)
    assert why(ownership, prefix) == ""


def test_without_a_foreign_route_only_networks_are_guarded():
    """What only learned routes serve may be taken by learned ones: they are all there is."""
    ownership, _ = host()
    for prefix in ("0.0.0.0/0", "0.0.0.0/1", "203.0.113.5/32", "10.88.0.9/32", "192.168.5.77/32", "192.168.0.0/16"):
        assert why(ownership, prefix) == ""
    assert why(ownership, "10.0.1.2/32")


def test_a_route_that_drops_serves_nothing():
    """Such as the unreachable default route of a VRF."""
    ownership, _ = host()
    for prefix in ("0.0.0.0/0", "10.88.0.0/16"):
        ownership.route_changed(foreign(prefix, interface="", gateway=""), False)
    for prefix in ("0.0.0.0/1", "203.0.113.5/32", "10.88.0.9/32", "192.168.0.0/16"):
        assert why(ownership, prefix) == ""


def test_a_default_route_by_an_uplink_makes_no_management_network():
    ownership, _ = host()
    ownership.route_changed(foreign("0.0.0.0/0", interface="eth0", gateway="10.0.1.2"), False)
    assert why(ownership, "10.0.0.0/16") == ""
    assert "piece by piece" in why(ownership, "0.0.0.0/1")
    assert "uplink eth0" in why(ownership, "10.0.1.0/25")


def test_an_uplink_that_lost_its_address_blocks_no_more_than_before():
    """Its neighbor is out of reach then: the default route of the management network does not lead to it."""
    ownership, kernel = host()
    ownership.route_changed(foreign("0.0.0.0/0"), False)
    assert why(ownership, "10.0.0.0/15") == ""
    kernel.address(Address(index=2, packed=parse_address("10.0.2.0"), prefix_length=31), gone=True)
    ownership.addresses_changed()
    assert why(ownership, "10.0.0.0/15") == ""
    assert why(ownership, "10.0.2.1/32")


def test_names_in_override_lift_the_guard_and_protect_stays():
    ownership, _ = host(override=("10.0.1.2/32", "0.0.0.0/1", "10.99.1.0/24"), protect=("10.99.0.0/16",))
    ownership.route_changed(foreign("0.0.0.0/0"), False)
    assert why(ownership, "10.0.1.2/32") == why(ownership, "0.0.0.0/1") == ""
    assert why(ownership, "10.0.1.3/32")
    assert "fib.protect" in why(ownership, "10.99.1.0/24")


@pytest.mark.parametrize(
    ("protect", "inside", "outside"),
    [
        ("10.96.0.0/13", ("10.96.0.0/13", "10.103.255.255/32", "10.100.0.0/16"), ("10.104.0.0/32", "10.95.0.0/16")),
        ("10.99.4.0/23", ("10.99.5.0/24", "10.99.4.0/32"), ("10.99.6.0/24", "10.99.3.255/32", "10.99.4.0/22")),
        ("10.99.9.64/26", ("10.99.9.64/26", "10.99.9.127/32"), ("10.99.9.63/32", "10.99.9.128/32", "10.99.9.0/25")),
        ("10.99.9.6/31", ("10.99.9.6/32", "10.99.9.7/32"), ("10.99.9.5/32", "10.99.9.8/32")),
        ("10.99.9.7/32", ("10.99.9.7/32",), ("10.99.9.6/32", "10.99.9.6/31")),
        ("96.0.0.0/3", ("100.0.0.0/8", "127.255.255.255/32"), ("128.0.0.0/8", "95.0.0.0/8")),
        ("2001:db8:8000::/33", ("2001:db8:8000::/48", "2001:db8:ffff::1/128"), ("2001:db8:7fff::/48", "2001:db8::/32")),
        ("2001:db8:9:f000::/52", ("2001:db8:9:ffff::1/128",), ("2001:db8:9:efff::1/128", "2001:db8:9::/51")),
    ],
)
def test_protection_ends_where_the_prefix_ends_also_between_bytes(protect, inside, outside):
    ownership, _ = host(protect=(protect,))
    for prefix in inside:
        assert f"inside {protect}, which fib.protect keeps" in why(ownership, prefix), prefix
    for prefix in outside:
        assert why(ownership, prefix) == "", prefix
    family, one = parse_prefix(inside[-1])
    keys = [parse_prefix(prefix)[1] for prefix in (*outside, *inside)]
    assert sorted(ownership.blocked(family, keys)) == sorted(parse_prefix(prefix)[1] for prefix in inside)
    assert one in ownership.blocked(family, keys)


def test_protection_holds_around_and_inside_connected_networks():
    ownership, _ = host(protect=("10.64.0.0/16", "10.0.1.128/25"))
    assert "fib.protect" in why(ownership, "10.64.0.9/32")
    assert "fib.protect" in why(ownership, "10.0.1.129/32")


def test_a_vrf_s_table_has_its_own_guard():
    ownership, _ = host(vrf="blue", table=1001)
    ownership.route_changed(foreign("0.0.0.0/0"), False)
    assert why(ownership, "0.0.0.0/1") == ""
    ownership.route_changed(foreign("0.0.0.0/0", table=1001), False)
    assert why(ownership, "0.0.0.0/1")
    assert why(ownership, "10.0.1.2/32")


def test_another_table_than_main_heeds_the_main_table_s_routes():
    ownership, _ = host(table=100)
    ownership.route_changed(foreign("0.0.0.0/0"), False)
    assert why(ownership, "203.0.113.5/32")
    assert why(ownership, "0.0.0.0/0") == ""


def test_next_hops_in_use_are_guarded_in_workload_networks():
    ownership, _ = host()
    assert why(ownership, "10.64.0.99/32") == ""
    ownership.changes()
    ownership.use_gateways({parse_address("10.64.0.99")})
    assert "a next hop in use" in why(ownership, "10.64.0.98/31")
    (change,) = ownership.changes()
    assert parse_prefix("10.64.0.99/32")[1] in change.keys
    ownership.use_gateways(frozenset())
    assert why(ownership, "10.64.0.99/32") == ""


def meant(changes: list[GuardChange], *prefixes: str) -> set[str]:
    """Those of the prefixes that the changes ask to look at again."""
    found = set()
    for change in changes:
        keys = [key for family, key in map(parse_prefix, prefixes) if family is change.family]
        found |= {format_key(change.family, key) for key in {*change.among(keys), *change.keys.intersection(keys)}}
    return found


def test_changes_name_all_prefixes_whose_answer_is_another():
    ownership, _ = host()
    ownership.changes()
    ownership.route_changed(foreign("0.0.0.0/0"), False)
    looked = (
        "0.0.0.0/1",
        "203.0.113.5/32",
        "203.0.0.0/8",
        "192.168.5.77/32",
        "192.168.0.0/16",
        "10.88.0.0/16",
        "9.0.0.0/8",
    )
    assert meant(ownership.changes(), *looked) == set(looked) - {"9.0.0.0/8"}
    ownership.route_changed(foreign("203.0.113.0/24"), False)
    assert "203.0.0.0/8" in meant(ownership.changes(), *looked)
    ownership.depend_on(Dependencies())
    assert meant(ownership.changes(), "203.0.113.5/32", "10.0.1.2/32") == {"203.0.113.5/32", "10.0.1.2/32"}


@st.composite
def prefixes(draw):
    near = ("10.0.1.2", "10.0.2.1", "10.64.0.7", "192.168.5.1", "203.0.113.5", "10.77.0.9", "8.8.8.8")
    address = draw(st.sampled_from(near))
    flipped = int(ipaddress.ip_address(address)) ^ (1 << draw(st.integers(0, 31)) if draw(st.booleans()) else 0)
    return key_of(ipaddress.ip_network((flipped, draw(st.integers(0, 32))), strict=False))


@given(st.lists(prefixes(), min_size=1, max_size=12, unique=True))
def test_a_batch_is_judged_as_its_keys_one_by_one(keys):
    ownership, _ = host(protect=("10.99.0.0/16",))
    ownership.route_changed(foreign("0.0.0.0/0"), False)
    ownership.route_changed(foreign("10.77.0.0/24", interface="eth0", gateway="10.0.1.2"), False)
    alone = {key: block for one in keys for key, block in ownership.blocked(V4, [one]).items()}
    assert ownership.blocked(V4, keys) == alone


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [
        ("10.0.1.2/32", "10.0.1.2, neighbor leaf1"),
        ("10.0.1.0/28", "10.0.1.2, neighbor leaf1"),
        ("10.0.1.0/24", "10.0.1.2, neighbor leaf1"),
        ("10.0.0.0/16", ""),
        ("10.0.1.77/32", ""),
        ("10.0.2.1/32", "10.0.2.1, neighbor leaf2"),
        ("2001:db8:2::1/128", "2001:db8:2::1, neighbor leaf2 by IPv6"),
        ("192.168.5.1/32", "192.168.5.1, the gateway of another program's route"),
        ("10.64.0.7/32", ""),
        ("10.64.0.5/32", ""),
        ("203.0.113.5/32", "203.0.113.5, the broker"),
        ("203.0.113.0/24", "203.0.113.5, the broker"),
        ("203.0.113.6/32", ""),
    ],
)
def test_what_no_orchestrator_may_claim(prefix: str, wanted: str) -> None:
    ownership, _ = host()
    ownership.route_changed(foreign("0.0.0.0/0"), False)
    family, key = parse_prefix(prefix)
    assert ownership.reserved(family, key) == wanted


def test_change_of_what_is_reserved_is_told() -> None:
    ownership, _ = host()
    ownership.changes()
    ownership.depend_on(Dependencies())
    keys = {key for change in ownership.changes() for key in change.keys}
    assert parse_prefix("203.0.113.5/32")[1] in keys
    assert ownership.reserved(*parse_prefix("203.0.113.5/32")) == ""


def test_ipv6_default_that_drops_by_lo_is_no_default_route() -> None:
    """IPv6 has an unreachable default `dev lo`: it serves nothing, and lo is no management interface."""
    ownership, _kernel = host()
    family, default = parse_prefix("::/0")
    drops = KernelRoute(family=family, key=default, table=254, protocol=3, interface="lo", details=b"\x07")
    ownership.route_changed(drops, False)
    keys = [parse_prefix(prefix)[1] for prefix in ("2000::/3", "::/1")]
    assert ownership.blocked(family, keys) == {}
    ownership.route_changed(drops, True)
    ownership.route_changed(foreign("::/0", interface="mgmt"), False)
    assert ownership.blocked(family, keys).keys() == set(keys)


def test_own_addresses_are_read_once_for_all_changes_of_a_turn_and_before_any_answer() -> None:
    ownership, kernel = host()
    ownership.own_changes()
    key = parse_prefix("10.255.9.9/32")[1]
    address = Address(index=5, packed=key[1:], prefix_length=32)
    kernel.address(address)
    ownership.addresses_changed()
    assert ownership.blocked(Family.IPV4_UNICAST, [key])
    kernel.address(address, gone=True)
    ownership.addresses_changed()
    assert not ownership.blocked(Family.IPV4_UNICAST, [key])
    assert ownership.own_changes() == [(Family.IPV4_UNICAST, key)] * 2
    assert ownership.own_changes() == []


def test_an_address_of_this_host_itself_takes_no_guard() -> None:
    """A guest connects from it: the local table delivers to it, whatever is learned."""
    ownership, kernel = host()
    ownership.route_changed(foreign("0.0.0.0/0"), False)
    ownership.depend_on(Dependencies(addresses={parse_address("10.255.1.1"): "neighbor guest"}))
    for prefix in ("10.0.0.0/8", "10.255.0.0/16"):
        assert why(ownership, prefix) == ""
    kernel.address(Address(index=5, packed=parse_address("10.255.1.1"), prefix_length=32), gone=True)
    ownership.addresses_changed()
    assert "10.255.1.1 (neighbor guest)" in why(ownership, "10.255.0.0/16")


def test_a_link_local_neighbor_makes_an_uplink_of_its_own_interface_only() -> None:
    """All interfaces are in fe80::/64."""
    ownership, kernel = host()
    for index in (1, 4):
        kernel.address(Address(index=index, packed=parse_address(f"fe80::{index}"), prefix_length=64))
    ownership.addresses_changed()
    far = parse_address("fe80::9")
    ownership.depend_on(Dependencies(addresses={far: "neighbor leaf1"}, leaves={far}, uplinks={"eth0"}))
    assert "uplink eth0" in why(ownership, "10.0.1.9/32")
    assert why(ownership, "10.64.0.9/32") == ""
