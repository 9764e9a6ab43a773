"""Reads recorded UPDATEs of one session again: which of them say something of some prefixes, and what."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import msgspec

from bgpd.config.schema_sessions import SessionConfig
from bgpd.history.records import Session
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.exabgp_codec import HEADER_LENGTH
from bgpd.message.nlri import RouteTargetNlri
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.iana import Family, MessageType
from bgpd.model.path import RouteBatch
from bgpd.model.wire import NlriDecoders

_NLRI: NlriDecoders = {Family.L2VPN_EVPN: EvpnNlri(), Family.ROUTE_TARGET: RouteTargetNlri()}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An UPDATE as it came from a neighbor, header included."""

    at: float
    neighbor: str
    data: bytes

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
    """The decoder of one session. `is_own` says which addresses are this host's."""

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

    def read(self, data: bytes, at: float, keys: frozenset[bytes]) -> Iterator[tuple[Message, RouteBatch]]:
        """The routes of the family in those messages that say something of one of these keys."""
        messages = list(_cut(data))
        bodies = [message[HEADER_LENGTH:] for message in messages]
        if not any(self._names_one(batch, keys) for batch in self._batches(bodies)):
            return
        for message in messages:
            for batch in self._batches([message[HEADER_LENGTH:]]):
                if self._names_one(batch, keys):
                    yield Message(at=at, neighbor=self._name, data=message), batch

    def _names_one(self, batch: RouteBatch, keys: frozenset[bytes]) -> bool:
        return batch.family is self._family and not (
            keys.isdisjoint(batch.announced) and keys.isdisjoint(batch.withdrawn)
        )

    def _batches(self, bodies: list[bytes]) -> Iterator[RouteBatch]:
        """What the session made of these; one that ends it, or was a defect, said nothing."""
        at = 0
        while at < len(bodies):
            found: list[RouteBatch] = []
            at += self._decoder.read_run(bodies[at:], found)
            yield from found
            if at < len(bodies):
                try:
                    decoded = self._decoder.decode(bodies[at])
                except Exception:  # what the session did with it, too: it was ended
                    return
                at += 1
                if decoded.notification is not None:
                    return
                yield from decoded.batches


def _cut(data: bytes) -> Iterator[bytes]:
    """The UPDATEs in these bytes."""
    at = 0
    while at + HEADER_LENGTH <= len(data):
        length = max(int.from_bytes(data[at + 16 : at + 18]), HEADER_LENGTH)
        if data[at + 18] == MessageType.UPDATE:
            yield data[at : at + length]
        at += length
