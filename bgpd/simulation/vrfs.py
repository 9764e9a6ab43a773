"""VRFs as Linux has them: devices with their links, or policy rules; which table a packet is looked up in."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from bgpd.kernel.link_messages import read_rules
from bgpd.kernel.netlink import KernelError, MessageKind
from bgpd.kernel.vrf_requests import VrfDevice
from bgpd.model.iana import Family
from bgpd.model.kernel import Link, RoutingRule

if TYPE_CHECKING:
    from bgpd.simulation.kernel import Kernel

MAIN = 254
_BY_KERNEL = 2
_RULE_PRIORITY = 1000
_FIRST_DEVICE = 1000
_FAMILIES = {2: Family.IPV4_UNICAST, 10: Family.IPV6_UNICAST}


class Vrfs:
    """Those of one kernel. `rules`: of both families. `has_devices`: it can make VRF devices."""

    def __init__(self, kernel: Kernel) -> None:
        self.rules: set[RoutingRule] = set()
        self.has_devices = True
        self.tables: dict[int, int] = {}
        self.aliases: dict[int, str] = {}
        self._kernel = kernel

    def table_of(self, index: int) -> int:
        """Where what comes in by a link is looked up."""
        link = self._kernel.links[index]
        device = self._device(link.vrf)
        if device is not None:
            return self.tables[device.index]
        return next((rule.table for rule in self.rules if rule.iif == link.name), MAIN)

    def device_of(self, index: int) -> int:
        """The index of the VRF device that a link is in; 0: of none."""
        link = self._kernel.links.get(index)
        device = self._device(link.vrf) if link is not None and link.vrf else None
        return device.index if device is not None else 0

    def forget_all(self) -> None:
        """The host is started anew: links are in no VRF."""
        self.rules.clear()
        for index in self.tables:
            del self._kernel.links[index]
        self.tables.clear()
        self.aliases.clear()
        for link in list(self._kernel.links.values()):
            self._kernel.links[link.index] = msgspec.structs.replace(link, vrf="")

    def change_rule(self, kind: MessageKind, request: bytes) -> int:
        """A request for a policy rule."""
        as_new = request[:4] + int(MessageKind.NEW_RULE).to_bytes(2, "little") + request[6:]
        (rule,) = read_rules(_FAMILIES[request[16]], as_new)
        if (rule in self.rules) is (kind == MessageKind.NEW_RULE):
            return errno.EEXIST if rule in self.rules else errno.ENOENT
        self.rules ^= {rule}
        return 0

    def _device(self, name: str) -> Link | None:
        return next((one for one in self._kernel.links.values() if one.name == name and one.kind == "vrf"), None)

    # What is asked (VrfRequests); each takes its time

    def stop(self) -> None:
        """Nothing more is asked."""

    async def _pause(self) -> None:
        await asyncio.sleep(self._kernel.lateness())

    async def device(self, name: str) -> VrfDevice | None:
        await self._pause()
        link = next((one for one in self._kernel.links.values() if one.name == name), None)
        if link is None:
            return None
        return VrfDevice(link.index, name, link.kind, self.tables.get(link.index, 0), self.aliases.get(link.index, ""))

    async def add_vrf_device(self, name: str, table: int) -> KernelError | None:
        await self._pause()
        if not self.has_devices:
            return KernelError(errno.EOPNOTSUPP, "Unknown device type", b"")
        if any(one.name == name for one in self._kernel.links.values()):
            return KernelError(errno.EEXIST, "", b"")
        index = max((_FIRST_DEVICE, *self.tables)) + 1
        self.tables[index] = table
        self.rules |= {
            RoutingRule(family=family, priority=_RULE_PRIORITY, protocol=_BY_KERNEL, l3mdev=True)
            for family in _FAMILIES.values()
        }
        self._kernel.change_link(Link(index=index, name=name, up=True, kind="vrf"))
        return None

    async def set_link_up(self, index: int) -> KernelError | None:
        await self._pause()
        return None if index in self._kernel.links else KernelError(errno.ENODEV, "", b"")

    async def set_alias(self, index: int, alias: str) -> KernelError | None:
        await self._pause()
        self.aliases[index] = alias
        return None

    async def set_master(self, index: int, master: int) -> KernelError | None:
        await self._pause()
        if index not in self._kernel.links or (master and master not in self.tables):
            return KernelError(errno.ENODEV, "", b"")
        self._move(index, master)
        return None

    def _move(self, index: int, master: int) -> None:
        """The link goes down for it, and what led there goes."""
        kernel, link = self._kernel, self._kernel.links[index]
        device = self._device(link.vrf)
        before = self.tables[device.index] if device is not None else MAIN
        name = kernel.links[master].name if master else ""
        kernel.change_link(msgspec.structs.replace(link, up=False))
        kernel.change_link(msgspec.structs.replace(link, vrf=name))
        kernel.move_connected(index, before, self.tables.get(master, MAIN))

    async def delete_link(self, index: int) -> KernelError | None:
        await self._pause()
        if index not in self.tables:
            return KernelError(errno.ENODEV, "", b"")
        name = self._kernel.links[index].name
        for link in [one for one in self._kernel.links.values() if one.vrf == name]:
            self._move(link.index, 0)
        del self.tables[index]
        self.aliases.pop(index, None)
        self._kernel.remove_link(index)
        return None

    @asynccontextmanager
    async def addresses_kept(self, _index: int) -> AsyncIterator[None]:
        """All addresses here stay when a link goes down."""
        yield
