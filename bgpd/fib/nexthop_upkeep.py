"""Keeps the kernel's nexthop objects as they are known: compares them, deletes those that no route uses, and has
gateways tried again that the kernel has refused.

Decides when; which objects there are, and which members a group has, nexthop_objects.py knows, and dataplane.py makes
and changes them for routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Protocol

from bgpd.fib.nexthop_objects import NexthopObjects
from bgpd.kernel.nexthop_messages import NexthopObject, encode_delete
from bgpd.kernel.reader import KernelReader
from bgpd.runtime.background import start_in_background
from bgpd.runtime.events import log

_UNUSED_GRACE_S = 10.0
_COLLECT_PAUSE_S = 0.25
_VERIFY_PAUSE_S = 0.02
_UNREAD_PAUSE_S = 0.5


class NexthopWriter(Protocol):
    """The dataplane: who has objects deleted and repaired, and knows the tables whose routes use them."""

    @property
    def is_used(self) -> bool:
        """Whether a table is there; none is left at the end."""

    @property
    def are_swept(self) -> bool:
        """Whether all tables have deleted what an earlier run left and nobody wants."""

    @property
    def is_urgent_done(self) -> bool:
        """Whether the kernel has answered all urgent messages."""

    def delete(self, deletions: bytes) -> None:
        """Have objects deleted that are forgotten already, behind all that is queued."""

    def repair(self, messages: bytes) -> None:
        """Have objects made as they should be, ahead of all that is queued."""

    def try_gateways(self, places: Iterable[tuple[bytes, int]]) -> None:
        """Have gateways made (address, interface index) without any route."""

    def groups_changed(self) -> None:
        """Objects vanished, or there is room for more."""


class NexthopUpkeep:
    """`unread`: kernel tables that could not be read. Any group of an earlier run may have routes there: none goes."""

    def __init__(self, objects: NexthopObjects, reader: KernelReader, writer: NexthopWriter) -> None:
        self.unread: set[int] = set()
        self._objects = objects
        self._reader = reader
        self._writer = writer
        self._verifying: asyncio.Task[None] | None = None
        self._verify_again = False
        self._collector: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look for unused objects from now on. Call in the event loop."""
        self._collector = asyncio.get_running_loop().call_later(_UNUSED_GRACE_S, self.collect_unused)

    async def stop(self) -> None:
        """Stop; a comparison that goes on is waited for."""
        if self._collector is not None:
            self._collector.cancel()
        if self._verifying is not None:
            await asyncio.gather(self._verifying, return_exceptions=True)

    def verify(self) -> None:
        """Compare the kernel's nexthop objects with ours, soon; repeated calls are merged."""
        self._verify_again = True
        if self._verifying is None or self._verifying.done():
            self._verifying = start_in_background(self._verify(), "comparing nexthop objects")

    async def _verify(self) -> None:
        """Compare until neither the dump nor what it is compared with changed under the other.

        Who asks while a dump is under way may mean what it no longer shows, and is answered by another one.
        """
        while self._verify_again and self._writer.is_used:
            self._verify_again = False
            version = self._objects.version
            settled = self._writer.is_urgent_done and not self._objects.unacknowledged()
            known = self._objects.present_ids()
            try:
                objects = await self._reader.nexthops()
                lacks_some = await self._lacks_some(objects, known)
            except OSError as error:
                log.warning("fib.nexthops_not_read", error=str(error))
                self._verify_again = True
                await asyncio.sleep(_UNREAD_PAUSE_S)
                continue
            if version != self._objects.version or not settled or lacks_some:
                self._verify_again = True
                await asyncio.sleep(_VERIFY_PAUSE_S)
                continue
            missing, repairs = self._objects.compare(objects, known)
            if repairs:
                self._writer.repair(repairs)
            if missing:
                log.warning("fib.nexthops_vanished", count=len(missing))
                self._objects.vanished(missing)
                self._writer.groups_changed()

    async def _lacks_some(self, objects: Iterable[NexthopObject], known: AbstractSet[int]) -> bool:
        """Whether a dump lacks objects that the kernel has: what it does not show is asked for by id."""
        absent = known - {found.id for found in objects}
        return bool(absent) and len(await self._reader.nexthops_gone(absent)) != len(absent)

    @property
    def _are_all_known(self) -> bool:
        """Whether all routes by our groups are counted that are to stay."""
        return not self.unread and self._writer.are_swept

    def delete_leftovers(self) -> None:
        """Delete groups of an earlier run that this one could not adopt, once no table has a wanted route on them."""
        if self._objects.leftovers and self._are_all_known:
            leftovers, self._objects.leftovers = self._objects.leftovers, []
            self._writer.delete(encode_delete(leftovers))

    def collect_unused(self) -> None:
        """Delete groups that no route uses, and have those tried again for which there was no room.

        Not before the sweep: until then routes of an earlier metric, which are not counted, go by these groups.
        """
        objects, loop = self._objects, asyncio.get_running_loop()
        pause_s = _UNUSED_GRACE_S
        if self._are_all_known:
            unused, are_more = objects.collect_unused(loop.time(), _UNUSED_GRACE_S)
            if unused:
                self._writer.delete(unused)
            if are_more:
                pause_s = min(pause_s, _COLLECT_PAUSE_S)
        if objects.refusals:  # the kernel's reason may be gone without a word
            self._writer.try_gateways(objects.refusals.to_try())
        if objects.room.came(len(objects.groups)):
            self._writer.groups_changed()
        self._collector = loop.call_later(pause_s, self.collect_unused)

    def delete_unused(self) -> bool:
        """Delete what no route uses without waiting, some at a time; whether there may be more."""
        unused, _ = self._objects.collect_unused(asyncio.get_running_loop().time(), 0.0)
        if unused:
            self._writer.delete(unused)
        return bool(self._objects.groups or self._objects.nexthops)
