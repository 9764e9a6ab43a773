"""Unexpected exceptions while processing a neighbor's input: counted, recorded, and the neighbor is refused for a time.

Such an exception is a defect of bgpd, and ends that neighbor's session only (docs/decisions/0009). The first is
followed by a short pause; each further one doubles it, until a neighbor has caused none for an hour. Decides how long a
neighbor is refused, with which NOTIFICATION and which reason; never what an RFC calls an error (update_decoder.py).
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from bgpd.message.exabgp_codec import Notification
from bgpd.model.iana import CeaseSubcode, ErrorCode
from bgpd.runtime.events import log

FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 600.0
FORGET_S = 3600.0
"""A neighbor that was let back for so long without a defect starts with the first pause again."""
KEPT_BYTES = 65_535
"""Of the messages that were worked off: the longest message is kept whole."""
LOGGED_BYTES = 4096
MAX_NEIGHBORS = 256
"""Neighbors whose defects are remembered; dynamic ones come and go under ever new names."""

OUT_OF_RESOURCES = Notification(ErrorCode.CEASE, CeaseSubcode.OUT_OF_RESOURCES)
_UNSPECIFIC = Notification(ErrorCode.CEASE, 0)
_UNREADABLE = Notification(ErrorCode.UPDATE_MESSAGE, 0)
"""With subcode 0, Unspecific (RFC 4271 section 6.3): no RFC has a subcode for a receiver that fails."""


class Consequence(msgspec.Struct, frozen=True):
    """What follows from a defect for the neighbor's session."""

    notification: Notification
    reason: str
    pause_s: float


class _Known(msgspec.Struct):
    """The defects of one neighbor, over all its sessions. `messages` are those of the last, headers included."""

    count: int = 0
    error: str = ""
    at: float = 0.0
    messages: bytes = b""
    in_a_row: int = 0
    let_back_at: float = 0.0


class Defects:
    """The defects of all neighbors by name, so that a neighbor that comes back finds its own."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def note(self, name: str, error: Exception, messages: bytes, *, now: float, is_update: bool = False) -> Consequence:
        """Count one. `messages` were being worked off; `is_update`: the last of them is an UPDATE that was not decoded.

        `now` is monotonic.
        """
        known = self._known.pop(name, None) or _Known()
        self._known[name] = known
        if len(self._known) > MAX_NEIGHBORS:
            del self._known[next(iter(self._known))]
        if now - known.let_back_at > FORGET_S:
            known.in_a_row = 0
        pause_s = min(FIRST_PAUSE_S * float(1 << min(known.in_a_row, 16)), MAX_PAUSE_S)
        known.count += 1
        known.in_a_row += 1
        known.let_back_at = now + pause_s
        known.at = time.time()
        known.error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        known.messages = messages[-KEPT_BYTES:]
        log.error(
            "session.defect",
            neighbor=name,
            error=known.error,
            messages=messages[-LOGGED_BYTES:].hex(),
            refused_s=pause_s,
            exc_info=error,
        )
        reason = (
            f"a defect of bgpd ({type(error).__name__}) while it worked for this neighbor; refused for {pause_s:.0f} s;"
            " please report it with last_defect_messages of bgpd show neighbors --json"
        )
        return Consequence(_notification_for(error, is_update=is_update), reason, pause_s)

    def view_of(self, name: str) -> dict[str, Any]:
        """The fields of a NeighborView that show them."""
        known = self._known.get(name)
        if known is None:
            return {}
        return {
            "defects": known.count,
            "last_defect": known.error,
            "last_defect_at": known.at,
            "last_defect_messages": known.messages.hex(),
        }


def _notification_for(error: Exception, *, is_update: bool) -> Notification:
    if isinstance(error, MemoryError):
        return OUT_OF_RESOURCES
    return _UNREADABLE if is_update else _UNSPECIFIC
