"""The decoder held against messages of other speakers: those in `vectors`, and a corpus of more where there is one.

The corpus is sought at BGPD_CORPUS and in ../shared/corpus.
"""

import ipaddress
import json
import os
from pathlib import Path

import pytest

from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.exabgp_codec import decode_open
from bgpd.message.open import Open, negotiate
from bgpd.message.report import report_message
from bgpd.model.iana import Family
from bgpd.model.wire import NotificationError
from bgpd.speaker.connection import Connection

CORPUS = Path(os.environ.get("BGPD_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
VECTORS = Path(__file__).parent / "vectors"
EVPN = {Family.L2VPN_EVPN: EvpnNlri()}
REACTIONS = {
    "reset": "session-reset",
    "withdraw": "treat-as-withdraw",
    "discard": "attribute-discard",
    "accept": "accept",
    "accept-first-only": "attribute-discard",
}
LOCAL = Open(asn=65000, hold_time_s=90, router_id=b"\x0a\0\0\x01", four_octet_as=True, multiprotocol=((1, 1),))
BY_THE_RFC = {
    # RFC 6793 section 6 discards a malformed AS4_PATH, section 4.1 any from a speaker with 4-octet AS numbers
    "frr-topo/as4path-seg-type-0/ibgp",
    # RFC 7606 section 2 lets a route of readable length be withdrawn alone
    "evpn/rt2_bad_iplen_64",
    "evpn/rt2_iplen_in_octets_4 (old Cumulus bug)",
    "evpn/rt2_truncated_ip",
    "evpn/rt1_bad_len_24",
    "evpn/rt3_bad_iplen_64",
    "evpn/rt5_bad_len_40",
}
"""Cases in which one of `allowed_alternatives` is what the RFC asks for."""
BROKEN = {"test-c9d15273f5", "test-8844afb504"}
"""Well-known attributes with wrong flags: refused by RFC 4271 section 6.3 and RFC 7606 section 3 c."""


def cases(name):
    paths = [path for folder in (VECTORS, CORPUS) if (path := folder / name).exists()]
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def identify(case):
    return case["id"]


@pytest.mark.parametrize("case", [c for c in cases("malformed.jsonl") if c["kind"] == "update"], ids=identify)
def test_malformed_updates_cost_what_the_rfc_says(case):
    report = report_message(case["hex"], nlri_decoders=EVPN, session=case["session"], two_octet_as=not case["as4"])
    allowed = {REACTIONS[case["expected"]]}
    if case["id"] in BY_THE_RFC:
        allowed = {REACTIONS[one] for one in case["allowed_alternatives"] if one in REACTIONS}
    if report.errors and all("accept_martians" in error.message for error in report.errors):
        allowed.add("treat-as-withdraw")  # a well-formed message of multicast prefixes: ignored (RFC 4271 section 6.3)
    assert report.reaction in allowed, report.errors
    if case["expected_notification"]:
        assert list(report.notification) == case["expected_notification"]
    prefixes = report.announced.get("ipv4-unicast", [])
    if case["test_prefix"] and case["afi"] == "ipv4":
        assert (case["test_prefix"] in prefixes) == (report.reaction in ("accept", "attribute-discard"))


@pytest.mark.parametrize("case", [c for c in cases("malformed.jsonl") if c["kind"] == "raw-established"], ids=identify)
def test_malformed_frames_are_answered_with_the_right_notification(case):
    report = report_message(case["hex"], nlri_decoders=EVPN)
    if case["expected"] == "reset":
        assert report.reaction == "session-reset"
        assert not case["expected_notification"] or list(report.notification) in case["expected_notification"]
    else:
        assert report.reaction == "accept"


@pytest.mark.parametrize("case", [c for c in cases("malformed.jsonl") if c["kind"] == "open"], ids=identify)
def test_opens_are_refused_with_the_right_notification(case):
    message = bytes.fromhex(case["hex"])
    refusal = refusal_of(message[19:]) if message[18] == 1 else refusal_in_open_sent(message)
    verdict = "open-ok" if refusal is None else "open-error"
    assert verdict in (case["expected"], *case["allowed_alternatives"])
    assert refusal is None or not case["expected_notification"] or refusal in case["expected_notification"]


def refusal_in_open_sent(message):
    """Of what comes in place of an OPEN."""
    connection = Connection(local=LOCAL, expected_asn=65001, incoming=True, now=0.0, random=lambda: 0.5)
    connection.feed(message)
    connection.next_event(0.0)
    sent = connection.notification_sent
    return None if sent is None else [sent.code, sent.subcode]


def refusal_of(body):
    try:
        negotiate(LOCAL, decode_open(body), expected_asn=65001)
    except NotificationError as error:
        return [error.code, error.subcode]
    return None


@pytest.mark.parametrize("case", cases("opens.jsonl"), ids=identify)
def test_opens_of_other_vendors_are_read_in_full(case):
    report = report_message(case["hex"], nlri_decoders=EVPN)
    expected = case["decoded"]
    if expected["version"] != 4:
        assert report.notification == (2, 1)
        return
    four_octet = [capability["asn"] for capability in expected["caps"] if capability["code"] == 65]
    assert report.details["asn"] == (four_octet or [expected["my_as"]])[0]
    assert report.details["router_id"] == expected["router_id"]
    assert report.details["hold_time_s"] == expected["hold"]
    assert report.details["capability_codes"] == [capability["code"] for capability in expected["caps"]]


@pytest.mark.parametrize("case", cases("misc_messages.jsonl"), ids=identify)
def test_other_messages_are_reported(case):
    names = {3: "NOTIFICATION", 4: "KEEPALIVE", 5: "ROUTE-REFRESH"}
    report = report_message(case["hex"], nlri_decoders=EVPN)
    assert report.type == names.get(bytes.fromhex(case["hex"])[18], "unknown")


@pytest.mark.parametrize("case", cases("updates_core.jsonl") + cases("updates_evpn.jsonl"), ids=identify)
def test_updates_of_other_speakers_are_read_in_full(case):
    expected = case["expected"]
    if case["id"] in BROKEN or any(header[:2] == [64, 17] for header in expected["attr_headers"]):
        pytest.skip("flags that RFC 7606 section 3 c calls malformed")
    report = report_message(
        case["hex"],
        nlri_decoders=EVPN,
        session="ibgp",
        two_octet_as=not case["as4"],
        add_path=case["addpath"],
        extended_next_hop=True,
    )
    if any("accept_as_sets" in error.message for error in report.errors):
        assert report.reaction == "treat-as-withdraw"  # RFC 9774 is younger than these messages
        return
    assert report.reaction in ("accept", "attribute-discard"), report.errors
    assert_routes(report.announced, expected["nlri"], expected.get("mp_reach"))
    assert_routes(report.withdrawn, expected["withdrawn"], expected.get("mp_unreach"))
    if "mp_reach" in expected:
        assert report.next_hops[-len(expected["mp_reach"]["next_hop"]) :] == expected["mp_reach"]["next_hop"]
    assert_attributes(report.attributes, expected)


def assert_routes(told, classic, multiprotocol):
    expected = {"ipv4-unicast": [network(one["prefix"]) for one in classic]}
    if multiprotocol is not None:
        told_family = multiprotocol["family"]
        routes = [network(one["prefix"]) if "rt" not in one else evpn(one) for one in multiprotocol["nlri"]]
        expected[told_family] = expected.get(told_family, []) + routes
    found = {
        family: [network(one) if isinstance(one, str) else told_evpn(one) for one in routes]
        for family, routes in told.items()
    }
    assert found == {family: routes for family, routes in expected.items() if routes}


def network(text):
    return ipaddress.ip_network(text, strict=False)


def evpn(one):
    labels = [one[name] for name in ("label", "label1", "label2") if name in one]
    prefix = network(one["prefix"]) if "prefix" in one else None
    fields = ("esi", "etag", "mac", "ip", "gw", "orig")
    return (one["rt"], one["rd"], prefix, labels, *map(one.get, fields))


def told_evpn(one):
    prefix = network(one["prefix"]) if one["prefix"] else None
    fields = ("esi", "ethernet_tag", "mac", "ip", "gateway_ip", "originator")
    return (one["route_type"], one["rd"], prefix, one["labels"], *map(one.get, fields))


def assert_attributes(told, expected):
    names = {
        "med": "MULTI_EXIT_DISC",
        "local_pref": "LOCAL_PREF",
        "next_hop": "NEXT_HOP",
        "communities": "COMMUNITIES",
        "large_communities": "LARGE_COMMUNITIES",
        "originator_id": "ORIGINATOR_ID",
        "cluster_list": "CLUSTER_LIST",
        "otc": "ONLY_TO_CUSTOMER",
        "atomic_aggregate": "ATOMIC_AGGREGATE",
    }
    for key, name in names.items():
        if key in expected:
            assert told[name] == expected[key]
    if "origin" in expected:
        assert told["ORIGIN"] == ("igp", "egp", "incomplete")[expected["origin"]]
    if "as_path" in expected and "as4_path" not in expected:
        kinds = {"AS_SET": 1, "AS_SEQUENCE": 2}
        assert [[kinds[one["type"]], one["asns"]] for one in told["AS_PATH"]] == expected["as_path"]
    if "ext_communities" in expected:
        assert len(told["EXTENDED_COMMUNITIES"]) == len(expected["ext_communities"])
