"""A Speaker alone, in a namespace, that records what it hears: no RIB, no kernel routes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from bgpd.config.schema import Config
from bgpd.config.schema_sessions import SessionConfig
from bgpd.kernel.host import Host
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.nlri import RouteTargetNlri
from bgpd.message.open import Negotiated
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, Link
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import format_key, parse_address
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source
from bgpd.model.views.sessions import NeighborView
from bgpd.speaker.speaker import Speaker
from labs.namespace import Namespace
from labs.process import wait_until

T = TypeVar("T")


class Recorder:
    """RouteTaker and SpeakerEvents that keep a table per neighbor."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.negotiated: dict[str, Negotiated] = {}
        self.routes: dict[tuple[str, Family], dict[str, NextHop | None]] = {}
        self.attributes: dict[tuple[str, str], Attributes | None] = {}
        self.overlays: dict[tuple[str, bytes], tuple[NextHop | None, Overlay | None, Attributes | None]] = {}
        self.not_forwarding: list[str] = []
        self.ended: list[Family] = []
        self.closed: list[str] = []
        self.failed: list[str] = []
        self.established = 0
        self.drained = 0
        self.batches = 0
        self.refreshes: list[tuple[str, Family]] = []

    def session_established(self, source: Source, negotiated: Negotiated, config: SessionConfig) -> None:
        self.established += 1
        self.sources[source.name] = source
        self.negotiated[source.name] = negotiated

    def session_adopted(self, source: Source, negotiated: Negotiated, config: SessionConfig) -> None:
        self.sources[source.name] = source
        self.negotiated[source.name] = negotiated

    def session_closed(self, source: Source, reason: str, *, is_graceful: bool = False) -> None:
        self.closed.append(reason)
        self.sources.pop(source.name, None)
        for family in Family:
            self.routes.pop((source.name, family), None)

    def path_failed(self, source: Source) -> None:
        self.failed.append(source.name)

    def routes_received(self, source: Source, batches: Sequence[RouteBatch]) -> None:
        for batch in batches:
            self._take(source, batch)

    def _take(self, source: Source, batch: RouteBatch) -> None:
        self.batches += 1
        if batch.family is Family.L2VPN_EVPN:
            for key in batch.withdrawn:
                self.overlays.pop((source.name, key), None)
            for key in batch.announced:
                self.overlays[source.name, key] = (batch.next_hop, batch.overlay, batch.attributes)
            return
        table = self.routes.setdefault((source.name, batch.family), {})
        for key in batch.withdrawn:
            table.pop(format_key(batch.family, key), None)
        for key in batch.announced:
            table[format_key(batch.family, key)] = batch.next_hop
            self.attributes[source.name, format_key(batch.family, key)] = batch.attributes

    is_complete = True

    def must_wait(self, source: Source) -> bool:
        return False

    def room_came(self, source: Source) -> None:
        self.drained += 1

    def all_end(self) -> None: ...

    def keeps_routes(self, name: str) -> bool:
        return False

    def forwarding_lost(self, name: str, reason: str) -> None:
        self.not_forwarding.append(reason)

    def updates_read(self, source: Source, bodies: Sequence[bytes], batches: Sequence[RouteBatch]) -> None:
        pass

    def end_of_rib_received(self, source: Source, family: Family) -> None:
        self.ended.append(family)

    def refresh_requested(self, source: Source, family: Family) -> None:
        self.refreshes.append(("requested", family))

    def refresh_began(self, source: Source, family: Family) -> None:
        self.refreshes.append(("began", family))

    def refresh_ended(self, source: Source, family: Family) -> None:
        self.refreshes.append(("ended", family))


class RecordingSpeaker:
    """Runs a Speaker in a thread inside the namespace. A context manager; leaving it cancels `run`."""

    def __init__(self, namespace: Namespace, config: dict[str, Any], **options: Any) -> None:
        self.namespace = namespace
        self.recorder = Recorder()
        router = {"asn": 65203, "router_id": "10.255.1.1", "hostname": "host1"}
        self.config = msgspec.convert({"router": router, **config}, Config)
        decoders = {Family.L2VPN_EVPN: EvpnNlri(), Family.ROUTE_TARGET: RouteTargetNlri()}
        self.host = Host(lambda event: self.speaker.kernel_changed(event))
        self.speaker = Speaker(
            self.config.speaker,
            host=self.host,
            routes=self.recorder,
            events=self.recorder,
            nlri_decoders=decoders,
            **options,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> RecordingSpeaker:
        self.host.replace(*snapshot(self.namespace))
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    def _run(self) -> None:
        with self.namespace.entered():
            self._task = self._loop.create_task(self.speaker.run())
            try:
                self._loop.run_until_complete(self._task)
            except asyncio.CancelledError:
                pass
            finally:
                self._loop.close()

    def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a method of the speaker in its loop."""

        async def run() -> T:
            result = function(*arguments, **options)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(15)

    def kernel(self) -> None:
        """Tell the speaker what the kernel has now."""
        self.call(self.host.replace, *snapshot(self.namespace))

    def view(self, name: str) -> NeighborView | None:
        views = self.call(self.speaker.neighbor_views)
        return next((view for view in views if view.name == name), None)

    def wait_established(self, *names: str, timeout_s: float = 20.0) -> float:
        """Wait until sessions are established; the seconds that took."""
        return wait_until(
            lambda: all(self._is_established(name) for name in names), timeout_s, f"{names} to be established"
        )

    def _is_established(self, name: str) -> bool:
        view = self.view(name)
        return view is not None and view.state == "established"

    def wait_error(self, name: str, text: str, timeout_s: float = 15.0) -> NeighborView:
        """Wait until a neighbor's last error holds a text."""
        wait_until(lambda: text in self._error(name), timeout_s, f"last_error with {text!r}, not {self._error(name)!r}")
        view = self.view(name)
        assert view is not None
        return view

    def _error(self, name: str) -> str:
        view = self.view(name)
        return view.last_error if view else ""

    def prefixes(self, name: str, family: Family = Family.IPV4_UNICAST) -> dict[str, NextHop | None]:
        return dict(self.recorder.routes.get((name, family), {}))

    def wait_prefixes(self, name: str, family: Family, *prefixes: str, timeout_s: float = 15.0) -> None:
        wait_until(
            lambda: set(prefixes) <= set(self.prefixes(name, family)),
            timeout_s,
            f"{prefixes} of {name}",
        )


def snapshot(namespace: Namespace) -> tuple[list[Link], list[Address]]:
    """Links and addresses of a namespace."""
    links, addresses = [], []
    for entry in json.loads(namespace.ip("-j", "addr", "show")):
        mac = bytes.fromhex(entry.get("address", "").replace(":", ""))
        up = "LOWER_UP" in entry["flags"] and "UP" in entry["flags"]
        links.append(Link(index=entry["ifindex"], name=entry["ifname"], up=up, mac=mac))
        addresses += [
            Address(
                index=entry["ifindex"],
                packed=parse_address(address["local"]),
                prefix_length=address["prefixlen"],
                usable=not address.get("tentative", False),
            )
            for address in entry["addr_info"]
        ]
    return links, addresses
