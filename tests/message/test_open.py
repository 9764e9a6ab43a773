import msgspec
import pytest

from bgpd.config.schema import RouterConfig
from bgpd.config.schema_sessions import GracefulRestartConfig, NeighborConfig
from bgpd.message.exabgp_codec import decode_open, encode_open
from bgpd.message.open import (
    GracefulRestart,
    LongLived,
    Open,
    capability_names,
    check_open,
    family_name,
    local_open,
    negotiate,
)
from bgpd.model.iana import OPPOSITE_ROLES, Family, Role
from bgpd.model.wire import NotificationError

ROUTER = RouterConfig(asn=65203, router_id="10.255.1.1", hostname="node1")
PEER = Open(
    asn=65201,
    hold_time_s=180,
    router_id=b"\x0a\0\0\x01",
    multiprotocol=((1, 1), (25, 70), (1, 128)),
    four_octet_as=True,
    route_refresh=True,
)


def neighbor(**fields):
    return NeighborConfig(**({"name": "leaf1", "asn": 65201, "import_": "all"} | fields))


def ours(*, over_ipv6=False, restarting=False, **fields):
    return local_open(ROUTER, neighbor(**fields), over_ipv6=over_ipv6, restarting=restarting, hostname="system")


def test_our_open_offers_what_is_configured():
    off = GracefulRestartConfig(mode="off")
    message = ours(families=("ipv4-unicast", "l2vpn-evpn"), extended_messages=False, graceful_restart=off)
    assert (message.asn, message.router_id, message.hold_time_s) == (65203, b"\x0a\xff\1\1", 9)
    assert message.families == (Family.IPV4_UNICAST, Family.L2VPN_EVPN)
    assert (message.four_octet_as, message.route_refresh, message.enhanced_route_refresh) == (True, True, True)
    assert (message.extended_message, message.extended_next_hop) == (False, ())
    assert message.graceful_restart == GracefulRestart()
    assert message.hostname == "node1"
    assert (
        local_open(RouterConfig(asn=1, router_id="1.1.1.1"), neighbor(), over_ipv6=False, hostname="h").hostname == "h"
    )
    assert ours(local_asn=65300).asn == 65300


def test_extended_next_hop_is_offered_over_ipv6_only():
    assert ours(over_ipv6=True).extended_next_hop == ((1, 1, 2),)
    assert ours(over_ipv6=True, families=("ipv6-unicast",)).extended_next_hop == ()


def test_graceful_restart_is_on_unless_it_is_switched_off():
    assert ours(families=("ipv4-unicast",)).graceful_restart == GracefulRestart(
        notification=True, restart_time_s=120, families=((1, 1, True),)
    )


def test_graceful_restart_is_offered_with_forwarding_state_and_the_n_bit():
    config = GracefulRestartConfig(restart_time_s=60, long_lived_s=3600)
    message = ours(graceful_restart=config, restarting=True, families=("ipv4-unicast",))
    assert message.graceful_restart == GracefulRestart(
        restarting=True, notification=True, restart_time_s=60, families=((1, 1, True),)
    )
    assert message.long_lived == (LongLived(1, 1, True, 3600),)
    assert message.graceful_restart.forwarding(Family.IPV4_UNICAST)
    assert not message.graceful_restart.covers(Family.IPV6_UNICAST)


def test_what_both_offer_is_negotiated():
    peer = msgspec.structs.replace(
        PEER, extended_message=True, extended_next_hop=((1, 1, 2),), enhanced_route_refresh=True, hostname="leaf1"
    )
    agreed = negotiate(ours(over_ipv6=True), peer, expected_asn="external")
    assert agreed.families == (Family.IPV4_UNICAST,)
    assert agreed.extended_next_hop == {Family.IPV4_UNICAST}
    assert (agreed.hold_time_s, agreed.keepalive_time_s) == (9, 3)
    assert agreed.max_message_length == 65535
    assert agreed.enhanced_route_refresh
    assert not agreed.is_ibgp
    assert agreed.hostname == "leaf1"
    plain = negotiate(ours(), msgspec.structs.replace(PEER, four_octet_as=False), expected_asn=65201)
    assert (plain.max_message_length, plain.four_octet_as, plain.extended_next_hop) == (4096, False, frozenset())


def test_the_peer_in_another_as_is_told_by_its_name():
    peer = msgspec.structs.replace(PEER, hostname="leaf\n2", domain="example")
    with pytest.raises(NotificationError, match=r"AS 65299 is configured \(it calls itself leaf\?2\)$"):
        negotiate(ours(), peer, expected_asn=65299)
    assert negotiate(ours(), peer, expected_asn="external").domain == "example"


def test_a_peer_without_multiprotocol_speaks_ipv4_unicast():
    peer = msgspec.structs.replace(PEER, multiprotocol=())
    assert negotiate(ours(), peer, expected_asn=65201).families == (Family.IPV4_UNICAST,)


@pytest.mark.parametrize("theirs", [True, False])
def test_hard_reset_needs_the_n_bit_of_both(theirs):
    peer = msgspec.structs.replace(PEER, graceful_restart=GracefulRestart(notification=theirs, restart_time_s=1))
    assert negotiate(ours(graceful_restart=GracefulRestartConfig()), peer, expected_asn=65201).hard_reset is theirs
    off = ours(graceful_restart=GracefulRestartConfig(mode="off"))
    assert not negotiate(off, peer, expected_asn=65201).hard_reset


@pytest.mark.parametrize(
    ("change", "subcode", "data"),
    [
        ({"version": 3}, 1, b"\0\4"),
        ({"asn": 0}, 2, b""),
        ({"asn": 23456}, 2, b""),
        ({"router_id": bytes(4)}, 3, b""),
        ({"hold_time_s": 1}, 6, b""),
        ({"hold_time_s": 2}, 6, b""),
    ],
)
def test_opens_that_nobody_may_send_are_refused(change, subcode, data):
    with pytest.raises(NotificationError) as refusal:
        check_open(msgspec.structs.replace(PEER, **change))
    assert (refusal.value.code, refusal.value.subcode, refusal.value.data) == (2, subcode, data)


@pytest.mark.parametrize("hold_time_s", [0, 3])
def test_hold_times_of_zero_and_three_are_accepted(hold_time_s):
    check_open(msgspec.structs.replace(PEER, hold_time_s=hold_time_s))


@pytest.mark.parametrize(("expected", "asn"), [(65202, 65201), ("external", 65203), ("internal", 65201)])
def test_peer_as_mismatch_is_bad_peer_as(expected, asn):
    with pytest.raises(NotificationError) as refusal:
        negotiate(ours(), msgspec.structs.replace(PEER, asn=asn), expected_asn=expected)
    assert (refusal.value.code, refusal.value.subcode) == (2, 2)
    assert str(asn) in refusal.value.message


def test_our_own_router_id_inside_our_as_is_bad_bgp_identifier():
    peer = msgspec.structs.replace(PEER, asn=65203, router_id=ours().router_id)
    with pytest.raises(NotificationError) as refusal:
        negotiate(ours(), peer, expected_asn="internal")
    assert (refusal.value.code, refusal.value.subcode) == (2, 3)
    other = msgspec.structs.replace(peer, asn=65201)
    assert negotiate(ours(), other, expected_asn="external").peer_router_id == ours().router_id


def test_no_common_family_is_unsupported_capability_with_what_we_offer():
    with pytest.raises(NotificationError) as refusal:
        negotiate(ours(families=("ipv6-unicast",)), PEER, expected_asn=65201)
    assert (refusal.value.code, refusal.value.subcode) == (2, 7)
    assert refusal.value.data == bytes.fromhex("010400020001")


def test_capabilities_and_families_have_names():
    peer = msgspec.structs.replace(PEER, received=((1, b""), (2, b""), (76, b"")))
    assert capability_names(peer) == (
        "multiprotocol ipv4-unicast",
        "multiprotocol l2vpn-evpn",
        "multiprotocol ipv4-vpn",
        "route-refresh",
        "capability-76",
    )
    assert family_name(9, 9) == "afi-9-safi-9"


@pytest.mark.parametrize(
    ("peer", "knows"),
    [
        (PEER, False),
        (msgspec.structs.replace(PEER, long_lived=(LongLived(1, 1, True, 600),)), True),
        (msgspec.structs.replace(PEER, received=((71, b""),)), True),
    ],
)
def test_peer_with_the_long_lived_capability_knows_what_llgr_stale_is(peer, knows):
    assert negotiate(ours(), peer, expected_asn="external").knows_long_lived is knows


FLAGS = ("four_octet_as", "extended_message", "route_refresh", "enhanced_route_refresh")


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize(("mine", "theirs"), [(True, True), (True, False), (False, True), (False, False)])
def test_what_only_one_side_offers_is_not_used(flag, mine, theirs):
    local = msgspec.structs.replace(ours(), **{flag: mine})
    peer = msgspec.structs.replace(PEER, **{flag: theirs})
    agreed = negotiate(local, peer, expected_asn=65201)
    assert getattr(agreed, flag) is (mine and theirs)


@pytest.mark.parametrize(("mine", "theirs", "agreed"), [(9, 180, 9), (180, 9, 9), (0, 9, 0), (9, 0, 0)])
def test_the_shorter_hold_time_counts(mine, theirs, agreed):
    local = msgspec.structs.replace(ours(), hold_time_s=mine)
    assert negotiate(local, msgspec.structs.replace(PEER, hold_time_s=theirs), expected_asn=65201).hold_time_s == agreed


def with_role(*told, asn=65201):
    """The peer's OPEN with these values of the capability."""
    received = tuple((9, bytes((value,))) for value in told)
    return msgspec.structs.replace(PEER, asn=asn, role=told[-1] if told else None, received=received)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [("provider", 3), ("customer", 0), ("rs", 2), ("rs-client", 1), ("peer", 4)],
)
def test_roles_that_fit_each_other_are_negotiated(mine, theirs):
    agreed = negotiate(ours(role=mine), with_role(theirs, theirs), expected_asn=65201, role_strict=True)
    assert (agreed.role.text, agreed.peer_role) == (mine, theirs)
    assert "role" in agreed.in_use


@pytest.mark.parametrize(
    ("mine", "theirs"), [(role.text, other) for role in Role for other in range(6) if OPPOSITE_ROLES[role] != other]
)
def test_roles_that_do_not_fit_are_a_role_mismatch(mine, theirs):
    with pytest.raises(NotificationError) as refused:
        negotiate(ours(role=mine), with_role(theirs), expected_asn=65201)
    assert (refused.value.code, refused.value.subcode) == (2, 11)
    assert f'ours is "{mine}"' in str(refused.value)


@pytest.mark.parametrize("mine", ["", "customer"])
def test_a_peer_that_tells_several_roles_is_a_role_mismatch(mine):
    with pytest.raises(NotificationError) as refused:
        negotiate(ours(role=mine), with_role(0, 1), expected_asn=65201)
    assert (refused.value.code, refused.value.subcode) == (2, 11)


def test_a_peer_without_a_role_is_refused_in_strict_mode_only():
    agreed = negotiate(ours(role="customer"), with_role(), expected_asn=65201)
    assert (agreed.role, agreed.peer_role) == (Role.CUSTOMER, None)
    assert "role" not in agreed.in_use
    with pytest.raises(NotificationError) as refused:
        negotiate(ours(role="customer"), with_role(), expected_asn=65201, role_strict=True)
    assert (refused.value.code, refused.value.subcode) == (2, 11)


def test_roles_are_nothing_without_one_of_ours_nor_on_internal_sessions():
    agreed = negotiate(ours(), with_role(3), expected_asn=65201, role_strict=True)
    assert (agreed.role, agreed.peer_role) == (None, Role.CUSTOMER)
    agreed = negotiate(ours(role="customer"), with_role(3, 4, asn=65203), expected_asn="internal", role_strict=True)
    assert (agreed.role, agreed.peer_role) == (None, None)


def test_our_role_is_offered_if_there_is_one():
    assert ours().role is None
    assert ours(role="customer").role == 3
    assert decode_open(encode_open(ours(role="rs-client"))[19:]).role == 2


def test_a_role_of_another_length_is_malformed_wherever_it_stands():
    good, empty = b"\x09\1\3", b"\x09\0"
    for capabilities in (good + empty, empty + good, b"\x09\2\3\3"):
        parameters = bytes((2, len(capabilities))) + capabilities
        body = encode_open(ours())[19:28] + bytes((len(parameters),)) + parameters
        with pytest.raises(NotificationError, match="RFC 9234"):
            decode_open(body)
