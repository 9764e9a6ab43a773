"""Where neighbors can connect to: sockets of the main table and of each VRF, and the TCP MD5 and TCP-AO keys on them.

A socket bound to a VRF's device accepts only connections that arrive in that VRF. Where the kernel has no VRF devices
bgpd does not listen in VRFs: replies to an incoming connection would leave by the main table. Neighbors there are still
dialed, over their own interface.

Decides which sockets are open; incoming.py decides which neighbor gets a connection.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Protocol

import structlog

from bgpd.config.schema import ListenConfig
from bgpd.speaker.admission import Admission
from bgpd.speaker.authentication import (
    Authentication,
    BadAuthentication,
    is_wanted,
    problem_text,
    read_authentication,
)
from bgpd.speaker.listener import Listener
from bgpd.speaker.saved import SavedListener
from bgpd.speaker.transport import Wire

log = structlog.get_logger()


class ConnectionTaker(Protocol):
    """Who is given accepted connections."""

    def take(self, vrf: str, wire: Wire) -> None:
        """A connection that came in through a VRF ("": the main table)."""


class Listening:
    """The listening sockets of this host, by VRF."""

    def __init__(self, port: int, *, admission: Admission) -> None:
        self._port = port
        self._admission = admission
        self._taker: ConnectionTaker | None = None
        self._listeners: dict[str, Listener] = {}
        self._signed_ranges: set[str] = set()
        self._range_errors: dict[str, str] = {}
        self._inherited: dict[str, dict[int, socket.socket]] = {}

    @property
    def error(self) -> str:
        """What keeps neighbors from connecting to the main table, "" if nothing."""
        return self.socket_error or next(iter(self._range_errors.values()), "")

    @property
    def socket_error(self) -> str:
        """Why the main table's sockets are not all open, "" if they are."""
        return self._listeners[""].error if "" in self._listeners else ""

    def open(self, taker: ConnectionTaker) -> None:
        """Listen in the main table, in a running loop; later calls retry what could not be opened."""
        self._taker = taker
        listener = self._listeners.get("") or self._add("")
        error = listener.error
        if listener.open():
            if error:
                log.info("listen.recovered", port=self._port)
        elif listener.error != error:
            log.error("listen.failed", error=listener.error)

    def follow(self, devices: set[str]) -> set[str]:
        """Listen in these VRFs, whose devices exist, and in no other; those in which that is new."""
        if self._taker is None:
            return set()
        for vrf in self._listeners.keys() - devices - {""}:
            self._listeners.pop(vrf).close()
        fresh = devices - self._listeners.keys()
        for vrf in devices:
            listener = self._listeners.get(vrf) or self._add(vrf)
            error = listener.error
            if (vrf in fresh or error) and not listener.open() and listener.error != error:
                log.error("listen.failed", vrf=vrf, error=listener.error)
        return fresh

    def _add(self, vrf: str) -> Listener:
        assert self._taker is not None
        accept = partial(self._taker.take, vrf)
        listener = self._listeners[vrf] = Listener(self._port, accept, admission=self._admission, device=vrf)
        listener.inherited = self._inherited.pop(vrf, {})
        return listener

    def close(self) -> None:
        """Stop accepting."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        self.inherit(())

    # From one process to the next

    def saved(self) -> Iterator[tuple[SavedListener, int]]:
        """The sockets for another process, with their descriptors."""
        number = 0
        for vrf, listener in self._listeners.items():
            for sock in listener.sockets:
                number += 1
                yield SavedListener(f"listener-{number}", vrf, int(sock.family), self._port), sock.fileno()

    def inherit(self, left: Iterable[tuple[SavedListener, socket.socket]]) -> None:
        """Listen on these, which another process has opened, once it is wanted; before `open`."""
        for known in self._inherited.values():
            for sock in known.values():
                sock.close()
        self._inherited.clear()
        for saved, sock in left:
            if saved.port == self._port:
                self._inherited.setdefault(saved.vrf, {})[saved.family] = sock
            else:
                sock.close()

    # Authentication

    def sign(self, vrf: str, address: bytes, wanted: Authentication | None) -> None:
        """Want signed segments from one neighbor; None ends that. Nothing where nobody listens.

        Raises: OSError: the kernel lacks TCP MD5, TCP-AO or the algorithm.
        """
        listener = self._listeners.get(vrf)
        if listener is not None:
            listener.authenticate(address, 8 * len(address), wanted)

    def may_accept(self, listen: ListenConfig) -> bool:
        """Whether neighbors of a range may connect: a range whose keys cannot be read accepts nobody."""
        return not is_wanted(listen) or listen.prefix in self._signed_ranges

    def sign_ranges(self, ranges: Iterable[ListenConfig]) -> None:
        """Want signed segments from the ranges that have keys."""
        for listen in ranges:
            if not is_wanted(listen):
                continue
            try:
                self._sign_range(listen)
            except BadAuthentication as error:
                self._signed_ranges.discard(listen.prefix)
                if self._range_errors.get(listen.prefix) != str(error):
                    self._range_errors[listen.prefix] = str(error)
                    log.error("listen.no_password", prefix=listen.prefix, error=str(error))
            else:
                self._signed_ranges.add(listen.prefix)
                self._range_errors.pop(listen.prefix, None)

    def _sign_range(self, listen: ListenConfig) -> None:
        wanted = read_authentication(listen)
        network = ipaddress.ip_network(listen.prefix)
        if "" in self._listeners and wanted is not None:
            try:
                self._listeners[""].authenticate(network.network_address.packed, network.prefixlen, wanted)
            except OSError as error:
                raise BadAuthentication(problem_text(error, wanted)) from error
