"""The sections of a snapshot of a process that had nothing."""

from __future__ import annotations

import msgspec

from bgpd.inheritance import SavedDaemon
from bgpd.rib.saved import SavedRib
from bgpd.speaker.saved import SavedSpeaker

SECTIONS: dict[str, bytes] = {
    "daemon": msgspec.msgpack.encode(
        SavedDaemon(version="1", pid=1, at=1.0, converged=True, protocols=[4], unread_since=1.0)
    ),
    "speaker": msgspec.msgpack.encode(SavedSpeaker([], [], [])),
    "rib": msgspec.msgpack.encode(SavedRib([], [], [], [])),
    "base": b"",
    "kernel": msgspec.msgpack.encode({}),
    "feeds": msgspec.msgpack.encode({}),
    "moves": msgspec.msgpack.encode([]),
    "gateways": msgspec.msgpack.encode([]),
}
