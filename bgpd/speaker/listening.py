"""Where neighbors can connect to: sockets of the main table and of each VRF, of port 179 and of guests' own ports, and
the TCP MD5 and TCP-AO keys on them.

A socket bound to a VRF's device accepts only connections that arrive in that VRF. Where the kernel has no VRF devices
bgpd does not listen in VRFs: replies to an incoming connection would leave by the main table. Neighbors there are still
dialed, over their own interface.

Decides which sockets are open; incoming.py decides which neighbor gets a connection.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Hashable, Iterable, Iterator
from functools import partial
from typing import Protocol

from bgpd.config.schema_sessions import ListenConfig, SessionConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.model.iana import BGP_PORT
from bgpd.runtime.events import log
from bgpd.speaker.admission import Admission
from bgpd.speaker.authentication import (
    Authentication,
    BadAuthentication,
    is_wanted,
    left_keys,
    problem_text,
    read_authentication,
)
from bgpd.speaker.listener import Listener
from bgpd.speaker.saved import SavedListener
from bgpd.speaker.transport import NewSocket, Wire


class ConnectionTaker(Protocol):
    """Who is given accepted connections."""

    def take(self, vrf: str, port: int, wire: Wire) -> None:
        """A connection that came in through a VRF ("": the main table) by this port, as the configuration has it."""


Door = tuple[str, int]
"""Where one can connect to: VRF ("": the main table), and port as the configuration has it."""
_MAIN: Door = ("", BGP_PORT)


class Listening:
    """The listening sockets of this host, by door. `port` is what is listened on in place of 179: another in tests."""

    def __init__(self, port: int, *, admission: Admission, new_socket: NewSocket = socket.socket) -> None:
        self._port = port
        self._new_socket = new_socket
        self._admission = admission
        self._taker: ConnectionTaker | None = None
        self._listeners: dict[Door, Listener] = {}
        self._signed_ranges: set[Hashable] = set()
        self._range_errors: dict[Hashable, str] = {}
        self._inherited: dict[Door, list[tuple[SavedListener, socket.socket]]] = {}

    @property
    def error(self) -> str:
        """What keeps neighbors from connecting to the main table, "" if nothing."""
        errors = [self.socket_error, *self._range_errors.values()]
        errors += [listener.error for (vrf, _), listener in self._listeners.items() if not vrf]
        return next(filter(None, errors), "")

    @property
    def socket_error(self) -> str:
        """Why the main table's sockets for port 179 are not all open, "" if they are."""
        return self._listeners[_MAIN].error if _MAIN in self._listeners else ""

    def open(self, taker: ConnectionTaker) -> None:
        """Listen in the main table, in a running loop; later calls retry what could not be opened."""
        self._taker = taker
        listener = self._listeners.get(_MAIN) or self._add(_MAIN)
        error = listener.error
        if listener.open():
            if error:
                log.info("listen.recovered", port=self._port)
        elif listener.error != error:
            log.error("listen.failed", error=listener.error)

    def follow(self, doors: set[Door]) -> set[Door]:
        """Listen at these, beside port 179 of the main table, and at no other; those where that is new, or begins anew
        since the VRF's device was made anew.

        The devices of their VRFs exist.
        """
        if self._taker is None:
            return set()
        for door in [one for one, known in self._listeners.items() if one not in doors or known.is_deaf]:
            if door != _MAIN:
                self._listeners.pop(door).close()
        fresh = doors - self._listeners.keys()
        for door in doors - {_MAIN}:
            listener = self._listeners.get(door) or self._add(door)
            error = listener.error
            if (door in fresh or error) and not listener.open() and listener.error != error:
                log.error("listen.failed", vrf=door[0], error=listener.error)
        return fresh

    def _add(self, door: Door) -> Listener:
        assert self._taker is not None
        vrf, port = door
        accept = partial(self._taker.take, vrf, port)
        listener = Listener(
            self._opened(port), accept, admission=self._admission, device=vrf, new_socket=self._new_socket
        )
        self._listeners[door] = listener
        for saved, sock in self._inherited.pop(door, ()):
            listener.inherited[saved.family] = sock
            listener.left |= {(keys.address, keys.prefix_length): left_keys(keys) for keys in saved.keys}
        return listener

    def _opened(self, port: int) -> int:
        """The port that is listened on for one of the configuration."""
        return self._port if port == BGP_PORT else port

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
        for (vrf, _), listener in self._listeners.items():
            for sock in listener.sockets:
                number += 1
                keys = listener.saved_keys(sock.family)
                saved = SavedListener(f"listener-{number}", vrf, int(sock.family), listener.port, keys)
                yield saved, sock.fileno()

    def inherit(self, left: Iterable[tuple[SavedListener, socket.socket]]) -> None:
        """Listen on these, which another process has opened, once it is wanted; before `open`."""
        for known in self._inherited.values():
            for _, sock in known:
                sock.close()
        self._inherited.clear()
        for saved, sock in left:
            port = BGP_PORT if saved.port == self._port else saved.port
            self._inherited.setdefault((saved.vrf, port), []).append((saved, sock))

    def inherited_are_over(self) -> None:
        """All that is wanted listens, signed as it should be: close what another process has listened on, and this one
        does not, and forget keys that only the other one had."""
        self.inherit(())
        for listener in self._listeners.values():
            listener.forget_left()

    # Authentication

    def sign(self, config: SessionConfig, address: bytes, wanted: Authentication | None) -> None:
        """Want signed segments from one neighbor of a section; None ends that. Nothing where nobody listens.

        Raises: OSError: the kernel lacks TCP MD5, TCP-AO or the algorithm.
        """
        listener = self._listeners.get(door_of(config))
        if listener is not None:
            listener.authenticate(address, 8 * len(address), wanted)

    def may_accept(self, listen: ListenConfig) -> bool:
        """Whether neighbors of a range may connect: a range whose keys cannot be read accepts nobody."""
        return not is_wanted(listen) or _range_key(listen) in self._signed_ranges

    def sign_ranges(self, ranges: Iterable[ListenConfig]) -> None:
        """Want signed segments from the ranges that have keys. (Guests of one address each have theirs: `sign`.)"""
        for listen in ranges:
            if not is_wanted(listen) or (isinstance(listen, GuestConfig) and listen.is_single):
                continue
            key = _range_key(listen)
            try:
                self._sign_range(listen)
            except BadAuthentication as error:
                self._signed_ranges.discard(key)
                if self._range_errors.get(key) != str(error):
                    self._range_errors[key] = str(error)
                    log.error("listen.no_password", prefix=listen.prefix, error=str(error))
            else:
                self._signed_ranges.add(key)
                self._range_errors.pop(key, None)

    def _sign_range(self, listen: ListenConfig) -> None:
        wanted = read_authentication(listen)
        network = ipaddress.ip_network(listen.prefix)
        listener = self._listeners.get(door_of(listen))
        if listener is not None and wanted is not None:
            try:
                listener.authenticate(network.network_address.packed, network.prefixlen, wanted)
            except OSError as error:
                raise BadAuthentication(problem_text(error, wanted)) from error


def door_of(config: SessionConfig) -> Door:
    """Where the neighbors of a section connect to."""
    return config.vrf, config.port if isinstance(config, GuestConfig) else BGP_PORT


def _range_key(listen: ListenConfig) -> Hashable:
    return listen.prefix, door_of(listen)
