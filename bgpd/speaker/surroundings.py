"""What all neighbors share: this host, and who is asked or told about each of them. Decides nothing."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

import msgspec

from bgpd.config.schema import RouterConfig
from bgpd.config.schema_sessions import ListenConfig
from bgpd.kernel.host import Host
from bgpd.model.wire import NlriDecoders
from bgpd.runtime.rates import LineBudget
from bgpd.speaker.defects import Defects
from bgpd.speaker.listening import Listening
from bgpd.speaker.peering import Peering
from bgpd.speaker.ports import RouteTaker, SpeakerEvents
from bgpd.speaker.tap import SessionTap
from bgpd.speaker.transport import NewSocket


class PathWatch(Protocol):
    """Who watches the paths to neighbors (bfd.py)."""

    def why_held(self, peering: Peering) -> str:
        """Why the neighbor may not be connected with yet, "" if it may."""


class Unwatched:
    """No path is watched: nothing is waited for."""

    def why_held(self, peering: Peering) -> str:
        return ""


class NameWatch(Protocol):
    """Who looks whether neighbors are those that are expected (hostnames.py)."""

    def session_changed(self, name: str) -> None:
        """A session with the neighbor of this name began or ended."""


class Unnamed:
    """No name is expected."""

    def session_changed(self, name: str) -> None:
        pass


class Surroundings(msgspec.Struct, kw_only=True):
    """What all neighbors share. `restarting`: the daemon was restarted, and this host has forwarded on (RFC 4724).
    `is_starting`: not all neighbors were heard yet since its start."""

    router: RouterConfig
    hostname: str
    host: Host
    routes: RouteTaker
    events: SpeakerEvents
    nlri_decoders: NlriDecoders
    listening: Listening
    defects: Defects
    tasks: asyncio.TaskGroup
    restarting: bool = False
    is_starting: bool = True
    paths: PathWatch = Unwatched()
    names: NameWatch = Unnamed()
    tap: SessionTap | None = None
    lines: dict[str, LineBudget] = {}
    new_socket: NewSocket = socket.socket

    def lines_for(self, peering: Peering) -> LineBudget:
        """The log lines of a neighbor, or of a range: of the neighbors that come and go in it together."""
        config = peering.config
        name = config.prefix if isinstance(config, ListenConfig) else peering.name
        return self.lines.setdefault(name, LineBudget())
