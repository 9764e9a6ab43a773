import contextlib
import os
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.message.exabgp_codec import (
    KEEPALIVE,
    Notification,
    RouteRefresh,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_message,
    encode_notification,
    encode_open,
    encode_route_refresh,
)
from bgpd.message.open import GracefulRestart, LongLived, Open
from bgpd.model.iana import Family, MessageType
from bgpd.model.wire import NotificationError

FULL = Open(
    asn=4200000000,
    hold_time_s=9,
    router_id=b"\x0a\xff\1\1",
    multiprotocol=((1, 1), (2, 1), (25, 70)),
    four_octet_as=True,
    route_refresh=True,
    enhanced_route_refresh=True,
    extended_message=True,
    extended_next_hop=((1, 1, 2),),
    add_path=((1, 1, 1),),
    graceful_restart=GracefulRestart(
        restarting=True, notification=True, restart_time_s=120, families=((1, 1, True), (2, 1, False))
    ),
    long_lived=(LongLived(1, 1, True, 3600),),
    hostname="node1",
    software_version="bgpd/0.1",
    role=3,
)
GOLDEN = (
    "ff" * 16 + "0091" + "01" + "04" + "5ba0" + "0009" + "0aff0101" + "74"
    "0206010400010001"
    "0206010400020001"
    "0206010400190046"
    "02020200"
    "02080506000100010002"
    "02020600"
    "0203090103"
    "020c400ac0780001018000020100"
    "02064104fa56ea00"
    "0206450400010101"
    "02024600"
    "02094707000101 80000e10"
    "0209490705 6e6f64653100"
    "020b4b09 08626770642f302e31"
).replace(" ", "")
IDENTITY = bytes.fromhex("04fdb1005a0a000001")


def without_received(message):
    return msgspec.structs.replace(message, received=())


def open_with(*capabilities):
    """An OPEN body whose capabilities share one optional parameter."""
    value = b"".join(bytes((code, len(data))) + data for code, data in capabilities)
    return IDENTITY + bytes((len(value) + 2, 2, len(value))) + value


def test_open_golden_bytes_both_ways():
    assert encode_open(FULL).hex() == GOLDEN
    assert without_received(decode_open(encode_open(FULL)[19:])) == FULL


def test_an_open_without_capabilities():
    plain = Open(asn=65201, hold_time_s=90, router_id=b"\x0a\0\0\1")
    assert encode_open(plain).hex() == "ff" * 16 + "001d01" + "04feb1005a0a000001" + "00"
    assert decode_open(encode_open(plain)[19:]) == plain


def test_many_capabilities_use_the_extended_length_of_rfc_9072():
    entries = tuple((afi, 1, 1) for afi in range(60))
    message = msgspec.structs.replace(FULL, add_path=entries)
    body = encode_open(message)[19:]
    assert body[9:11] == b"\xff\xff"
    assert without_received(decode_open(body)) == message


def test_my_as_of_0_is_refused_whatever_the_capability_says():
    capability = bytes((2, 6, 65, 4, 0, 0, 0xFD, 0xE9))
    for parameters in (b"\0", bytes((len(capability),)) + capability):
        with pytest.raises(NotificationError) as refused:
            decode_open(b"\4\0\0" + IDENTITY[3:] + parameters)
        assert (refused.value.code, refused.value.subcode) == (2, 2)


REFRESH_PARAMETER = bytes((2, 0, 2, 2, 0))


@pytest.mark.parametrize("length", [1, 7, 254, 255])
def test_first_parameter_of_type_255_means_the_extended_form_whatever_the_length_says(length):
    body = IDENTITY + bytes((length, 255)) + len(REFRESH_PARAMETER).to_bytes(2) + REFRESH_PARAMETER
    assert decode_open(body).route_refresh


def test_length_255_without_type_255_is_the_usual_form():
    parameters = bytes((2, 253)) + bytes((200, 251)) + bytes(251)
    assert decode_open(IDENTITY + bytes((255,)) + parameters).received == ((200, bytes(251)),)


@pytest.mark.parametrize(
    "field",
    [
        "ffff",
        "ffff00",
        "01ff",
        "01ff00",
        "ffff0001",
        "ffff0003 020001".replace(" ", ""),
        "ffff0002 0200".replace(" ", ""),
        "04ff0000 00".replace(" ", ""),
        "00ff0000",
        "00ff",
        "01",
        "0102",
    ],
)
def test_truncated_and_inconsistent_optional_parameters_are_errors(field):
    with pytest.raises(NotificationError) as refused:
        decode_open(IDENTITY + bytes.fromhex(field))
    assert (refused.value.code, refused.value.subcode) == (2, 0)


@given(
    st.builds(
        Open,
        asn=st.integers(1, 0xFFFFFFFF),
        hold_time_s=st.integers(0, 0xFFFF),
        router_id=st.binary(min_size=4, max_size=4),
        multiprotocol=st.lists(st.sampled_from([(1, 1), (2, 1), (25, 70), (1, 128)]), unique=True).map(tuple),
        four_octet_as=st.just(True),
        route_refresh=st.booleans(),
        extended_message=st.booleans(),
        hostname=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        graceful_restart=st.none() | st.builds(GracefulRestart, restart_time_s=st.integers(0, 0xFFF)),
    )
)
def test_open_round_trip(message):
    expected = msgspec.structs.replace(message, hostname=message.hostname.encode()[:64].decode("utf-8", "ignore"))
    assert without_received(decode_open(encode_open(message)[19:])) == expected


@given(st.binary(max_size=80))
def test_random_opens_raise_only_notification_errors(body):
    for attempt in (body, IDENTITY + body, open_with((1, body[:4]), (64, body), (73, body), (71, body))):
        with contextlib.suppress(NotificationError):
            decode_open(attempt)


@pytest.mark.parametrize(
    ("body", "code", "subcode", "data"),
    [
        (IDENTITY, 1, 2, b"\0\x1c"),
        (b"\3" + IDENTITY[1:] + b"\0", 2, 1, b"\0\4"),
        (IDENTITY + b"\5", 2, 0, b""),
        (IDENTITY + b"\2\1\0", 2, 4, b""),
        (IDENTITY + b"\2\x63\0", 2, 4, b""),
        (open_with((65, b"\0\0\0"))[:-1] + b"", 2, 0, b""),
        (open_with((65, b"\0\0\0")), 2, 0, b""),
        (open_with((1, b"")), 2, 0, b""),
        (open_with((64, b"")), 2, 0, b""),
        (open_with((9, b"")), 2, 0, b""),
        (open_with((71, b"\0")), 2, 0, b""),
    ],
)
def test_malformed_opens_carry_their_notification(body, code, subcode, data):
    with pytest.raises(NotificationError) as error:
        decode_open(body)
    assert (error.value.code, error.value.subcode, error.value.data) == (code, subcode, data)


def test_capabilities_that_only_people_read_never_refuse_a_session():
    message = decode_open(open_with((73, b"\x09abc"), (75, b"\xff"), (200, b"xyz"), (1, b"\0\1\0\1"), (1, b"\0\1\0\1")))
    assert (message.hostname, message.software_version, message.multiprotocol) == ("", "", ((1, 1),))


def test_notification_and_keepalive_golden_bytes():
    assert encode_notification(6, 2, b"\2hi").hex() == "ff" * 16 + "001803" + "0602026869"
    assert decode_notification(b"\6\2\2hi") == Notification(6, 2, b"\2hi")
    assert decode_notification(b"") == Notification(0, 0)
    assert KEEPALIVE.hex() == "ff" * 16 + "001304" == encode_message(MessageType.KEEPALIVE, b"").hex()


def test_route_refresh_golden_bytes_both_ways():
    assert encode_route_refresh(25, 70, 1).hex() == "ff" * 16 + "001705" + "00190146"
    assert decode_route_refresh(b"\0\x19\1\x46") == RouteRefresh(25, 70, 1)
    assert decode_route_refresh(b"\0\1\7\1").subtype == 7
    assert decode_route_refresh(b"\0\1\0\1orf entries") == RouteRefresh(1, 1)
    with pytest.raises(NotificationError) as error:
        decode_route_refresh(b"\0\1\1\1x")
    assert (error.value.code, error.value.subcode) == (7, 1)
    with pytest.raises(NotificationError):
        decode_route_refresh(b"\0\1\0")


def test_the_library_neither_reads_the_environment_nor_asks_the_dns():
    program = (
        "import socket, os\n"
        "def refuse(*_): raise SystemExit('asked the DNS')\n"
        "socket.getfqdn = socket.gethostname = refuse\n"
        "from bgpd.message.exabgp_codec import load, encode_route_refresh\n"
        "encode_route_refresh(1, 1)\n"
        "asn = load().ASN\n"
        "assert asn(4200000001) is not asn(4200000001)\n"
        "assert not [name for name in os.environ if name.lower().startswith('exabgp')]\n"
    )
    environment = os.environ | {"exabgp_log_level": "nonsense", "exabgp.tcp.port": "x"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)


def test_another_version_of_the_library_is_refused():
    program = (
        "import exabgp.version\nexabgp.version.release = '6.0.0'\nfrom bgpd.message.exabgp_codec import load\nload()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "RuntimeError: ExaBGP 6.0.0 is installed" in ended.stderr


@pytest.mark.parametrize(
    ("field", "restarting", "notification"), [(0, False, False), (8, True, False), (4, False, True)]
)
@pytest.mark.parametrize("restart_time_s", [0, 1, 120, 4095])
def test_restart_time_and_flags_are_told_apart(field, restarting, notification, restart_time_s):
    """RFC 4724 section 3, RFC 8538 section 2: four bits of flags, twelve of seconds."""
    head = (field << 12 | restart_time_s).to_bytes(2)
    found = decode_open(open_with((64, head + b"\0\1\1\x80"))).graceful_restart
    assert found == GracefulRestart(
        restarting=restarting,
        notification=notification,
        restart_time_s=restart_time_s,
        families=((1, 1, True),),
    )
    assert not decode_open(open_with((64, head + b"\0\1\1\0"))).graceful_restart.forwarding(Family.IPV4_UNICAST)


def test_of_several_graceful_restart_capabilities_the_last_one_counts_alone():
    """RFC 4724 section 3."""
    first, last = b"\x80\x64\0\1\1\x80\0\2\1\x80", b"\x40\x32\0\2\1\0"
    found = decode_open(open_with((64, first), (1, b"\0\1\0\1"), (64, last))).graceful_restart
    assert found == GracefulRestart(notification=True, restart_time_s=50, families=((2, 1, False),))
