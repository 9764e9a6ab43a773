"""The VRF devices of the kernel: which there are, and that one is made, has its interfaces, and goes again.

One that bgpd made bears an alias, by which a later run knows it. A device that existed before is used and left. What a
VRF needs where the kernel has no such devices is in vrf_rules.py; vrfs.py says what is wanted.
"""

from __future__ import annotations

import asyncio
import errno
import importlib

from bgpd.kernel.host import Host
from bgpd.kernel.netlink import KernelError
from bgpd.kernel.vrf_requests import VrfDevice, VrfRequests
from bgpd.model.kernel import Link
from bgpd.runtime.events import log

_ALIAS = "bgpd: VRF "


class VrfRefused(Exception):
    """A VRF cannot be in the kernel as configured; the text says why, and what to do."""


def is_made_by_bgpd(device: VrfDevice | None) -> bool:
    """Whether there is one, and this or an earlier run made it."""
    return device is not None and device.alias.startswith(_ALIAS)


class VrfDevices:
    """The VRF devices of a host. What the kernel refuses is answered; all of it raises OSError if it does not answer.

    `requests`: who asks the kernel, None for rtnl.py. `are_possible`: False once the kernel has said that it has no
    such devices.
    """

    def __init__(self, host: Host, requests: VrfRequests | None = None, *, are_possible: bool = True) -> None:
        self.are_possible = are_possible
        self._host = host
        self._rtnl = requests
        self._tables: dict[int, int] = {}

    def stop(self) -> None:
        """Ask for nothing any more; all devices stay."""
        if self._rtnl is not None:
            self._rtnl.stop()

    async def named(self, name: str) -> VrfDevice | None:
        """The interface of this name, of whatever kind, if there is one."""
        return await (await self._opened()).device(name)

    async def of_table(self, table: int) -> VrfDevice | None:
        """The device that has a table, if any; a device's table never changes, so each is asked for it once."""
        for link in self._links():
            if self._tables.get(link.index, table) != table:
                continue
            device = await self.named(link.name)
            if device is not None:
                self._tables[device.index] = device.table
                if device.table == table:
                    return device
        return None

    async def made_by_bgpd(self) -> list[VrfDevice]:
        """All that bgpd has made, in this run or an earlier one."""
        found = [await self.named(link.name) for link in self._links()]
        return [device for device in found if device is not None and is_made_by_bgpd(device)]

    def forget_tables(self, index: int | None = None) -> None:
        """The device of this index, or any, may be another one now."""
        if index is None:
            self._tables.clear()
        else:
            self._tables.pop(index, None)

    async def make(self, name: str, table: int) -> tuple[VrfDevice | None, KernelError | None]:
        """A new device of this name, and what the kernel has against its alias; no device: it has none of this kind.

        Raises: VrfRefused: it makes none of that name.
        """
        error = await (await self._opened()).add_vrf_device(name, table)
        if error is not None and error.code == errno.EOPNOTSUPP:
            self.are_possible = False
            log.info("vrf.using_policy_rules", reason="the kernel has no VRF devices", error=str(error))
            return None, None
        if error is not None and error.code != errno.EEXIST:
            raise VrfRefused(f"VRF {name}: the kernel made no VRF device of that name: {error}")
        device = await self.named(name)
        if device is None:
            raise OSError(errno.ENODEV, f"the VRF device {name} was deleted as soon as it was made")
        refused = await (await self._opened()).set_alias(device.index, _ALIAS + name)
        log.info("vrf.device_created", vrf=name, table=table)
        return device, refused

    async def set_up(self, device: VrfDevice) -> KernelError | None:
        """Set a device up."""
        return await (await self._opened()).set_link_up(device.index)

    async def move(self, link: Link, master: int) -> KernelError | None:
        """Put a link into the device of this index, or out of it (0); the kernel takes the link down for it."""
        rtnl = await self._opened()
        async with rtnl.addresses_kept(link.index):
            return await rtnl.set_master(link.index, master)

    async def delete(self, device: VrfDevice) -> KernelError | None:
        """Delete one that bgpd made; another is left. What has gone already is no refusal."""
        if not is_made_by_bgpd(device):
            return None
        error = await (await self._opened()).delete_link(device.index)
        return None if error is None or error.code == errno.ENODEV else error

    def _links(self) -> list[Link]:
        return [link for link in self._host.links.values() if link.kind == "vrf"]

    async def _opened(self) -> VrfRequests:
        """Who asks the kernel: loaded when it is needed first, since a host without VRFs does without pyroute2, which
        takes 7 MB. Its import takes a tenth of a second, in a thread."""
        if self._rtnl is None:
            try:
                module = await asyncio.to_thread(importlib.import_module, "bgpd.kernel.rtnl")
            except Exception as error:
                why = f"what VRF devices need cannot be loaded ({error}): restart bgpd if it was upgraded"
                raise OSError(errno.ENOPKG, why) from error
            if self._rtnl is None:
                rtnl = module.Rtnl()
                rtnl.start()
                self._rtnl = rtnl
        return self._rtnl
