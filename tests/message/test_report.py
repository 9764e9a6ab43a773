import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.message.exabgp_codec import KEEPALIVE, encode_message, encode_notification, encode_open
from bgpd.message.report import report_message
from bgpd.model.iana import MessageType
from tests.message.decoding import (
    AS_PATH,
    EVPN,
    GLOBAL,
    LINK_LOCAL,
    MANDATORY,
    ORIGIN,
    attribute,
    reach,
    unreach,
    update,
)
from tests.message.test_evpn_nlri import TYPE_2, TYPE_3, TYPE_5, UNKNOWN
from tests.message.test_exabgp_codec import FULL

MARKER = "ff" * 16


def report(text, **options):
    answer = report_message(text, nlri_decoders=EVPN, **options)
    return msgspec.json.decode(msgspec.json.encode(answer))


def report_update(body, **options):
    return report(encode_message(MessageType.UPDATE, body).hex(), **options)


def test_an_update_is_told_in_full():
    block = MANDATORY + attribute(4, b"\0\0\0\7", 0x80) + attribute(8, bytes.fromhex("fde80001ffffff01"), 0xC0)
    block += attribute(16, bytes.fromhex("0002fde800000064"), 0xC0) + attribute(99, b"x", 0xC0)
    told = report_update(update(block, b"\x18\x0a\1\2", withdrawn=b"\x10\x0a\3"))
    assert told["type"] == "UPDATE"
    assert told["reaction"] == "accept"
    assert told["notification"] is None
    assert told["announced"] == {"ipv4-unicast": ["10.1.2.0/24"]}
    assert told["withdrawn"] == {"ipv4-unicast": ["10.3.0.0/16"]}
    assert told["next_hops"] == ["10.0.1.2"]
    assert told["attributes"] == {
        "ORIGIN": "igp",
        "AS_PATH": [{"type": "AS_SEQUENCE", "asns": [65201]}],
        "NEXT_HOP": "10.0.1.2",
        "MULTI_EXIT_DISC": 7,
        "COMMUNITIES": ["65000:1", "no-export"],
        "EXTENDED_COMMUNITIES": ["rt:65000:100"],
        "ATTRIBUTE_99": {"flags": 192, "value": "78"},
    }
    assert told["errors"] == []


def test_evpn_routes_are_objects_in_both_directions():
    block = reach(25, 70, b"\x0a\0\0\1", TYPE_2 + TYPE_3 + UNKNOWN) + unreach(25, 70, TYPE_5) + ORIGIN + AS_PATH
    told = report_update(update(block))
    mac_ip, multicast, unknown = told["announced"]["l2vpn-evpn"]
    assert mac_ip == {
        "route_type": 2,
        "rd": "10.255.1.1:1001",
        "esi": "00" * 10,
        "ethernet_tag": 5,
        "mac": "02:00:00:00:0a:01",
        "ip": "10.64.1.5",
        "prefix": None,
        "gateway_ip": None,
        "labels": [5001],
        "originator": None,
    }
    assert (multicast["route_type"], multicast["ethernet_tag"], multicast["originator"]) == (3, 100, "10.0.0.1")
    assert (unknown["route_type"], unknown["opaque"]) == (9, "616263")
    (prefix,) = told["withdrawn"]["l2vpn-evpn"]
    assert (prefix["prefix"], prefix["gateway_ip"], prefix["labels"]) == ("10.64.1.0/24", "10.0.1.1", [5001])


def test_both_addresses_of_an_ipv6_next_hop_are_told():
    told = report_update(update(reach(2, 1, GLOBAL + LINK_LOCAL, b"\0") + ORIGIN + AS_PATH))
    assert told["next_hops"] == ["2001:db8::1", "fe80::2"]
    assert told["announced"] == {"ipv6-unicast": ["::/0"]}


def test_treat_as_withdraw_tells_the_routes_as_withdrawn_and_why():
    told = report_update(update(attribute(1, b"\7", 0x40) + AS_PATH + attribute(3, b"\x0a\0\0\1", 0x40), b"\0"))
    assert (told["reaction"], told["notification"]) == ("treat-as-withdraw", None)
    assert (told["announced"], told["withdrawn"]) == ({}, {"ipv4-unicast": ["0.0.0.0/0"]})
    assert told["errors"] == [
        {
            "message": "0x07 is no ORIGIN",
            "section": "RFC 7606 section 7.1",
            "reaction": "treat-as-withdraw",
            "attribute": "ORIGIN",
        }
    ]
    assert "ORIGIN" not in told["attributes"]


def test_session_kinds_and_capabilities_change_the_verdict():
    local_pref = MANDATORY + attribute(5, b"\0\0\0\x64", 0x40)
    assert report_update(update(local_pref, b"\0"))["reaction"] == "attribute-discard"
    assert report_update(update(local_pref, b"\0"), session="ibgp")["attributes"]["LOCAL_PREF"] == 100
    extended = update(reach(1, 1, GLOBAL, b"\0") + ORIGIN + AS_PATH)
    assert report_update(extended)["notification"] == [3, 9]
    assert report_update(extended, extended_next_hop=True)["reaction"] == "accept"
    with_identifier = update(MANDATORY, b"\0\0\0\7\x08\x0a")
    assert report_update(with_identifier, add_path=True)["announced"] == {"ipv4-unicast": ["10.0.0.0/8"]}
    two_octets = update(ORIGIN + attribute(2, b"\2\1\xfe\xb1", 0x40) + attribute(3, b"\x0a\0\0\1", 0x40), b"\0")
    assert report_update(two_octets, two_octet_as=True)["attributes"]["AS_PATH"][0]["asns"] == [65201]


def test_routes_of_other_families_are_shown_as_ignored():
    vpn = bytes.fromhex("70000001000000640000006401020 3".replace(" ", ""))
    told = report_update(update(reach(1, 128, bytes(8) + b"\x0a\0\0\1", vpn) + ORIGIN + AS_PATH))
    assert told["reaction"] == "attribute-discard"
    assert list(told["ignored"]) == ["ipv4-vpn"]
    garbage = report_update(update(reach(1, 128, bytes(12), b"\xff" * 9) + ORIGIN + AS_PATH))
    assert "cannot be read" in garbage["ignored"]["ipv4-vpn"][0]


def test_end_of_rib_is_told():
    assert report_update(b"\0\0\0\0")["end_of_rib"] == "ipv4-unicast"
    assert report_update(update(unreach(25, 70, b"")))["end_of_rib"] == "l2vpn-evpn"


def test_other_messages_are_told():
    told = report(encode_open(FULL).hex())
    assert told["details"]["asn"] == 4200000000
    assert told["details"]["families"] == ["ipv4-unicast", "ipv6-unicast", "l2vpn-evpn"]
    assert "four-octet-as" in told["details"]["capabilities"]
    assert told["details"]["extended_next_hop"] == ["ipv4-unicast over ipv6"]
    told = report(encode_notification(6, 2, b"\2hi").hex())
    assert (told["details"]["description"], told["details"]["communication"]) == (
        "cease/administrative-shutdown: hi",
        "hi",
    )
    assert report(KEEPALIVE.hex())["type"] == "KEEPALIVE"
    told = report(MARKER + "00170500190146")
    assert (told["type"], told["details"]) == ("ROUTE-REFRESH", {"family": "l2vpn-evpn", "subtype": "begin"})
    told = report(MARKER + "00170500010701")
    assert (told["reaction"], len(told["errors"])) == ("accept", 1)


@pytest.mark.parametrize(
    ("text", "notification"),
    [
        ("", [1, 2]),
        ("xyz", None),
        ("f", None),
        ("00" * 19, [1, 1]),
        (MARKER + "001204", [1, 2]),
        (MARKER + "100102", [1, 2]),
        (MARKER + "001307", [1, 3]),
        (MARKER + "00140400", [1, 2]),
        (MARKER + "001602000000", [1, 2]),
        (MARKER + "001e02", None),
        (MARKER + "001d01" + "03feb1005a0a00000100", [2, 1]),
        (MARKER + "001d01" + "04feb100010a00000100", [2, 6]),
    ],
)
def test_bad_frames_and_opens_are_answered(text, notification):
    told = report(text)
    assert (told["reaction"], told["notification"]) == ("session-reset", notification)
    assert told["errors"]


def test_bytes_after_the_message_are_counted():
    told = report(KEEPALIVE.hex() * 2)
    assert (told["type"], told["reaction"]) == ("KEEPALIVE", "accept")
    assert "19 bytes follow" in told["errors"][0]["message"]


def test_blanks_colons_and_a_prefix_are_allowed():
    assert report("0x" + KEEPALIVE.hex(":") + " \n")["type"] == "KEEPALIVE"


@given(st.one_of(st.text(max_size=60), st.binary(max_size=120).map(bytes.hex)))
def test_any_text_gets_a_report(text):
    assert report(text)["reaction"]


@given(
    st.sampled_from(list(MessageType)),
    st.binary(max_size=100),
    st.booleans(),
    st.sampled_from(["ebgp", "ibgp"]),
)
def test_any_message_body_gets_a_report(kind, body, flag, session):
    message = encode_message(kind, body).hex()
    told = report(message, session=session, two_octet_as=flag, add_path=flag, extended_next_hop=not flag)
    assert told["reaction"] in ("accept", "treat-as-withdraw", "attribute-discard", "session-reset")


@given(st.integers(0, 0xFFFF), st.integers(0, 255), st.binary(max_size=60))
def test_any_other_family_gets_a_report(afi, safi, nlri):
    assert report_update(update(reach(afi, safi, b"\x0a\0\0\1", nlri) + unreach(afi, safi, nlri) + ORIGIN + AS_PATH))
