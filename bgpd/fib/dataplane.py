"""What all kernel tables of the process share: the two writer threads, the nexthop objects, and what is connected.

Decides when a nexthop object is lost: its link or its place on the link is gone (the kernel destroys such objects
without saying so), somebody deleted it, or the RIB says the neighbor is dead. Never decides what a route should be.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import pathlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

import msgspec

from bgpd.fib.nexthop_objects import NexthopObjects
from bgpd.fib.nexthop_upkeep import NexthopUpkeep
from bgpd.fib.nexthop_values import Loss
from bgpd.fib.protocol import check_protocol
from bgpd.kernel.monitor import KernelMonitor
from bgpd.kernel.netlink import MessageKind
from bgpd.kernel.nexthop_messages import Members, NexthopObject, encode_delete, read_deleted, read_id
from bgpd.kernel.reader import KernelReader
from bgpd.kernel.vrf_requests import VrfRequests
from bgpd.kernel.writer import KernelWriter, Outcome, Writer
from bgpd.model.kernel import KernelEvent, KernelRoute, LinkChanged, RouteChanged, interface_index
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import is_link_local
from bgpd.runtime.events import log
from bgpd.runtime.turns import soon, turns

_COMPAT_MODE = pathlib.Path("/proc/sys/net/ipv4/nexthop_compat_mode")
_SWITCH_INTERVAL_S = 0.0002
"""How long a thread waits for the interpreter while the loop has it: with 1 ms the writer, which gives it back at each
call, lost a fourteenth of the time that a million routes take."""
_BATCHES_AHEAD = 8
_FEW_AHEAD = 2
"""Batches on their way while changes of others may come that are to be written first: these wait for no more."""
_STEP_S = 0.002
"""How long slices are taken before the loop gets its turn."""
_WORTHWHILE = 1024
"""Prefixes that wait: with fewer a batch is small, and what each costs beside its routes counts."""
_GATHER_S = 0.006
"""Longest time that a small batch waits for more, and only while the loop is busy with what may bring more."""
_CHEAP = 16
"""Messages of a failover, a tenth of a millisecond each, that the event loop waits for."""
_PROBE_ID = 0xFFFFFFFF
_EPERM = 1
_UNUSABLE = frozenset((errno.EINVAL, errno.EACCES, errno.EAFNOSUPPORT, errno.ENETUNREACH, errno.EHOSTUNREACH))
"""What the kernel answers to a gateway that is a broadcast address, or its own, or of an interface without IPv6."""


class CannotWrite(Exception):
    """This process may not write kernel routes; the text says what to do."""


class WritingTable(Protocol):
    """A table with routes to write. `swept`: it has deleted what an earlier run left and nobody wants."""

    swept: bool

    @property
    def backlog(self) -> int:
        """Prefixes that wait to be written."""

    @property
    def is_overtaken(self) -> bool:
        """Whether some of what waits has been overtaken by what is to be written first."""

    def write_pending(self) -> bool:
        """Take one slice of what waits and submit what it needs; False if nothing waited."""

    def recheck_dead(self) -> None:
        """Write the routes by other groups that are recorded by groups that are no more."""


class HostEvents(Protocol):
    """Receives the host's events for the routes of one table."""

    def kernel_changed(self, event: KernelEvent) -> None:
        """A link, address or route changed; the dataplane has followed it."""

    def own_route_changed(self, route: KernelRoute, gone: bool) -> None:
        """Somebody else changed or deleted a route of bgpd's."""

    def groups_changed(self) -> None:
        """Nexthop objects vanished though their links are up."""

    def gateways_judged(self) -> None:
        """The kernel has refused gateways that are connected, or takes them now: see NexthopObjects.refusals."""

    def gateways_changed(self) -> None:
        """Routes that the table wrote use other next hops than before."""

    def interfaces_assigned(self, vrfs: AbstractSet[str]) -> None:
        """Interfaces came to one of these VRFs ("" is the main table) or left it."""


class _Attached(msgspec.Struct, eq=False):
    """A table that writes. `nexthops_seen`: the version of the nexthop objects when its events heard of them last."""

    table: WritingTable
    events: HostEvents
    nexthops_seen: int = -1


class Dataplane:
    """The process's way into the kernel. One per network namespace; `Fib` is one per table."""

    def __init__(
        self,
        monitor: KernelMonitor,
        *,
        protocol: int = 217,
        bulk: Writer | None = None,
        urgent: Writer | None = None,
        reader: KernelReader | None = None,
        vrf_requests: VrfRequests | None = None,
    ) -> None:
        self.monitor = monitor
        self.objects = NexthopObjects(protocol)
        self.host = monitor.host
        self.bulk: Writer = bulk or KernelWriter("bulk")
        self.urgent: Writer = urgent or KernelWriter("urgent")
        self.reader = reader or KernelReader()
        self.upkeep = NexthopUpkeep(self.objects, self.reader, self)
        self.vrf_requests = vrf_requests
        self.messages = 0
        self.stopped: dict[int, Callable[[], Iterator[None]]] = {}
        """By kernel table whose routes stay though nobody writes them: stepping, these hold their groups no more."""
        self._tables: dict[WritingTable, _Attached] = {}
        self._due: dict[WritingTable, None] = {}
        self._listeners: list[HostEvents] = []
        self._users = 0
        self._pump_scheduled = False
        self._gathering_since: float | None = None
        self._tried: set[int] = set()
        """Gateways that the kernel has refused already."""

    async def start(self) -> None:
        """Open the sockets and take over the nexthop objects that an earlier run left; once, by the first table.

        Raises: CannotWrite: CAP_NET_ADMIN is missing.
        """
        self._users += 1
        if self._users > 1:
            return
        self._loop = asyncio.get_running_loop()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        ports = []
        for writer in (self.bulk, self.urgent):
            if isinstance(writer, KernelWriter):
                writer.start()
                ports.append(writer.port)
        self.reader.start()
        self.monitor.ignore(ports)
        await self._check_permission()
        _clear_compat_mode()
        check_protocol(self.objects.protocol)
        self.monitor.subscribe(self._kernel_changed, replay=True)
        self.monitor.own_route_changed.append(self._own_route_changed)
        self.monitor.nexthop_changed.append(self._nexthop_changed)
        self.objects.adopt(await self.reader.nexthops(), self.host.name_of)
        self.upkeep.start()

    async def stop(self) -> None:
        """Close the sockets when the last table has stopped; what is queued is written first."""
        self._users -= 1
        if self._users:
            return
        await self.upkeep.stop()
        for writer in (self.bulk, self.urgent):
            if isinstance(writer, KernelWriter):
                await writer.stop()
        self.reader.stop()

    def listen(self, events: HostEvents) -> None:
        """Report from now on what happens on the host."""
        self._listeners.append(events)

    def attach(self, table: WritingTable, events: HostEvents) -> None:
        """Let `table` write when there is room."""
        self._tables[table] = _Attached(table, events)
        self._due[table] = None

    def detach(self, table: WritingTable, events: HostEvents) -> None:
        """Forget a table."""
        self._tables.pop(table, None)
        self._due.pop(table, None)
        self._listeners = [found for found in self._listeners if found is not events]

    @property
    def idle(self) -> bool:
        """Nothing is queued or being written."""
        return not (self.bulk.outstanding or self.urgent.outstanding)

    def pump(self) -> None:
        """Let tables submit batches, in turn, while there is room; for a while, then the loop gets its turn.

        Waits for urgent messages, which batches may build on.
        """
        waiting = deque(self._tables[table] for table in self._due if table in self._tables)
        deadline = self._loop.time() + _STEP_S
        ahead = _FEW_AHEAD if any(writing.table.is_overtaken for writing in waiting) else _BATCHES_AHEAD
        while waiting and self.bulk.outstanding < ahead and not self.urgent.outstanding:
            if self._loop.time() > deadline:
                self.pump_soon()
                break
            writing = waiting[0]
            if not writing.table.write_pending():
                self._due.pop(writing.table, None)
                waiting.popleft()
                continue
            waiting.rotate(-1)
            if writing.nexthops_seen != self.objects.version:
                writing.nexthops_seen = self.objects.version
                writing.events.gateways_changed()
        if len(self._due) > 1:
            first = next(iter(self._due))
            self._due[first] = self._due.pop(first)

    def write_soon(self, table: WritingTable) -> None:
        """The table has something to write; of a thousand tables few have."""
        self._due[table] = None
        self.pump_soon()

    def pump_soon(self) -> None:
        """`pump` in the loop's next turn, so that what is asked for in this one goes together."""
        if not self._pump_scheduled:
            self._pump_scheduled = True
            soon(self._pump_now)

    def _pump_if_due(self) -> None:
        """There is room again: tables that have something left to write go on."""
        if self._due:
            self.pump_soon()

    def _pump_now(self) -> None:
        self._pump_scheduled = False
        if self._more_comes():
            self.pump_soon()
        else:
            self._gathering_since = None
            self.pump()

    def _more_comes(self) -> bool:
        """Whether little waits so far, and other bulk work, such as a neighbor's messages, may soon add to it."""
        if not turns() or sum(table.backlog for table in self._due) >= _WORTHWHILE:
            return False
        if self._gathering_since is None:
            self._gathering_since = self._loop.time()
        return self._loop.time() < self._gathering_since + _GATHER_S

    def submit(self, routes: bytes, count: int, done: Callable[[Outcome], None]) -> None:
        """Queue route messages behind the nexthop objects that they need."""
        created, ids = self.objects.take_created()
        self.messages += count + len(ids)
        self.bulk.submit(created + routes, functools.partial(self._bulk_done, ids, done))

    def lose(self, nexthops: Iterable[int], fallback: Callable[[int], Members | None]) -> Loss:
        """Delete gateways ahead of all that is queued; see NexthopObjects.lose."""
        return self._send(self.objects.lose(nexthops, fallback))

    async def change(self, requests: bytes) -> Outcome:
        """Have the kernel do this behind the routes that are queued, and say which requests it refused."""
        if not self._users:
            return Outcome([], lost="bgpd ends")
        answer: asyncio.Future[Outcome] = self._loop.create_future()

        def done(outcome: Outcome) -> None:
            if not answer.done():
                answer.set_result(outcome)
            self._pump_if_due()

        self.bulk.submit(requests, done)
        return await answer

    def replace_members(self, group: int, members: Members) -> None:
        """Give a bound group other members, ahead of all that is queued; see NexthopObjects.replace_members."""
        self._send(self.objects.replace_members(group, members))

    def _send(self, loss: Loss) -> Loss:
        """New objects go with what needs them: to the writer of batches if that builds on what is queued there."""
        created, ids = self.objects.take_created() if loss.urgent or loss.ordered else (b"", [])
        self.messages += len(ids) + loss.messages
        if loss.ordered:
            self.objects.sent_behind(loss.behind)
            self.bulk.submit(created + loss.ordered, functools.partial(self._ordered_done, ids, loss))
            created, ids = b"", []
        if loss.urgent:
            self.objects.sent_ahead(ids)
            submit = self.urgent.submit_now if self._is_cheap(loss) else self.urgent.submit
            submit(created + loss.urgent, functools.partial(self._urgent_done, ids, sent=loss.urgent))
        return loss

    def _is_cheap(self, loss: Loss) -> bool:
        """A failover by few messages: a thread waits longer for the interpreter than the kernel takes for them. With no
        group go any routes, for which the kernel would walk through its tables.
        """
        if not loss.deletes or loss.messages > _CHEAP:
            return False
        return not loss.died or not (self.bulk.outstanding or any(group in self.objects.dead for group in loss.died))

    def assign(self, vrfs: Mapping[str, str | None]) -> None:
        """Interfaces belong to these VRFs from now on; see Host.assign."""
        concerned: set[str] = set()
        for interface, vrf in vrfs.items():
            before = self.host.vrf_of(interface)
            self.host.assign(interface, vrf)
            after = self.host.vrf_of(interface)
            if before != after:
                concerned |= {before, after}
        for listener in list(self._listeners) if concerned else ():
            listener.interfaces_assigned(concerned)

    def flushed(self, groups: Sequence[int]) -> None:
        """The kernel has deleted the routes by these groups, which are not used again: they go, with what is written by
        them meanwhile.
        """
        if groups:
            self.objects.vanished(groups)
            created, ids = self.objects.take_created()
            self.bulk.submit(created + encode_delete(groups), functools.partial(self._urgent_done, ids))

    def _kernel_changed(self, event: KernelEvent) -> None:
        if self.objects.refusals and not isinstance(event, RouteChanged):
            self.objects.refusals.forget(interface_index(event))
        if isinstance(event, LinkChanged):
            if event.gone or not event.link.up:
                self.lose(self.objects.nexthops_on(event.link.index), lambda _group: None)
            self.upkeep.verify()
        for listener in list(self._listeners):
            listener.kernel_changed(event)

    def _own_route_changed(self, route: KernelRoute, gone: bool) -> None:
        for listener in list(self._listeners):
            listener.own_route_changed(route, gone)

    def _nexthop_changed(self, found: NexthopObject) -> None:
        """Somebody else made, changed or deleted a nexthop object: one of bgpd's, maybe, whose protocol may be another
        now."""
        objects = self.objects
        objects.avoid(found.id)
        if found.protocol == objects.protocol or found.id in objects.nexthops or found.id in objects.groups:
            self.upkeep.verify()

    def _bulk_done(self, ids: list[int], done: Callable[[Outcome], None], outcome: Outcome) -> None:
        self._settle_created(ids, outcome)
        done(outcome)
        self._pump_if_due()

    def _ordered_done(self, ids: list[int], loss: Loss, outcome: Outcome) -> None:
        self.objects.caught_up(loss.behind)
        self._urgent_done(ids, outcome, sent=loss.ordered)

    def _urgent_done(self, ids: list[int], outcome: Outcome, *, sent: bytes = b"") -> None:
        """Whether the kernel has done what was `sent` is not known if its answer was lost: it is deleted once more, and
        compared."""
        self._settle_created(ids, outcome)
        if outcome.lost and sent:
            self.objects.doubt(read_deleted(sent))
            self.upkeep.verify()
        self._pump_if_due()

    def _settle_created(self, ids: list[int], outcome: Outcome) -> None:
        """Mark acknowledged objects; forget refused ones, whose routes then fail and are tried again."""
        refused = dict.fromkeys(ids, outcome.lost) if outcome.lost else {}
        unusable: set[int] = set()
        known = len(self.objects.refusals)
        for error in outcome.errors:
            if error.request[4:6] == _NEW_NEXTHOP:
                refused[read_id(error.request)] = str(error)
                if error.code in _UNUSABLE:
                    unusable.add(read_id(error.request))
                if read_id(error.request) not in self._tried:
                    log.warning("fib.nexthop_refused", id=read_id(error.request), error=str(error))
        self.objects.acknowledged(found for found in ids if found not in refused)
        for identifier, why in refused.items():
            is_unusable = identifier in unusable
            self.objects.refused(identifier, why, may_be_there=bool(outcome.lost), is_unusable=is_unusable)
        self._tried.difference_update(ids)
        if len(self.objects.refusals) > known:
            self._gateways_judged()
        # Routes by what was to change are gone; if an answer was lost, the kernel may take some that are on their way.
        if self.objects.dead and (outcome.lost or not refused.keys() <= set(ids)):
            for table in self._tables:
                table.recheck_dead()

    # What the upkeep of nexthop objects asks for (NexthopWriter).

    @property
    def is_used(self) -> bool:
        """Whether a table is there."""
        return self._users > 0

    @property
    def are_swept(self) -> bool:
        """Whether all tables have deleted what an earlier run left and nobody wants."""
        return all(table.swept for table in self._tables)

    @property
    def is_urgent_done(self) -> bool:
        """Whether the kernel has answered all urgent messages."""
        return not self.urgent.outstanding

    def delete(self, deletions: bytes) -> None:
        """Have objects deleted that are forgotten already, behind all that is queued."""
        self.bulk.submit(deletions, functools.partial(self._urgent_done, [], sent=deletions))

    def repair(self, messages: bytes) -> None:
        """Have objects made as they should be, ahead of all that is queued."""
        self.urgent.submit(messages, functools.partial(self._urgent_done, []))

    def try_gateways(self, places: Iterable[tuple[bytes, int]]) -> None:
        """Have gateways made (address, interface index) without any route."""
        for address, ifindex in places:
            scope = self.host.name_of(ifindex) if is_link_local(address) else ""
            tried = self.objects.nexthop_of(NextHop(address, scope), ifindex)
            self._tried.update(() if tried is None else (tried,))
        self.submit(b"", 0, lambda _outcome: self._gateways_judged())

    def groups_changed(self) -> None:
        """Nexthop objects vanished, or there is room for more."""
        for listener in list(self._listeners):
            listener.groups_changed()

    def _gateways_judged(self) -> None:
        for listener in list(self._listeners):
            listener.gateways_judged()

    async def _check_permission(self) -> None:
        """Ask for something that changes nothing and needs the capability."""
        answer: asyncio.Future[Outcome] = self._loop.create_future()
        self.urgent.submit(encode_delete([_PROBE_ID]), answer.set_result)
        outcome = await answer
        if any(error.code == _EPERM for error in outcome.errors):
            raise CannotWrite(
                "bgpd may not write kernel routes: CAP_NET_ADMIN is missing. Run it as root, or give the service"
                " AmbientCapabilities=CAP_NET_ADMIN as systemd/bgpd.service does"
            )


_NEW_NEXTHOP = int(MessageKind.NEW_NEXTHOP).to_bytes(2, sys.byteorder)


def _clear_compat_mode() -> None:
    """Keep the kernel from notifying every route when a group changes: 350 ms become 0.1 ms with a million routes."""
    try:
        if _COMPAT_MODE.read_text().strip() != "0":
            _COMPAT_MODE.write_text("0\n")
    except OSError as error:
        log.warning(
            "fib.nexthop_compat_mode_not_cleared",
            error=str(error),
            advice="set net.ipv4.nexthop_compat_mode=0 by sysctl.d; until then failover of many routes is slower",
        )
