"""The sessions that there are, and who hears what is said in them: BMP stations and MRT files, as reloads have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bgpd.message.exabgp_codec import Notification
from bgpd.model.source import Source
from bgpd.runtime.events import log
from bgpd.speaker.tap import SessionTap, TappedSession


class Listener(SessionTap, Protocol):
    """A SessionTap that can begin anew."""

    def failed(self, defect: Exception) -> None:
        """This was raised when it was told something: it hears nothing more until it is added again."""


class TappedSessions:
    """A SessionTap that passes on to others, and knows the established sessions for those that come later."""

    def __init__(self) -> None:
        self.established: dict[Source, TappedSession] = {}
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        """It hears all from now on; what there is already it finds in `established`."""
        self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        """It hears no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def session_up(self, session: TappedSession) -> None:
        self.established[session.source] = session
        self._tell(lambda listener: listener.session_up(session))

    def updates(self, source: Source, bodies: Sequence[bytes]) -> None:
        if self._listeners:
            self._tell(lambda listener: listener.updates(source, bodies))

    def updates_sent(self, source: Source, messages: Sequence[bytes]) -> None:
        if self._listeners:
            self._tell(lambda listener: listener.updates_sent(source, messages))

    def session_down(self, source: Source, notification: Notification | None, *, sent: bool) -> None:
        self.established.pop(source, None)
        self._tell(lambda listener: listener.session_down(source, notification, sent=sent))

    def _tell(self, what: Callable[[Listener], None]) -> None:
        """A listener's defect is not the session's: it begins anew."""
        for listener in list(self._listeners):
            try:
                what(listener)
            except Exception as defect:
                log.exception("export.failed", listener=type(listener).__name__)
                self.remove(listener)
                listener.failed(defect)
