"""The sessions that another process has left to this one, until their neighbors are there (Speaker.adopt).

Sends what was left unsent, then KEEPALIVEs, and reads nothing: a start may take longer than a short hold time. Decides
nothing about sessions.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Mapping

import msgspec

from bgpd.message.exabgp_codec import KEEPALIVE
from bgpd.model.unreadable import UNREADABLE
from bgpd.speaker.saved import SavedListener, SavedSession, SavedSpeaker, SavedWait

_SHARE = 0.8
"""Of the keepalive time, after which the next KEEPALIVE is sent."""


class LeftSession:
    """One session and its socket. A connection that is lost is whoever's that goes on with it: what its peer said last
    is still to be read."""

    def __init__(self, saved: SavedSession, sock: socket.socket) -> None:
        self.socket = sock
        self._saved = saved
        self._unsent = saved.connection.unsent
        self._keepalives = 0

    @property
    def saved(self) -> SavedSession:
        """As it is now."""
        sent = self._saved.connection.messages_sent + self._keepalives
        connection = msgspec.structs.replace(self._saved.connection, unsent=self._unsent, messages_sent=sent)
        return msgspec.structs.replace(self._saved, connection=connection)

    def keep_alive(self) -> None:
        """Send what waits, and a KEEPALIVE if the peer takes all of it and wants one."""
        if self._send_rest() and self._saved.connection.keepalive_time_s:
            self._unsent = KEEPALIVE
            self._keepalives += 1
            self._send_rest()

    def _send_rest(self) -> bool:
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
        except OSError:  # the peer does not read, or the connection is lost
            return False
        return True

    def close(self) -> None:
        """Give it up: its neighbor sees the connection end, and may keep our routes (RFC 4724)."""
        self.socket.close()


class LeftSessions:
    """All of them. `refused`: by name, why a session cannot be gone on with; `listeners` with their sockets. `waits`:
    by name, the neighbors that had no session. `bfd`: what was heard last of the BFD sessions."""

    def __init__(self, sessions: list[LeftSession], refused: dict[str, str]) -> None:
        self.sessions = sessions
        self.refused = refused
        self.listeners: list[tuple[SavedListener, socket.socket]] = []
        self.waits: dict[str, SavedWait] = {}
        self.bfd: list[str] = []
        self._is_taken = threading.Event()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self.sessions)

    def keep_alive(self) -> None:
        """Send what was left unsent, and KEEPALIVEs as they are due, by a thread, from now on until `take`."""
        times = [one.saved.connection.keepalive_time_s for one in self.sessions]
        least_s = min(filter(None, times), default=0)
        if least_s:
            self._thread = threading.Thread(target=self._run, args=(_SHARE * least_s,), daemon=True)
            self._thread.start()

    def _run(self, interval_s: float) -> None:
        while True:
            for session in self.sessions:
                session.keep_alive()
            if self._is_taken.wait(interval_s):
                return

    def take(self) -> list[LeftSession]:
        """The sessions, for whoever goes on with them."""
        self._is_taken.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        sessions, self.sessions = self.sessions, []
        return sessions

    def close(self) -> None:
        """Give all up that nobody has taken."""
        for session in self.take():
            session.close()
        for _, sock in self.listeners:
            sock.close()
        self.listeners = []


def read(section: bytes, descriptors: Mapping[str, int]) -> LeftSessions:
    """The sessions that another process has left; each descriptor that is none of theirs is closed.

    Raises: UNREADABLE: it cannot be read as a whole; nothing was closed.
    """
    saved = msgspec.msgpack.decode(section, type=SavedSpeaker)
    return _of(saved, {name: socket.socket(fileno=one) for name, one in descriptors.items() if _is_socket(one)})


def read_with_sockets(section: bytes, sockets: Mapping[str, socket.socket]) -> LeftSessions:
    """The same where descriptors are sockets already. Raises: msgspec.MsgspecError."""
    return _of(msgspec.msgpack.decode(section, type=SavedSpeaker), dict(sockets))


def _of(saved: SavedSpeaker, sockets: dict[str, socket.socket]) -> LeftSessions:
    sessions, refused = [], {}
    for packed in saved.sessions:
        try:
            session = msgspec.msgpack.decode(packed, type=SavedSession)
        except UNREADABLE as error:
            name = _name_of(packed)
            refused[name] = f"another version of bgpd has left it: {error}"
            continue
        sock = sockets.pop(session.descriptor, None)
        if sock is None:
            refused[session.name] = "its socket was not handed over"
        else:
            sessions.append(LeftSession(session, sock))
    left = LeftSessions(sessions, refused)
    left.bfd = saved.bfd
    for packed in saved.waits:
        with contextlib.suppress(*UNREADABLE):  # another version of bgpd has left it
            wait = msgspec.msgpack.decode(packed, type=SavedWait)
            left.waits[wait.name] = wait
    for listener in saved.listeners:
        sock = sockets.pop(listener.descriptor, None)
        if sock is not None:
            left.listeners.append((listener, sock))
    for sock in sockets.values():
        sock.close()
    return left


class _Named(msgspec.Struct):
    name: str = "?"


def _name_of(packed: bytes) -> str:
    with contextlib.suppress(*UNREADABLE):
        return msgspec.msgpack.decode(packed, type=_Named).name
    return "?"


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False
