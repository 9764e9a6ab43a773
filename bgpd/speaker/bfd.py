"""BFD of the neighbors (RFC 5882): which sessions are wanted, and what their states mean for BGP.

The sessions themselves are those of a process of its own (bgpd/bfd/), which goes on while the daemon is away. A session
that was Up and fails ends the neighbor's BGP session; one that was never Up does not, nor one that a side has taken
AdminDown (RFC 5882 section 3.2), nor a BFD process that is away. With `strict`, BGP waits for BFD. Never looks at a
packet.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from bgpd.bfd.control import BadLine, Desired, Key, Report, read_report
from bgpd.bfd.packet import Diagnostic, State
from bgpd.config.schema_sessions import BfdConfig, ListenConfig
from bgpd.config.sections import range_of
from bgpd.kernel.host import Host
from bgpd.model.prefix import covers, format_address, host_key, is_link_local
from bgpd.model.views.sessions import BfdView
from bgpd.runtime.events import log
from bgpd.speaker.bfd_channel import BfdChannel
from bgpd.speaker.neighbor import Neighbor
from bgpd.speaker.neighbors import Neighbors
from bgpd.speaker.peering import Peering
from bgpd.speaker.surroundings import Surroundings

ADOPT_S = 180.0
"""For so long after the daemon's start, sessions of dynamic and unnumbered neighbors that have not come back go on:
longer than any usual restart time."""
_MS = 1000
ROUTED = "the neighbor is not directly connected, and BFD is for one hop (RFC 5881)"
_REASONS = {
    Diagnostic.DETECTION_TIME_EXPIRED: "no BFD packet of the neighbor came for {detection_ms} ms",
    Diagnostic.NEIGHBOR_SIGNALED_DOWN: "the neighbor has signaled BFD Down",
}


class Bfd:
    """BFD of all neighbors. `follow` is called every second, and at once where the configuration changes.

    `ranges` are the [[listen]] sections.
    """

    def __init__(
        self, neighbors: Neighbors, around: Surroundings, ranges: tuple[ListenConfig, ...], *, socket_path: str
    ) -> None:
        self.ranges = ranges
        self._neighbors = neighbors
        self._around = around
        self._channel = BfdChannel(socket_path, self)
        self._reports: dict[Key, Report] = {}
        self._keys: dict[str, Key] = {}
        self._names: dict[Key, str] = {}
        self._born = time.monotonic()

    @property
    def problem(self) -> str:
        """Why BFD does not work, "" if it does or nobody wants it."""
        return self._channel.problem if self._keys or self._wanted_by_config() else ""

    @property
    def discarded(self) -> Mapping[str, int]:
        """Packets that reached the BFD process and were not used, by cause."""
        return self._channel.discarded

    async def run(self) -> None:
        """Keep in touch with the BFD process, until cancelled. Its sessions do not end with the daemon's."""
        await self._channel.run()

    # From one process to the next

    @property
    def saved(self) -> list[str]:
        """What the BFD process has said of its sessions, for `remember`."""
        return [report.line() for report in self._reports.values()]

    def remember(self, lines: Iterable[str]) -> None:
        """Another process has heard this: a session that was Up then, and is not now, has failed in between."""
        for line in lines:
            with contextlib.suppress(BadLine):
                report = read_report(line.partition(" ")[2])
                self._reports[report.key] = report

    # What is wanted

    def follow(self) -> None:
        """Want a session for each neighbor that has BFD and whose addresses are known; nothing once all have ended."""
        if self._neighbors.stopped:
            return
        all_desired: dict[Key, Desired] = {}
        self._keys.clear()
        self._names.clear()
        for neighbor in self._with_bfd():
            desired = self._desired(neighbor)
            if desired is not None:
                all_desired[desired.key] = desired
                self._keys[neighbor.peering.name], self._names[desired.key] = desired.key, neighbor.peering.name
        if all_desired or self._wanted_by_config():
            self._channel.need()
        if self._channel.is_connected:
            self._channel.say({**self._adopted(all_desired), **all_desired})

    def _with_bfd(self) -> Iterator[Neighbor]:
        return (neighbor for neighbor in self._neighbors if neighbor.peering.config.bfd is not None)

    def _wanted_by_config(self) -> bool:
        return any(True for _ in self._with_bfd()) or any(one.bfd is not None for one in self.ranges)

    def _desired(self, neighbor: Neighbor) -> Desired | None:
        """The session of a neighbor; None while an address of it is not known, or if it is more than one hop away."""
        peering, config = neighbor.peering, neighbor.peering.config.bfd
        interface = neighbor.path
        if config is None or not peering.address or not interface:
            return None
        local = neighbor.exchange.local if neighbor.exchange is not None else b""
        local = local or peering.source or self._former_local(peering.address, interface)
        local = local or _local_address(self._around.host, peering.address, interface)
        if not local:
            return None
        return _as_desired(local, peering.address, interface, config)

    def _former_local(self, peer: bytes, interface: str) -> bytes:
        """The local address of a session that runs already: it is not touched because the daemon began anew."""
        hint = next((key for key in self._reports if key[1:] == (peer, interface)), None)
        if hint is None or not self._around.host.has_address(hint[0], vrf=self._around.host.vrf_of(interface)):
            return b""
        return hint[0]

    def _adopted(self, all_desired: Mapping[Key, Desired]) -> dict[Key, Desired]:
        """Sessions of before a restart whose neighbors have not come back yet."""
        if time.monotonic() - self._born > ADOPT_S:
            return {}
        known = {key[1:] for key in all_desired}
        found: dict[Key, Desired] = {}
        for key, report in self._reports.items():
            if report.state == State.ADMIN_DOWN or key[1:] in known:
                continue
            config = self._config_of_absent(key)
            if config is not None:
                found[key] = _as_desired(*key, config)
        return found

    def _config_of_absent(self, key: Key) -> BfdConfig | None:
        """The BFD of a neighbor that is not there now but may come: a dynamic one, or one whose address is learned."""
        _, peer, interface = key
        for neighbor in self._with_bfd():
            if neighbor.peering.is_unnumbered and neighbor.peering.interface == interface:
                return None if neighbor.peering.address else neighbor.peering.config.bfd
        listen = range_of(self.ranges, peer, self._around.host.vrf_of(interface))
        return listen.bfd if listen is not None else None

    # What the process says (ReportTaker)

    def connected(self, reports: Mapping[Key, Report]) -> None:
        former, self._reports = self._reports, dict(reports)
        self.follow()
        for key, report in reports.items():
            self._judge(former.get(key), report)

    def reported(self, report: Report) -> None:
        former = self._reports.get(report.key)
        self._reports[report.key] = report
        self._judge(former, report)

    def removed(self, key: Key) -> None:
        self._reports.pop(key, None)

    def _judge(self, former: Report | None, report: Report) -> None:
        """What a report means for the neighbor, compared with the last one of the same session."""
        neighbor = self._neighbors.named(self._names.get(report.key, ""))
        if neighbor is None:
            return
        is_same = former is not None and former.discriminator == report.discriminator
        state = State(report.state)
        if former is not None and is_same and report.downs > former.downs and state is not State.UP:
            self._lost(neighbor, former, report)
        elif state is State.UP and not (former is not None and is_same and former.state == State.UP):
            self._log(neighbor, log.info, "bfd.up", detection_time_ms=report.detection_time_us // _MS)
        if may_pass(report) and not (former is not None and may_pass(former)):
            config = neighbor.peering.config.bfd
            if config is not None and config.strict:
                neighbor.connect_now()

    def _lost(self, neighbor: Neighbor, former: Report, report: Report) -> None:
        """It was Up."""
        if State.ADMIN_DOWN in (report.state, report.remote_state):
            self._log(neighbor, log.info, "bfd.admin_down", by="neighbor" if report.state else "this host")
            return
        text = _REASONS.get(Diagnostic(report.diagnostic), "BFD is down")
        reason = text.format(detection_ms=former.detection_time_us // _MS)
        neighbor.path_failed(reason, is_independent=bool(former.independent))
        self._log(neighbor, log.warning, "bfd.down", reason=reason)

    def _log(self, neighbor: Neighbor, line: Callable[..., object], event: str, **fields: object) -> None:
        lines = self._around.lines_for(neighbor.peering)
        lines.write(line, event, now=time.monotonic(), neighbor=neighbor.peering.name, **fields)

    # What others ask

    def why_held(self, peering: Peering) -> str:
        """Why a neighbor with `strict` may not be connected with yet, "" if it may."""
        config = peering.config.bfd
        if config is None or not config.strict:
            return ""
        if not self._channel.is_connected:
            return f"waits for BFD (strict): {self._channel.problem or 'bgpd-bfd is being connected with'}"
        report = self._report_of(peering.name)
        if report is None:
            return f"waits for BFD (strict): {ROUTED if not self._keys.get(peering.name) else 'its session begins'}"
        if may_pass(report):
            return ""
        return f"waits for BFD (strict): it is {State(report.state).word}"

    def state_of(self, peering: Peering) -> str:
        """The state of a neighbor's BFD: "up", "down", "init", "admin-down"; "unknown" if nothing is known of it; "" if
        it has none."""
        if peering.config.bfd is None:
            return ""
        report = self._report_of(peering.name)
        return State(report.state).word if report is not None else "unknown"

    def _report_of(self, name: str) -> Report | None:
        key = self._keys.get(name)
        return self._reports.get(key) if key is not None and self._channel.is_connected else None

    def views(self) -> list[BfdView]:
        """All neighbors that have BFD, by name."""
        return [self._view(one) for one in sorted(self._with_bfd(), key=lambda one: one.peering.name)]

    def _view(self, neighbor: Neighbor) -> BfdView:
        peering = neighbor.peering
        config = peering.config.bfd or BfdConfig()
        interface = neighbor.path
        view = BfdView(
            neighbor=peering.name,
            address=format_address(peering.address) if peering.address else "",
            interface=interface,
            state=self.state_of(peering),
            strict=config.strict,
            interval_ms=config.interval_ms,
            multiplier=config.multiplier,
        )
        report = self._report_of(peering.name)
        if report is None:
            view.problem = self._channel.problem or self._why_none(peering, interface)
        else:
            _fill(view, report)
        return view

    def _why_none(self, peering: Peering, interface: str) -> str:
        if not peering.address:
            return "the neighbor's address is not known yet"
        if not interface:
            return ROUTED
        return "" if peering.name in self._keys else f"{interface} has no address to speak from"


def may_pass(report: Report) -> bool:
    """Whether BGP may begin: BFD is Up, or the neighbor does not want it now (RFC 5882 section 3.2)."""
    return report.state == State.UP or report.remote_state == State.ADMIN_DOWN


def _as_desired(local: bytes, peer: bytes, interface: str, config: BfdConfig) -> Desired:
    return Desired(
        local=local,
        peer=peer,
        interface=interface,
        interval_us=config.interval_ms * _MS,
        multiplier=config.multiplier,
    )


def _local_address(host: Host, peer: bytes, interface: str) -> bytes:
    """The address of an interface that BGP will most likely speak from: link-local, or in the neighbor's network."""
    wanted = host_key(peer)
    for own in host.addresses(interface):
        if len(own.packed) != len(peer) or own.packed == peer:
            continue
        if is_link_local(own.packed) if is_link_local(peer) else covers(own.network, wanted):
            return own.packed
    return b""


def _fill(view: BfdView, report: Report) -> None:
    view.local_address = format_address(report.key[0])
    view.since = report.since
    view.diagnostic = _words(report.diagnostic)
    view.remote_state = State(report.remote_state).word
    view.remote_diagnostic = _words(report.remote_diagnostic)
    view.discriminator, view.remote_discriminator = report.discriminator, report.remote_discriminator
    view.transmit_interval_ms = report.transmit_interval_us / _MS
    view.detection_time_ms = report.detection_time_us / _MS
    view.remote_transmit_interval_ms = report.remote_min_tx_us / _MS
    view.remote_receive_interval_ms = report.remote_min_rx_us / _MS
    view.remote_multiplier = report.remote_multiplier
    view.remote_independent = bool(report.independent)
    view.ups, view.downs = report.ups, report.downs
    view.packets_sent, view.packets_received = report.sent, report.received
    view.source_port = report.source_port
    view.problem = report.problem


def _words(diagnostic: int) -> str:
    """A diagnostic code in words, "" for none."""
    try:
        found = Diagnostic(diagnostic)
    except ValueError:
        return f"diagnostic {diagnostic}"
    return found.name.lower().replace("_", " ") if found else ""
