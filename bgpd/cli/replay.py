"""`bgpd replay`: the routes of an MRT file said to one BGP speaker of a laboratory, as an external neighbor.

Connects to the one address that it is given, and to no other; sends no faster than it is told.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import select
import socket
import time
from collections.abc import Iterator, Mapping

from bgpd.cli.client import CommandFailed
from bgpd.cli.decode import Hooks
from bgpd.cli.mrt import opened
from bgpd.message.exabgp_codec import (
    HEADER_LENGTH,
    KEEPALIVE,
    decode_notification,
    decode_open,
    encode_message,
    encode_notification,
    encode_open,
)
from bgpd.message.mrt import MessageRecord, PeerIndex, Record, RibRecord
from bgpd.message.mrt_attributes import readdressed, update_message
from bgpd.message.notification import describe_notification
from bgpd.message.open import MAX_MESSAGE_LENGTH, Open
from bgpd.model.iana import CeaseSubcode, ErrorCode, MessageType
from bgpd.model.wire import NotificationError

CONNECT_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 90.0
"""How long the other side may take nothing."""
_HOLD_TIME_S = 90
_KEEPALIVE_S = 30.0
_TICK_S = 0.02
_IS_IT_A_NEIGHBOR = "is BGP running there, with the address of this side as its neighbor?"
_ITS_LOG = "see the log of the other side"
_FAMILIES = ((1, 1), (2, 1), (25, 70))


class Speaker:
    """One BGP session, in one thread: what comes is read and, but for a NOTIFICATION, ignored."""

    def __init__(self, sock: socket.socket, *, asn: int, router_id: bytes) -> None:
        self._sock = sock
        self._input = b""
        self._said_at = 0.0
        self._seen: dict[int, bytes] = {}
        self.longest = MAX_MESSAGE_LENGTH
        self._open = Open(
            asn=asn, hold_time_s=_HOLD_TIME_S, router_id=router_id, multiprotocol=_FAMILIES, four_octet_as=True
        )

    def establish(self) -> Open:
        """Exchange OPENs and KEEPALIVEs; the other's OPEN. Raises: CommandFailed."""
        self.send(encode_open(self._open))
        try:
            found = decode_open(self._wait_for(MessageType.OPEN))
        except NotificationError as error:
            raise CommandFailed(f"its OPEN cannot be read: {error.message}", _ITS_LOG) from None
        self.send(KEEPALIVE)
        self._wait_for(MessageType.KEEPALIVE)
        return found

    def send(self, data: bytes) -> None:
        """Send all of it, and read meanwhile. Raises: CommandFailed: the session has ended, or it takes nothing."""
        rest, moved_at = memoryview(data), time.monotonic()
        while rest:
            readable, writable, _ = select.select([self._sock], [self._sock], [], 1.0)
            if readable:
                self._read()
            if writable:
                rest = rest[self._sock.send(rest) :]
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > STALL_TIMEOUT_S:
                raise CommandFailed(
                    f"the other side has taken nothing for {STALL_TIMEOUT_S:.0f} s", "a lower --rate gives it more time"
                )
        self._said_at = time.monotonic()

    def rest(self, seconds: float) -> None:
        """Let time pass: read, and send KEEPALIVEs. Raises: CommandFailed: the session has ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._sock], [], [], min(left, 1.0))[0]:
                self._read()
            if time.monotonic() - self._said_at > _KEEPALIVE_S:
                self.send(KEEPALIVE)

    def cease(self) -> None:
        """End the session."""
        try:
            self.send(encode_notification(ErrorCode.CEASE, CeaseSubcode.ADMINISTRATIVE_SHUTDOWN))
        except (CommandFailed, OSError):
            return

    def _wait_for(self, wanted: MessageType) -> bytes:
        """The body of such a message; it may have come already."""
        end = time.monotonic() + CONNECT_TIMEOUT_S
        while wanted not in self._seen:
            left = end - time.monotonic()
            if left <= 0:
                raise CommandFailed(f"no {wanted.name} came within {CONNECT_TIMEOUT_S:.0f} s", _IS_IT_A_NEIGHBOR)
            if select.select([self._sock], [], [], left)[0]:
                self._read()
        return self._seen[wanted]

    def _read(self) -> None:
        self._receive()
        for kind, body in self._messages():
            self._seen.setdefault(kind, body)

    def _receive(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise CommandFailed("the other side closed the connection", _IS_IT_A_NEIGHBOR)
        self._input += data

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        while len(self._input) >= HEADER_LENGTH:
            length = int.from_bytes(self._input[16:18])
            if length < HEADER_LENGTH:
                raise CommandFailed(
                    "the other side does not speak BGP", "give the address and port of a BGP speaker: --to, --port"
                )
            if len(self._input) < length:
                return
            kind, body = self._input[18], self._input[HEADER_LENGTH:length]
            self._input = self._input[length:]
            if kind == MessageType.NOTIFICATION:
                told = decode_notification(body)
                why = describe_notification(told.code, told.subcode)
                raise CommandFailed(f"the other side ended it: {why}", _ITS_LOG)
            yield kind, body


def replay(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """All routes of a file, then End-of-RIB, then the session stays up for --stay (or until it is interrupted)."""
    target, source = _address(arguments.to), _address(arguments.source) if arguments.source else ""
    with opened(arguments.file) as records:
        try:
            with socket.create_connection(
                (target, arguments.port), CONNECT_TIMEOUT_S, source_address=(source, 0) if source else None
            ) as sock:
                sock.setblocking(False)
                return _over(sock, records, arguments)
        except TimeoutError:
            raise CommandFailed(f"{target} port {arguments.port} does not answer", _IS_IT_A_NEIGHBOR) from None
        except OSError as error:
            if error.filename is not None:
                raise
            raise CommandFailed(
                f"{target} port {arguments.port}: {error.strerror or error}", _IS_IT_A_NEIGHBOR
            ) from None


def _over(sock: socket.socket, records: Iterator[Record], arguments: argparse.Namespace) -> int:
    local = ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]).packed
    hops = {1 if len(local) == 4 else 2: local, 25: local}
    for afi, given in ((1, arguments.next_hop4), (2, arguments.next_hop6)):
        if given:
            hops[afi] = ipaddress.ip_address(_address(given)).packed
    router_id = hops[1] if len(hops.get(1, b"")) == 4 else socket.inet_aton("192.0.2.1")
    speaker = Speaker(sock, asn=arguments.asn, router_id=router_id)
    found = speaker.establish()
    if not arguments.json:
        print(f"established with AS{found.asn}", flush=True)
    try:
        sent, skipped = _send_all(speaker, records, arguments, hops)
        for afi, safi in _FAMILIES:
            speaker.send(_end_of_rib(afi, safi))
        if arguments.json:
            print(json.dumps({"asn": found.asn, "sent": sent, "left_out": skipped}), flush=True)
        else:
            print(f"{sent:,} UPDATEs sent{_skipped_text(skipped)}", flush=True)
        speaker.rest(float("inf") if arguments.stay is None else arguments.stay)
    finally:
        speaker.cease()
    return 0


def _send_all(
    speaker: Speaker, records: Iterator[Record], arguments: argparse.Namespace, hops: Mapping[int, bytes]
) -> tuple[int, dict[str, int]]:
    """How many were sent, and how many were not, by the reason."""
    sent, skipped = 0, dict[str, int]()
    began = time.monotonic()
    for record in records:
        try:
            message = _said_again(record, arguments.asn, hops)
            if len(message) > speaker.longest:
                raise ValueError(f"longer than {speaker.longest} bytes")
        except ValueError as error:
            skipped[str(error)] = skipped.get(str(error), 0) + 1
            continue
        if not message:
            continue
        ahead_s = sent / arguments.rate - (time.monotonic() - began)
        if ahead_s > _TICK_S:
            speaker.rest(ahead_s)
        speaker.send(message)
        sent += 1
    return sent, skipped


def _said_again(record: Record, asn: int, hops: Mapping[int, bytes]) -> bytes:
    """The UPDATE for the first path of a route, or a received UPDATE; b"" for all else. Raises: ValueError."""
    match record:
        case RibRecord(entries=[first, *_]):
            hop = hops.get(record.afi, b"")
            if not hop:
                raise ValueError(f"there is no next hop for address family {record.afi}")
            return update_message(record.afi, record.safi, record.nlri, first.attributes, next_hop=hop, asn=asn)
        case MessageRecord() if record.message[18:19] == bytes((MessageType.UPDATE,)):
            if not record.four_octet_as:
                raise ValueError("2-octet AS numbers")
            if record.add_path:
                raise ValueError("path identifiers")
            return readdressed(record.message[HEADER_LENGTH:], asn, hops)
        case PeerIndex() | RibRecord() | MessageRecord():
            return b""


def _end_of_rib(afi: int, safi: int) -> bytes:
    if (afi, safi) == (1, 1):
        return encode_message(MessageType.UPDATE, bytes(4))
    return encode_message(MessageType.UPDATE, bytes((0, 0, 0, 6, 0x80, 15, 3, 0, afi, safi)))


def _skipped_text(skipped: Mapping[str, int]) -> str:
    if not skipped:
        return ""
    reasons = ", ".join(f"{count:,}: {reason}" for reason, count in list(skipped.items())[:5])
    return f"; left out: {reasons}"


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise CommandFailed(f'"{text}" is no IP address', 'such as "127.0.0.1"') from None
