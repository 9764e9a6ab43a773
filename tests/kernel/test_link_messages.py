"""Rules and VRF devices as netlink messages: golden bytes, and what was written is read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgpd.fib.vrfs import interface_rules, link_local_rule, why_not_usable
from bgpd.kernel.link_messages import Rule, encode_last_resort, encode_rule, encode_vrf_device, read_device, read_rules
from bgpd.kernel.netlink import MessageKind
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
names = st.text("abcdefghij.0123456789", min_size=1, max_size=15)
rules = st.builds(
    Rule,
    family=st.sampled_from((V4, V6)),
    priority=st.integers(1, 2**32 - 1),
    protocol=st.integers(1, 255),
    table=st.integers(1, 2**32 - 1),
    iif=st.one_of(st.just(""), names),
    oif=st.one_of(st.just(""), names),
)


@given(rules)
def test_rule_that_was_written_is_read(rule: Rule) -> None:
    assert list(read_rules(rule.family, encode_rule(rule))) == [rule]


def test_link_local_rule_names_its_prefix() -> None:
    rule = link_local_rule(197)
    assert (rule.to, rule.table, rule.priority) == (b"\x0a\xfe\x80", 254, 999)
    assert list(read_rules(V6, encode_rule(rule))) == [rule]


def test_vrf_device_is_a_link_of_kind_vrf_with_its_table() -> None:
    message = encode_vrf_device("blue", 1001)
    device = read_device(message, 16, len(message))
    assert (device.name, device.kind, device.table) == ("blue", "vrf", 1001)


def test_unreachable_default_is_the_last_route_of_its_table() -> None:
    # rtmsg: IPv4, length 0, protocol 197, type unreachable; then RTA_TABLE 1001 and RTA_PRIORITY 0xff002000
    expected = bytes.fromhex("2c0000001800050600000000000000000200000000c500070000000008000f00e903000008000600002000ff")
    assert encode_last_resort(V4, 1001, 197) == expected
    assert encode_last_resort(V4, 1001, 197, delete=True)[4] == MessageKind.DEL_ROUTE


def test_an_interface_needs_a_rule_in_and_out_for_each_family() -> None:
    found = interface_rules(["eth0.101"], 1001, 197)
    assert sorted((rule.family, rule.iif, rule.oif) for rule in found) == [
        (V4, "", "eth0.101"),
        (V4, "eth0.101", ""),
        (V6, "", "eth0.101"),
        (V6, "eth0.101", ""),
    ]


def test_table_with_routes_of_others_is_usable_only_if_it_was_ours_before() -> None:
    route = KernelRoute(family=V4, key=b"\x08\x0a", table=1001, protocol=4)
    connected = KernelRoute(family=V4, key=b"\x08\x0b", table=1001, protocol=2)
    assert "1 routes of another program" in why_not_usable(1001, 197, [route, connected], is_ours=False)
    assert why_not_usable(1001, 197, [route, connected], is_ours=True) == ""
    assert why_not_usable(1001, 197, [connected], is_ours=False) == ""
    assert "kernel's own" in why_not_usable(255, 197, [], is_ours=True)
