"""Reads recorded UPDATEs of one session again: which of them say something of some prefixes, and what."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import msgspec

from bgpd.config.schema_sessions import SessionConfig
from bgpd.history.records import Session
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.exabgp_codec import encode_message
from bgpd.message.nlri import RouteTargetNlri
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.iana import Family, MessageType
from bgpd.model.path import RouteBatch
from bgpd.model.wire import NlriDecoders

_NLRI: NlriDecoders = {Family.L2VPN_EVPN: EvpnNlri(), Family.ROUTE_TARGET: RouteTargetNlri()}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An UPDATE as it came from a neighbor, without its header."""

    at: float
    neighbor: str
    body: bytes

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


class SessionReader:
    """The decoder of one session. `is_own` says which addresses are this host's; `family` is that of the routes."""

    def __init__(
        self, session: Session, config: SessionConfig, is_own: Callable[[bytes], bool], family: Family
    ) -> None:
        self._name = session.name
        self._family = family
        self._decoder = UpdateDecoder(
            session.negotiated,
            nlri_decoders=_NLRI,
            interface=session.interface,
            local_addresses=_Own(is_own),
            accept_martians=config.accept_martians,
            accept_as_sets=config.accept_as_sets,
        )

    def read(self, bodies: Sequence[bytes], at: float) -> Iterator[tuple[Message, RouteBatch]]:
        """The routes of the family in these messages, and which they came in."""
        for body in bodies:
            for batch in self._batches(body):
                if batch.family is self._family:
                    yield Message(at=at, neighbor=self._name, body=body), batch

    def _batches(self, body: bytes) -> Sequence[RouteBatch]:
        """What the session made of it; one that ended it, or was a defect, said nothing."""
        found: list[RouteBatch] = []
        try:
            if self._decoder.read_run([body], found):
                return found
            decoded = self._decoder.decode(body)
        except Exception:  # what the session did with it, too: it was ended
            return ()
        return () if decoded.notification is not None else decoded.batches
