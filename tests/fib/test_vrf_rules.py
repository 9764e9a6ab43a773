"""Which policy rules a VRF without a device needs, and which tables can be a VRF's."""

from __future__ import annotations

from bgpd.fib.vrf_rules import PolicyRules, interface_rules, link_local_rule, rule_order, why_not_usable
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST


def test_link_local_rule_names_its_prefix() -> None:
    rule = link_local_rule(197)
    assert (rule.to, rule.table, rule.priority) == (b"\x0a\xfe\x80", 254, 999)


def test_an_interface_needs_a_rule_in_and_out_for_each_family() -> None:
    found = interface_rules(["eth0.101"], 1001, 197)
    assert sorted((rule.family, rule.iif, rule.oif) for rule in found) == [
        (V4, "", "eth0.101"),
        (V4, "eth0.101", ""),
        (V6, "", "eth0.101"),
        (V6, "eth0.101", ""),
    ]


def test_rules_have_one_order_however_they_were_found() -> None:
    rules = [*interface_rules(["eth0.101", "eth1.101"], 1001, 197), link_local_rule(197)]
    wanted = sorted(rules, key=rule_order)
    for begin in range(len(rules)):
        found = PolicyRules((*rules[begin:], *rules[:begin]))
        assert list(found.all) == wanted
        assert found.of(1001, 197) == wanted[1:]
    assert wanted[0].to  # before the VRFs' own, or link-local destinations would be sought in these


def test_table_with_routes_of_others_is_usable_only_if_it_was_ours_before() -> None:
    route = KernelRoute(family=V4, key=b"\x08\x0a", table=1001, protocol=4)
    connected = KernelRoute(family=V4, key=b"\x08\x0b", table=1001, protocol=2)
    assert "1 routes of another program" in why_not_usable(1001, 197, [route, connected], is_ours=False)
    assert why_not_usable(1001, 197, [route, connected], is_ours=True) == ""
    assert why_not_usable(1001, 197, [connected], is_ours=False) == ""
    assert "kernel's own" in why_not_usable(255, 197, [], is_ours=True)
