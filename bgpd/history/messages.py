"""Reads recorded UPDATEs of sessions again: which of them say something of some prefixes, and what."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import msgspec

from bgpd.config.schema_sessions import SessionConfig
from bgpd.history.records import Heard, Session
from bgpd.history.wanted import Wanted
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.exabgp_codec import encode_message
from bgpd.message.nlri import RouteTargetNlri
from bgpd.message.open import Negotiated
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.evpn import prefixes_of
from bgpd.model.iana import Family, MessageType
from bgpd.model.route_batch import RouteBatch
from bgpd.model.wire import NlriDecoders

_NLRI: NlriDecoders = {Family.L2VPN_EVPN: EvpnNlri(), Family.ROUTE_TARGET: RouteTargetNlri()}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An UPDATE as it came from a neighbor, without its header."""

    at: float
    neighbor: str
    body: bytes
    negotiated: Negotiated

    @property
    def data(self) -> bytes:
        """With its header."""
        return encode_message(MessageType.UPDATE, self.body)

    @property
    def digest(self) -> str:
        """What tells it from others, short."""
        return hashlib.sha256(self.data).hexdigest()[:12]


class _Own:
    """This host's own addresses, for a decoder."""

    def __init__(self, is_own: Callable[[bytes], bool]) -> None:
        self._is_own = is_own

    def __contains__(self, address: object) -> bool:
        return isinstance(address, bytes) and self._is_own(address)


class Decoders:
    """The decoders of sessions by number, for all tables that are worked out together: each UPDATE is decoded once,
    though its EVPN routes may go into a thousand VRFs. `wanted` is what all of these tables ask for."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.forget()

    def forget(self) -> None:
        """Sessions are numbered anew."""
        self._sessions: dict[int, tuple[Session, UpdateDecoder]] = {}
        self._last: Heard | None = None
        self._said: list[tuple[Message, RouteBatch]] = []
        self._prefixes: list[tuple[Message, list[bytes]]] | None = None

    def session(self, session: Session, config: SessionConfig, is_own: Callable[[bytes], bool]) -> None:
        """There is a session. `is_own`: whether an address is this host's, as the session sees it."""
        if session.number not in self._sessions:
            decoder = UpdateDecoder(
                session.negotiated,
                nlri_decoders=_NLRI,
                interface=session.interface,
                local_addresses=_Own(is_own),
                accept_martians=config.accept_martians,
                accept_as_sets=config.accept_as_sets,
            )
            self._sessions[session.number] = session, decoder

    def read(self, record: Heard) -> Sequence[tuple[Message, RouteBatch]]:
        """The routes of all families in the messages of a record, and which they came in."""
        if record is not self._last:
            self._said, self._prefixes = list(self._read(record)), None
            self._last = record
        return self._said

    def prefixes(self, record: Heard) -> Sequence[tuple[Message, list[bytes]]]:
        """The wanted prefixes of which the messages of a record say something by EVPN."""
        said = self.read(record)
        if self._prefixes is None:
            self._prefixes = [
                (message, self._wanted.among(prefixes_of(keys)))
                for message, batch in said
                if batch.family is Family.L2VPN_EVPN
                for keys in (batch.withdrawn, batch.announced)
            ]
        return self._prefixes

    def _read(self, record: Heard) -> Iterator[tuple[Message, RouteBatch]]:
        session, decoder = self._sessions[record.number]
        for body in record.bodies:
            message = Message(at=record.at, neighbor=session.name, body=body, negotiated=session.negotiated)
            for batch in _batches(decoder, body):
                yield message, batch


def _batches(decoder: UpdateDecoder, body: bytes) -> Sequence[RouteBatch]:
    """What the session made of it; one that ended it, or was a defect, said nothing."""
    found: list[RouteBatch] = []
    try:
        if decoder.read_run([body], found):
            return found
        decoded = decoder.decode(body)
    except Exception:  # what the session did with it, too: it was ended
        return ()
    return () if decoded.notification is not None else decoded.batches
