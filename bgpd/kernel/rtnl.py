"""What bgpd does through pyroute2, which no other module imports: changes of links and addresses, for VRF devices.

Imported when the first of them is needed. Routes, nexthop objects and rules are written and read without pyroute2;
tests compare the results with pyroute2's. See docs/decisions/0005-what-the-daemon-loads.md.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pyroute2 import AsyncIPRoute, NetlinkError
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from bgpd.kernel.netlink import KernelError, MessageFlag, MessageKind
from bgpd.kernel.vrf_requests import VrfDevice
from bgpd.runtime.events import log

Answer = TypeVar("Answer")

_ANSWER_S = 30.0
_IFA_F_PERMANENT = 0x80
_CREATE = MessageFlag.REQUEST | MessageFlag.ACK | MessageFlag.CREATE | MessageFlag.EXCLUSIVE
_DUMP = MessageFlag.REQUEST | MessageFlag.DUMP


class Rtnl:
    """Asks the kernel of one network namespace for changes, one by one, and for the few links and addresses they need.

    It does so in a thread: the kernel lets each request wait while another program deletes many links, and the daemon's
    event loop goes on meanwhile. Changes answer the kernel's refusal, or None. Readings and lost answers raise OSError.
    """

    def start(self) -> None:
        """Start the thread, in the caller's network namespace."""
        self._loop = asyncio.new_event_loop()
        self._sockets: AsyncIPRoute | None = None
        self._thread = threading.Thread(target=self._run, name="rtnl", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and close what it has open."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_forever()
        if self._sockets is not None:
            self._sockets.close()
        self._loop.close()

    # Links.

    async def device(self, name: str) -> VrfDevice | None:
        """The link of this name, None if there is none."""

        async def ask(kernel: AsyncIPRoute) -> VrfDevice | None:
            try:
                (found,) = await kernel.link("get", ifname=name)
            except NetlinkError as error:
                if error.code == errno.ENODEV:
                    return None
                raise OSError(error.code, str(refusal(error))) from error
            return read_device(found)

        return await self._ask(ask)

    async def add_vrf_device(self, name: str, table: int) -> KernelError | None:
        """Create a VRF device that is up."""
        return await self._change(
            lambda kernel: kernel.link("add", ifname=name, kind="vrf", vrf_table=table, state="up")
        )

    async def set_link_up(self, index: int) -> KernelError | None:
        """Set a link up."""
        return await self._change(lambda kernel: kernel.link("set", index=index, state="up"))

    async def set_alias(self, index: int, alias: str) -> KernelError | None:
        """Give a link an alias: a note on whose it is. (The kernel ignores one that comes with the creation.)"""
        return await self._change(lambda kernel: kernel.link("set", index=index, ifalias=alias))

    async def set_master(self, index: int, master: int) -> KernelError | None:
        """Put a link into a VRF device, or out of it (`master` 0). The kernel takes the link down for it."""
        return await self._change(lambda kernel: kernel.link("set", index=index, master=master))

    async def delete_link(self, index: int) -> KernelError | None:
        """Delete a link."""
        return await self._change(lambda kernel: kernel.link("del", index=index))

    # Addresses.

    @asynccontextmanager
    async def addresses_kept(self, index: int) -> AsyncIterator[None]:
        """After the block the link of this index has the permanent IPv6 addresses that it had before.

        Putting an interface into a VRF device takes it down, and by default its IPv6 addresses go, and static
        link-local ones in any case. The setting `keep_addr_on_down` is out of reach of a service that may not write
        kernel settings. Addresses with a lifetime come again by themselves.
        """
        kept = await self._ask(lambda kernel: _permanent_addresses(kernel, index))
        yield
        for address in kept:
            error = await self._change(functools.partial(_add_again, address))
            if error is not None and error.code != errno.EEXIST:
                log.warning("vrf.address_lost", index=index, error=str(error))

    # How it asks.

    async def _change(self, ask: Callable[[AsyncIPRoute], Awaitable[object]]) -> KernelError | None:
        try:
            await self._ask(ask)
        except NetlinkError as error:
            return refusal(error)
        return None

    async def _ask(self, ask: Callable[[AsyncIPRoute], Awaitable[Answer]]) -> Answer:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._answer(ask), self._loop))

    async def _answer(self, ask: Callable[[AsyncIPRoute], Awaitable[Answer]]) -> Answer:
        """Runs in the thread. pyroute2's object is of no use any more after an error of its socket."""
        if self._sockets is None:
            self._sockets = AsyncIPRoute(ext_ack=True, strict_check=True)
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await ask(self._sockets)
        except OSError:
            if self._sockets is not None:
                self._sockets.close()
                self._sockets = None
            raise


def refusal(error: NetlinkError) -> KernelError:
    """pyroute2's error as ours: errno, and the kernel's words if it had any."""
    words = str(error.args[1])
    return KernelError(error.code, "" if words == os.strerror(error.code) else words, b"")


def read_device(found: Any) -> VrfDevice:
    """A link in pyroute2's message, as a VRF device."""
    kind = found.get(("linkinfo", "kind")) or ""
    table = found.get(("linkinfo", "data", "vrf_table")) if kind == "vrf" else 0
    return VrfDevice(found["index"], found.get("ifname") or "", kind, table or 0, found.get("ifalias") or "")


async def _permanent_addresses(kernel: AsyncIPRoute, index: int) -> list[Any]:
    """The permanent IPv6 addresses of a link, as pyroute2's messages. The kernel sends those of the link only."""
    request = ifaddrmsg()
    request["family"], request["index"] = socket.AF_INET6, index
    try:
        found = [one async for one in await kernel.nlm_request(request, MessageKind.GET_ADDRESS, _DUMP)]
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return []
        raise OSError(error.code, str(refusal(error))) from error
    return [one for one in found if one["index"] == index and (one.get("IFA_FLAGS") or 0) & _IFA_F_PERMANENT]


async def _add_again(address: Any, kernel: AsyncIPRoute) -> None:
    """Create an address as a dump showed it."""
    request = ifaddrmsg()
    for name, _format in ifaddrmsg.fields:
        request[name] = address[name]
    request["attrs"] = address["attrs"]
    async for _acknowledgement in await kernel.nlm_request(request, MessageKind.NEW_ADDRESS, _CREATE):
        pass
